"""What a view of an exam must be; every refusal names the file, what was found and what to do."""

from __future__ import annotations

import numpy as np

from clinbundles.cine.cine_exam import CineExamError, CineView
from clinbundles.cine.find_views import is_upright

PIXEL_MM = (0.5, 4.0)
MISSES_LV_MM = 30.0


def check_view(view: CineView) -> None:
    """Refuse images that no cine has.

    Raises:
        CineExamError: pixels outside 0.5 to 4 mm; values that are not finite; a phase or slice without contrast.
    """
    low, high = min(view.pixel_mm), max(view.pixel_mm)
    if low < PIXEL_MM[0] * 0.999 or high > PIXEL_MM[1] * 1.001:  # affines are stored in float32
        raise CineExamError(
            f"{view.where[0]}: pixels of {view.pixel_mm[0]:.4g} x {view.pixel_mm[1]:.4g} mm; expected "
            f"{PIXEL_MM[0]:g} to {PIXEL_MM[1]:g} mm: are the units millimetres?"
        )
    low_values, high_values = view.image.min(axis=(0, 1)), view.image.max(axis=(0, 1))
    if not (np.isfinite(low_values).all() and np.isfinite(high_values).all()):
        k, t = np.argwhere(~(np.isfinite(low_values) & np.isfinite(high_values)))[0]
        raise CineExamError(f"{view.where[k]}: slice {k}, phase {t} holds NaN or infinite values: export it again")
    if (low_values == high_values).any():
        k, t = np.argwhere(low_values == high_values)[0]
        raise CineExamError(
            f"{view.where[k]}: slice {k}, phase {t} is constant: expected an image in every phase; export it again"
        )


def check_long_axis(view: CineView, axes: np.ndarray, rough_centre: np.ndarray) -> None:
    """Refuse a long-axis plane that cannot show the left ventricle's long axis.

    Args:
        view: one plane with its name.
        axes: (3, 3) columns of the exam frame.
        rough_centre: (3,) estimated LV centre, RAS mm.

    Raises:
        CineExamError: parallel to the short axis, or far from the LV.
    """
    if not is_upright(view.normals[0], axes):
        tilt = float(np.degrees(np.arccos(np.clip(abs(view.normals[0] @ axes[:, 2]), 0, 1))))
        raise CineExamError(
            f"{view.where[0]}: the plane of {view.name} stands at {tilt:.0f} degrees to the short axis, expected "
            "nearly 90: is it a short-axis or a localizer plane?"
        )
    gap = abs(float((rough_centre - view.centres[0]) @ view.normals[0]))
    if gap > MISSES_LV_MM:
        raise CineExamError(
            f"{view.where[0]}: the plane of {view.name} passes {gap:.0f} mm beside the left ventricle that the short "
            f"axis shows (at most {MISSES_LV_MM:g} mm): is it of another exam, or is its affine wrong?"
        )
