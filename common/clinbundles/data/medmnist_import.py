"""Import of a MedMNIST file: PNG images in folders, with the table that the data set's manifest reads.

Data set: Yang et al., Scientific Data 10:41, 2023. Of images that occur more than once only one is taken over: copies
in the test part count first, then those in validation, then those in training, so that the test part loses nothing
to the others.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TABLE = "labels.csv"
SPLITS = {"train": "training", "val": "validation", "test": "test"}
"""Part of the file -> split."""

PUBLISHED_MD5 = {
    "bloodmnist.npz": "7053d0359d879ad8a5505303e11de1dc",
    "pneumoniamnist.npz": "28209eda62fecd6e6a2d98b1501bb15f",
    "pathmnist.npz": "a8b06965200029087d5bd730944a56c1",
}
"""Of the files of 28 pixels as published."""


class MedMNISTError(ValueError):
    """A file is no MedMNIST file of single labels, or not the published one."""


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        images: split -> number of images written.
        left_out: split -> number of images that were copies of others.
        verified: whether the file is known to be the published one.
    """

    images: dict[str, int]
    left_out: dict[str, int]
    verified: bool


def import_medmnist(source: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Imported:
    """Write the images of a MedMNIST file as PNG, and labels.csv (image, label, split).

    The folder appears when it is complete, or not at all.

    Args:
        source: the .npz file: arrays {train,val,test}_images (n, H, W) or (n, H, W, 3) uint8, and _labels (n, 1).
        folder: new folder.

    Raises:
        FileNotFoundError: there is no such file.
        FileExistsError: the folder exists.
        MedMNISTError: not the published file, or one that has something else than images with one label each.
    """
    source, folder = Path(source).expanduser(), Path(folder).expanduser()
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}: download it from https://medmnist.com first")
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: name a new folder, or remove that one")
    verified = _check_published(source)
    parts = {split: _read_part(source, part) for part, split in SPLITS.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        workshop = Path(temporary) / folder.name
        images, left_out = _write(parts, workshop)
        os.rename(workshop, folder)
    return Imported(images, left_out, verified)


def _check_published(source: Path) -> bool:
    expected = PUBLISHED_MD5.get(source.name)
    if expected is None:
        return False
    found = hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest()
    if found != expected:
        raise MedMNISTError(
            f"{source} is not the published {source.name}: its MD5 is {found}, expected {expected}. Download it again; "
            "a file of your own needs another name"
        )
    return True


def _read_part(source: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Images (n, H, W) or (n, H, W, 3), labels (n,)."""
    try:
        with np.load(source, allow_pickle=False) as arrays:
            missing = [key for key in (f"{part}_images", f"{part}_labels") if key not in arrays]
            if missing:
                raise MedMNISTError(
                    f"{source} has no array {' and no array '.join(missing)}; it has {', '.join(arrays.files)}: "
                    "expected a MedMNIST file of images, with the parts train, val and test"
                )
            images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as problem:
        if isinstance(problem, MedMNISTError):
            raise
        raise MedMNISTError(f"{source} cannot be read as an .npz file ({problem}): download it again") from None
    picture = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
    if images.dtype != np.uint8 or not picture:
        raise MedMNISTError(
            f"{source}: {part}_images is {images.dtype} of shape {images.shape}, expected uint8 of shape (n, H, W) or "
            "(n, H, W, 3); volumes are not imported"
        )
    if labels.shape not in ((len(images), 1), (len(images),)) or not np.issubdtype(labels.dtype, np.integer):
        raise MedMNISTError(
            f"{source}: {part}_labels is {labels.dtype} of shape {labels.shape}, expected whole numbers of shape "
            f"({len(images)}, 1): one class per image; sets of several labels per image are not imported"
        )
    return images, labels.reshape(-1)


def _write(
    parts: dict[str, tuple[NDArray[np.uint8], NDArray[np.integer]]], folder: Path
) -> tuple[dict[str, int], dict[str, int]]:
    seen: set[bytes] = set()
    rows, images, left_out = [], {}, {}
    for split, (pictures, labels) in reversed(parts.items()):
        (folder / split).mkdir(parents=True)
        written = 0
        for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            content = hashlib.sha256(picture.tobytes()).digest()
            if content in seen:
                continue
            seen.add(content)
            name = f"{split}/{number:06d}.png"
            Image.fromarray(picture).save(folder / name)
            rows.append((name, int(label), split))
            written += 1
        images[split], left_out[split] = written, len(pictures) - written
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "label", "split"))
    writer.writerows(rows)
    (folder / TABLE).write_text(text.getvalue(), encoding="utf-8")
    return images, left_out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code: 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m clinbundles.data.medmnist_import",
        description="Turn a MedMNIST file (.npz) into a folder of PNG images with labels.csv, which the manifests "
        "bloodmnist, pneumoniamnist and classification_own_images read.",
    )
    parser.add_argument("source", metavar="FILE.npz", help="downloaded from https://medmnist.com")
    parser.add_argument("folder", metavar="FOLDER", help="new folder")
    options = parser.parse_args(arguments)
    try:
        done = import_medmnist(options.source, options.folder)
    except (MedMNISTError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for split in SPLITS.values():
        print(f"{split}: {done.images[split]} images, {done.left_out[split]} copies left out")
    known = "the published one (MD5)" if done.verified else "of a name without known checksum: not verified"
    print(f"{options.folder}: written; the file is {known}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
