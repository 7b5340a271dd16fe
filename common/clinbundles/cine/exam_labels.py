"""Label maps of an exam: which files they are, and the checks that they fit their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from clinbundles.cine.cine_exam import CineExamError, CineView
from clinbundles.cine.cine_files import LABELS, NIFTI_ENDINGS, read_nifti_cine

MYOCARDIUM = 2
_LABEL_WORDS = ("_label", "_seg", "_gt", "_mask", "label_", "seg_")
_GRID_MM = 0.5
_THINNEST_MM = 2.5  # a myocardium is 5 mm or thicker, a drawn contour one pixel


def is_label_file(file: Path) -> bool:
    """Whether a NIfTI file is a label map: its name says so, or it holds integers up to 3 only."""
    name = file.name.lower()
    if not name.endswith(NIFTI_ENDINGS):
        return False
    stem = name.removesuffix(".gz").removesuffix(".nii")
    if any(word in stem for word in _LABEL_WORDS):
        return True
    try:
        image: Any = nibabel.load(file)
        if image.get_data_dtype().kind not in "ui" or image.ndim != 4:
            return False
        first = np.asarray(image.dataobj[..., 0])
    except Exception:  # whatever is wrong is told when it is read as an image
        return False
    return 0 < first.max() <= max(LABELS) and first.min() == 0


def read_label(file: Path) -> CineView:
    """A label map as a view whose ``label`` is set.

    Raises:
        CineExamError: values other than 0, 1, 2, 3; no myocardium at the first phase; a contour instead of an area.
    """
    view = read_nifti_cine(file)
    values = np.unique(view.image)
    unknown = [f"{value:g}" for value in values if value not in LABELS]
    if unknown:
        raise CineExamError(
            f"{file.name}: holds the label values {', '.join(unknown[:5])}; expected 0 background, 1 LV cavity, 2 LV "
            "myocardium, 3 RV cavity: rename them first"
        )
    label = view.image.astype(np.uint8)
    wall = label[..., 0] == MYOCARDIUM
    if not wall.any():
        raise CineExamError(
            f"{file.name}: has no LV myocardium (value 2) at the first phase: expected end-diastole labelled there"
        )
    thickness = _thickness_mm(wall, view.pixel_mm)
    if thickness < _THINNEST_MM:
        raise CineExamError(
            f"{file.name}: its myocardium is {thickness:.1f} mm thick by area and perimeter (expected "
            f"{_THINNEST_MM:g} or more): is it a contour? A filled label is expected"
        )
    return replace(view, label=label)


def _thickness_mm(wall: np.ndarray, pixel_mm: tuple[float, float]) -> float:
    """Mean thickness of bands (I, J, K): twice the area over the perimeter."""
    padded = np.pad(wall, ((1, 1), (1, 1), (0, 0)))
    edges_i = np.count_nonzero(np.diff(padded, axis=0)) * pixel_mm[1]
    edges_j = np.count_nonzero(np.diff(padded, axis=1)) * pixel_mm[0]
    area = np.count_nonzero(wall) * pixel_mm[0] * pixel_mm[1]
    # a pixel edge path is 4/pi longer than a smooth curve
    return float(2 * area / ((edges_i + edges_j) * np.pi / 4))


def with_label(view: CineView, labels: Sequence[CineView], *, required: bool = False) -> CineView:
    """The view with the label map that lies on its grid.

    Raises:
        CineExamError: ``required``, and the only label map lies on another grid.
    """
    for candidate in labels:
        if candidate.image.shape == view.image.shape and np.allclose(
            candidate.affines, view.affines, rtol=0, atol=_GRID_MM
        ):
            return replace(view, label=candidate.label)
    if required:
        found = labels[0]
        shapes = [" x ".join(map(str, one.image.shape)) for one in (found, view)]
        raise CineExamError(
            f"{found.where[0]}: lies on another grid ({shapes[0]}) than its image {view.where[0]} ({shapes[1]}): "
            "labels must have the image's dimensions and affine, and all its phases; resample them first"
        )
    return view
