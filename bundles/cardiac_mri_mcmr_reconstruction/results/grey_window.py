"""Cines side by side: the part that is shown, the frames that are shown, one grey scale for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

WHITE_SHARE = 0.995  # of the pixels are darker than white
_MARGIN = 0.3  # of the region's size, shown around it


def heart_region(size: Sequence[int], roi: Sequence[int] | None) -> tuple[int, int, int, int]:
    """The region of the heart (x0, y0, x1, y1), end excluded; the middle half of the image where none is known.

    Args:
        size: of the image, X and Y last.
        roi: (x0, y0, x1, y1) or None; what leaves the image is cut off.

    Raises:
        ValueError: a region without pixels.
    """
    rows, columns = int(size[-2]), int(size[-1])
    if roi is None:
        return rows // 4, columns // 4, rows - rows // 4, columns - columns // 4
    x0, y0, x1, y1 = (int(edge) for edge in roi)
    cut = max(x0, 0), max(y0, 0), min(x1, rows), min(y1, columns)
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        raise ValueError(f"roi (x0, y0, x1, y1) = {(x0, y0, x1, y1)} has no pixel in an image of {rows} x {columns}")
    return cut


def shown_region(size: Sequence[int], roi: Sequence[int] | None) -> tuple[slice, slice]:
    """Rows and columns that a picture shows: the heart with a margin, or all where no region is known."""
    rows, columns = int(size[-2]), int(size[-1])
    if roi is None:
        return slice(0, rows), slice(0, columns)
    x0, y0, x1, y1 = heart_region(size, roi)
    wider, higher = round(_MARGIN * (x1 - x0)), round(_MARGIN * (y1 - y0))
    return slice(max(x0 - wider, 0), min(x1 + wider, rows)), slice(max(y0 - higher, 0), min(y1 + higher, columns))


def in_one_grey_scale(
    cines: Mapping[str, NDArray], standard: str, part: tuple[slice, slice]
) -> dict[str, NDArray[np.float32]]:
    """Magnitudes on the scale of one of them, 1 where its brightest 0.5 % of the shown part begin.

    Every cine is multiplied by the one number that brings it closest to the standard (least squares over the shown
    part), since a zero-filled image holds only a share of the signal.

    Args:
        cines: name -> (T, X, Y), complex or magnitudes.
        standard: name of the cine that sets the scale.
        part: rows and columns that are shown.
    """
    magnitudes = {name: np.abs(images).astype(np.float32) for name, images in cines.items()}
    base = magnitudes[standard][:, part[0], part[1]]
    white = float(np.quantile(base, WHITE_SHARE)) or 1.0
    scaled = {}
    for name, images in magnitudes.items():
        seen = images[:, part[0], part[1]]
        energy = float((seen * seen).sum())
        fit = float((seen * base).sum()) / energy if energy > 0 else 1.0
        scaled[name] = images * np.float32((1.0 if name == standard else fit) / white)
    return scaled


def most_different_frame(images: NDArray, roi: Sequence[int] | None = None, first: int = 0) -> int:
    """The frame whose magnitudes in the heart's region differ most from those of the first: near end-systole."""
    x0, y0, x1, y1 = heart_region(images.shape, roi)
    seen = np.abs(images[:, x0:x1, y0:y1]).astype(np.float64)
    return int(((seen - seen[first]) ** 2).sum(axis=(1, 2)).argmax())
