"""Images that a viewer uploads for a while instead of adding them to the studies."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from monailabel.utils.sessions import Sessions

from clinbundles.hosts.label.request_names import plain_session


class UploadedSessions(Sessions):
    """MONAI Label's sessions; ids cannot lead out of their folder, and neither can the names inside an archive."""

    def get_session(self, session_id: str, update_ts: bool = True, fetch_cache: bool = True) -> Any:
        """What is known of a session, None if there is none."""
        return super().get_session(plain_session(session_id), update_ts, fetch_cache)

    def remove_session(self, session_id: str) -> None:
        """Delete a session's files."""
        super().remove_session(plain_session(session_id))

    def add_session(
        self, data_file: str, expiry: int = 0, uncompress: bool = False, session_id: str | None = None
    ) -> tuple[str, Any]:
        """Take in a file, a folder, or with ``uncompress`` the content of an archive (zip or tar).

        Raises:
            ValueError: the archive is damaged, or names files outside of itself.
        """
        if not uncompress or Path(data_file).is_dir():
            return super().add_session(data_file, expiry, False, session_id)
        folder = Path(tempfile.mkdtemp(dir=self.store_path))
        try:
            # the filter "data" refuses names that lead out, links and devices; zipfile drops such names by itself
            options = {} if data_file.lower().endswith(".zip") else {"filter": "data"}
            shutil.unpack_archive(data_file, folder, **options)  # type: ignore[arg-type]
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ValueError(f"the archive is refused or damaged: {error}") from error
        return super().add_session(str(folder), expiry, False, session_id)
