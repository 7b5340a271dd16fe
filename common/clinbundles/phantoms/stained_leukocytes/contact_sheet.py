"""A sheet of simulated leukocytes, a row for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from clinbundles.data.atomic_file import atomic_path
from clinbundles.phantoms.stained_leukocytes.leukocyte_class import CLASSES
from clinbundles.phantoms.stained_leukocytes.simulated_smear import smear_images


def draw_contact_sheet(path: Path, *, seed: int = 0, columns: int = 12, aligned: bool = False) -> None:
    """Write a PNG of `columns` cells of each class, of patients from `seed` on."""
    rows: list[list[np.ndarray]] = [[] for _ in CLASSES]
    while min(len(row) for row in rows) < columns:
        for picture, label in smear_images(seed, aligned=aligned):
            rows[label].append(picture)
        seed += 1
    figure = Figure(figsize=(columns, len(CLASSES)), layout="constrained")
    axes = figure.subplots(len(CLASSES), columns)
    for line, row, name in zip(axes, rows, CLASSES, strict=True):
        line[0].set_ylabel(name)
        for place, picture in zip(line, row[:columns], strict=True):
            place.imshow(picture, interpolation="nearest")
            place.set_xticks([])
            place.set_yticks([])
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80, metadata={"Software": None})
