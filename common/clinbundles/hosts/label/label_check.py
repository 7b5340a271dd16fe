"""What a label that comes in must be, and the form in which a bundle is trained with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from clinbundles.data.atomic_file import atomic_path
from clinbundles.hosts.label.file_grid import read_grid, read_labels, refuse_other_grid
from clinbundles.hosts.label.result_file import label_type, write_result


class LabelError(ValueError):
    """A label that no bundle here could learn from."""


def checked_labels(
    label: str | os.PathLike[str], image: str | os.PathLike[str], names: Mapping[int, str], where: str
) -> np.ndarray:
    """The label map of an image, on the image's grid.

    Args:
        label: file of the label map.
        image: file of the image.
        names: number to name of each label that may occur, besides 0 for the background.
        where: what to call it in messages.

    Raises:
        GridError: a file that cannot be read, another shape, another place.
        LabelError: values that are no label numbers.
    """
    values, grid = read_labels(label)
    image_grid = read_grid(image)
    refuse_other_grid(grid, image_grid, where)
    found = np.unique(values)
    foreign = [value for value in found.tolist() if value != 0 and value not in names]
    if foreign:
        listed = ", ".join(f"{value:g}" for value in foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        known = ", ".join(["0 (background)", *(f"{number} ({name})" for number, name in names.items())])
        raise LabelError(f"{where}: the label holds {listed}, expected only {known}")
    labels = values.astype(label_type(np.asarray(max(found.max(initial=0), 0))))
    return labels.reshape(image_grid.shape)


def write_training_label(labels: np.ndarray, image: str | os.PathLike[str], folder: Path, name: str) -> Path:
    """Write a checked label map as bundles are trained with it: NIfTI like its image, or a PNG raster of a picture."""
    if read_grid(image).picture:
        path = folder / f"{name}.png"
        with atomic_path(path) as draft:
            Image.fromarray(np.ascontiguousarray(labels.reshape(labels.shape[:2]).T)).save(draft, format="PNG")
        return path
    path = folder / f"{name}.nii.gz"
    write_result(labels, image, path)
    return path
