"""A folder that gets all results of a run or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from clinbundles.hosts.hosted_bundle import BundleError

RECORD = "results.json"


class OutputFolder:
    """Results are written below ``staging`` and moved into the folder together, the record ``results.json`` last.

    Use as a context: at its end the staging folder is gone, and so is the folder itself if this run made it and left
    it empty.

    Args:
        folder: the output folder; made when entered.
        overwrite: whether files of an earlier run may be replaced.

    Raises:
        BundleError: on entering, if the folder holds results of an earlier run, or is a file.
    """

    def __init__(self, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
        self.folder = Path(folder).expanduser()
        self.overwrite = overwrite
        self.staging = self.folder
        self._made = False

    def __enter__(self) -> OutputFolder:
        if self.folder.exists() and not self.folder.is_dir():
            raise BundleError(f"the output {self.folder} is a file: give a folder")
        self._refuse(Path(RECORD))
        self._made = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.staging = Path(tempfile.mkdtemp(prefix=".unfinished_", dir=self.folder))
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)
        if self._made and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def commit(self) -> list[Path]:
        """Move everything into place; returns the files, relative to the folder.

        Raises:
            BundleError: one of them is there already; then nothing is moved.
        """
        files = sorted(path.relative_to(self.staging) for path in self.staging.rglob("*") if path.is_file())
        files.sort(key=lambda file: file == Path(RECORD))
        for file in files:
            self._refuse(file)
        (self.folder / RECORD).unlink(missing_ok=True)  # an old record must not stand beside half of the new files
        for file in files:
            target = self.folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.staging / file, target)
        return files

    def _refuse(self, file: Path) -> None:
        if not self.overwrite and (self.folder / file).exists():
            raise BundleError(
                f"{self.folder} holds {file.as_posix()} of an earlier run: give another output folder, or --overwrite"
            )
