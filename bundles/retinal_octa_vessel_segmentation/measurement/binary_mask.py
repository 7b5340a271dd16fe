"""Check that an array is a binary vessel mask before anything is measured on it."""

from __future__ import annotations

import numpy as np


def binary_mask(array: np.ndarray, name: str) -> np.ndarray:
    """A two-dimensional boolean mask from an array that holds two values.

    Args:
        array: (H, W), boolean or with the values {0, 1} or {0, 255}.
        name: what the array is, for the error message.

    Returns:
        boolean (H, W).

    Raises:
        ValueError: when the array is not two-dimensional, is empty, holds NaN, or holds other values.
    """
    array = np.asarray(array)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected two axes (H, W): give one channel of one image")
    if array.dtype == bool:
        return array
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinite values: a mask holds only 0 and 1 (or 0 and 255)")
    values = np.unique(array)
    if not (np.isin(values, (0, 1)).all() or np.isin(values, (0, 255)).all()):
        shown = ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if len(values) > 5 else "")
        raise ValueError(
            f"{name} holds {len(values)} values ({shown}), expected {{0, 1}} or {{0, 255}}: threshold probabilities "
            "first; grey values at vessel edges in a label are usually JPEG artefacts, save labels as PNG"
        )
    return array > 0


def same_shape(first: np.ndarray, second: np.ndarray, first_name: str, second_name: str) -> None:
    """Raise ValueError unless the two arrays have the same shape."""
    if first.shape != second.shape:
        raise ValueError(f"{first_name} has shape {first.shape} but {second_name} has {second.shape}: they must agree")
