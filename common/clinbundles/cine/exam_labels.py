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
_WANTED = "labels must have their image's dimensions and affine, and all its phases; resample them first"
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


def read_label(file: Path, ed_frame: int = 0) -> CineView:
    """A label map as a view whose ``label`` is set.

    Args:
        file: NIfTI.
        ed_frame: the phase of end-diastole, which must be labelled.

    Raises:
        CineExamError: values other than 0, 1, 2, 3; no myocardium at end-diastole; a contour instead of an area.
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
    phase = ed_frame if 0 <= ed_frame < label.shape[3] else 0
    wall = label[..., phase] == MYOCARDIUM
    if not wall.any():
        raise CineExamError(
            f"{file.name}: has no LV myocardium (value 2) at phase {phase}: expected end-diastole labelled there"
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


def with_label(view: CineView, label: CineView) -> CineView:
    """The view with its label map.

    Raises:
        CineExamError: the label map lies on another grid.
    """
    if not _on_grid_of(label, view):
        raise CineExamError(
            f"{label.where[0]}: lies on another grid ({_dimensions(label)}) than its image {view.where[0]} "
            f"({_dimensions(view)}): {_WANTED}"
        )
    return replace(view, label=label.label)


def with_labels(views: Sequence[CineView], labels: Sequence[CineView]) -> list[CineView]:
    """The views, each with the label map that lies on its grid.

    Raises:
        CineExamError: a label map that lies on no view's grid, or on that of one which has a label map already.
    """
    found = list(views)
    for label in labels:
        places = [number for number, view in enumerate(found) if _on_grid_of(label, view)]
        if not places:
            raise CineExamError(
                f"{label.where[0]}: its grid ({_dimensions(label)}) is that of no image in the exam "
                f"({', '.join(sorted({_dimensions(view) for view in views}))}): {_WANTED}, or take it away"
            )
        for number in places:
            if found[number].label is not None:
                raise CineExamError(
                    f"{label.where[0]}: another label map lies on the grid of {found[number].where[0]} too: leave one "
                    "of them"
                )
            found[number] = replace(found[number], label=label.label)
    return found


def _on_grid_of(label: CineView, view: CineView) -> bool:
    return label.image.shape == view.image.shape and np.allclose(label.affines, view.affines, rtol=0, atol=_GRID_MM)


def _dimensions(view: CineView) -> str:
    return " x ".join(map(str, view.image.shape))
