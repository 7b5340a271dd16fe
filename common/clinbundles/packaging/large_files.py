"""Files that are too large for the Model Zoo's repository: left out of the zip, listed with address and hash."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import yaml

from clinbundles.data.content_hash import file_hash
from clinbundles.packaging.packaging_error import PackagingError

LARGEST_FILE = 25 * 2**20  # bytes, of the Model Zoo
NAME = "large_files.yml"


def too_large(root: Path, limit: int) -> list[Path]:
    """Files of more than `limit` bytes, as paths relative to the folder."""
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file() and path.stat().st_size > limit)


def separate_large_files(root: Path, beside: Path, files: Sequence[Path], url: str | None) -> None:
    """Move files from a bundle's folder to `beside` and write `large_files.yml`, which MONAI downloads them by.

    Args:
        root: folder of the bundle.
        beside: folder that takes the files, in the same subfolders.
        files: paths relative to `root`.
        url: address under which the content of `beside` will be found.

    Raises:
        PackagingError: there are such files and no address is given.
    """
    if not files:
        return
    if not url:
        sizes = ", ".join(f"{path.as_posix()} ({(root / path).stat().st_size / 2**20:.1f} MB)" for path in files)
        raise PackagingError(
            f"the Model Zoo takes files of at most 25 MB, and the package would hold {sizes}: give the address where "
            "you will put them, --large-files-url https://..., or make them smaller"
        )
    entries = []
    for path in files:
        digest = file_hash(root / path)
        address = f"{url.rstrip('/')}/{quote(path.as_posix())}"
        entries.append({"path": path.as_posix(), "url": address, "hash_val": digest, "hash_type": "sha256"})
        (beside / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / path, beside / path)
    text = yaml.safe_dump({"large_files": entries}, sort_keys=False)
    (root / NAME).write_text(text, encoding="utf-8")
