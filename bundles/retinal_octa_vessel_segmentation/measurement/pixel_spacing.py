"""Check a pixel spacing given in millimetres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LARGEST_ANISOTROPY = 2.0


def checked_spacing(spacing_mm: float | Sequence[float]) -> tuple[float, float]:
    """(row, column) spacing in mm from one number or two.

    Raises:
        ValueError: when it is not one or two positive finite numbers, or the two differ by more than a factor of 2.
    """
    given = np.asarray(spacing_mm, dtype=float).ravel()
    spacing = np.repeat(given, 2) if given.size == 1 else given
    if spacing.size != 2 or not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise ValueError(f"spacing_mm is {spacing_mm}, expected one or two positive numbers: mm per pixel")
    if spacing.max() / spacing.min() > LARGEST_ANISOTROPY:
        raise ValueError(
            f"spacing_mm is {spacing_mm}: the sides of a pixel differ by more than a factor of {LARGEST_ANISOTROPY:g}; "
            "resample the image to nearly square pixels first"
        )
    return float(spacing[0]), float(spacing[1])
