"""Which samples of k-space were acquired: masks of lines and of single samples."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from clinbundles.kspace.kspace_case import Array, KspaceError

AnyArray = TypeVar("AnyArray", Array, torch.Tensor)


def sampled_mask(kspace: Array) -> npt.NDArray[np.float32]:
    """Mask of what is not zero in any coil: (T, Y) where whole lines were sampled, else (T, X, Y).

    Args:
        kspace: (T, N, X, Y).
    """
    return simplest_mask((kspace != 0).any(axis=1))


def simplest_mask(mask: Array) -> npt.NDArray[np.float32]:
    """(T, X, Y) to (T, Y) where it does not depend on X; zeros and ones of float32."""
    sampled = np.asarray(mask) != 0
    if sampled.ndim == 3 and bool((sampled == sampled[:, :1]).all()):
        sampled = sampled[:, 0]
    return np.ascontiguousarray(sampled, dtype=np.float32)


def over_readout(mask: AnyArray) -> AnyArray:
    """A mask with a readout axis: (T, 1, Y) or (T, X, Y), to be multiplied with (T, X, Y)."""
    return mask[:, None, :] if mask.ndim == 2 else mask


def fitted_mask(mask: Array, shape: tuple[int, ...], *, case: str) -> npt.NDArray[np.float32]:
    """A mask as a user has it, for k-space of this shape.

    Args:
        mask: (Y,), (T, Y), (Y, T), (X, Y) or (T, X, Y); where two readings fit, the first of these is taken. Anything
            but zero means sampled.
        shape: (T, N, X, Y) of the k-space.
        case: name of the case, for messages.

    Returns:
        (T, Y) or (T, X, Y) float32 of zeros and ones.

    Raises:
        KspaceError: none of these shapes, or values that are not finite.
    """
    frames, _, readout, lines = shape
    array = np.asarray(mask)
    if not np.isfinite(array).all():
        raise KspaceError(f"case '{case}': mask has values that are not finite, expected zeros and ones")
    if array.shape == (lines,):
        full = np.broadcast_to(array, (frames, lines))
    elif array.shape == (frames, lines):
        full = array
    elif array.shape == (lines, frames):
        full = array.T
    elif array.shape == (readout, lines):
        full = np.broadcast_to(array, (frames, readout, lines))
    elif array.shape == (frames, readout, lines):
        full = array
    else:
        raise KspaceError(
            f"case '{case}': mask has the shape {array.shape}, expected ({frames}, {lines}) for lines (frames, phase "
            f"encoding) or ({frames}, {readout}, {lines}) for single samples, as the k-space {tuple(shape)} has it"
        )
    return simplest_mask(full)
