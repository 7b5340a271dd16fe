"""A zip whose bytes depend on nothing but the files in it."""

from __future__ import annotations

import zipfile
from pathlib import Path

_PERMISSIONS = 0o100644 << 16  # a regular file that its owner may write and all may read


def write_zip(folder: Path, target: Path) -> Path:
    """Pack a folder, itself the only entry at the top: sorted, dated 1 January 1980, with plain permissions."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix())
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, also when written on Windows
            entry.external_attr = _PERMISSIONS
            archive.writestr(entry, path.read_bytes())
    return target
