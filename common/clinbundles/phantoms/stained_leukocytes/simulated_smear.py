"""Simulated blood smears: the images of one patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clinbundles.phantoms.stained_leukocytes.field_of_view import FieldOfView
from clinbundles.phantoms.stained_leukocytes.leukocyte import draw_leukocyte
from clinbundles.phantoms.stained_leukocytes.leukocyte_class import LeukocyteClass
from clinbundles.phantoms.stained_leukocytes.leukocyte_image import leukocyte_image
from clinbundles.phantoms.stained_leukocytes.microscope import draw_microscope
from clinbundles.phantoms.stained_leukocytes.stain import draw_stain

SIMULATOR_REVISION = 1


def simulate_leukocytes(
    folder: Path,
    seed: int,
    *,
    pixels: int = 28,
    pixel_um: float = 0.75,
    images: tuple[int, int] = (1, 1),
    aligned: bool = False,
) -> dict[str, Any]:
    """Simulate the smear of one patient: an image of each of its leukocytes.

    All images of a patient share stain, focus and light. The class of each is drawn with equal probabilities; nothing
    but the shape of the nucleus depends on it.

    Args:
        folder: where the case's files go.
        seed: of everything random.
        pixels: of a side of an image.
        pixel_um: size of a pixel.
        images: least and greatest number of images; the number is drawn.
        aligned: whether orientation and mirroring are fixed. The same seed gives the same cells, turned.

    Returns:
        the case: patient, patient_id, and `records` with image (RGB PNG) and label of each cell.
    """
    found = smear_images(seed, FieldOfView(pixels, pixel_um), images=images, aligned=aligned)
    records = []
    for number, (picture, label) in enumerate(found):
        name = f"{seed:06d}_{number}.png"
        Image.fromarray(picture).save(folder / name)
        records.append({"image": name, "label": int(label)})
    patient = f"simulated-{seed}"
    return {"patient": patient, "patient_id": patient, "records": records}


def smear_images(
    seed: int, field: FieldOfView | None = None, *, images: tuple[int, int] = (1, 1), aligned: bool = False
) -> list[tuple[NDArray[np.uint8], LeukocyteClass]]:
    """Images (pixels, pixels, 3) and classes of one patient's cells; arguments as of `simulate_leukocytes`."""
    least, greatest = images
    if not 1 <= least <= greatest:
        raise ValueError(f"images is {list(images)}, expected the least and the greatest number, from 1 on")
    smear_rng, count_rng, cells_rng = np.random.default_rng(seed).spawn(3)
    stain, microscope = draw_stain(smear_rng), draw_microscope(smear_rng)
    found = []
    for cell_rng in cells_rng.spawn(int(count_rng.integers(least, greatest, endpoint=True))):
        shape_rng, pose_rng, image_rng = cell_rng.spawn(3)
        label = LeukocyteClass(int(shape_rng.integers(len(LeukocyteClass))))
        cell = draw_leukocyte(label, shape_rng, pose_rng, aligned=aligned)
        found.append((leukocyte_image(cell, stain, microscope, image_rng, field), label))
    return found
