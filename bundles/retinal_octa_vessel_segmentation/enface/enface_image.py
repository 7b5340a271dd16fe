"""What an en-face image must be before a network may see it: checked, and scaled to [0, 1]."""

from __future__ import annotations

import numpy as np

from retinal_octa_vessel_segmentation.enface.enface_pixel_size import B_SCAN_HINT

SMALLEST_SIDE = 64
LARGEST_ASPECT = 2.0
EIGHT_BIT, SIXTEEN_BIT = 255.0, 65535.0


def scaled_enface(raster: np.ndarray, full_scale: float | None, where: str) -> tuple[np.ndarray, list[str]]:
    """The image as float32 in [0, 1], and remarks.

    Integers are divided by the largest value of their type, so that 8 and 16 bits of one image agree (a wider type
    that holds no value above 255 is taken as 8 bits); floating point in [0, 1] stays as it is; any other range is
    stretched from its minimum and maximum, with a remark.

    Args:
        raster: (H, W) stored values.
        full_scale: largest value of the stored integer type, None for floating point.
        where: what to call the image in messages.

    Raises:
        ValueError: not two axes, a side below 64 pixels, far from square, NaN or infinite, or constant.
    """
    if raster.ndim != 2:
        raise ValueError(f"{where}: has {raster.ndim} axes {raster.shape}, expected one en-face image (height, width)")
    height, width = raster.shape
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"{where}: {height} x {width} pixels is too small, expected at least {SMALLEST_SIDE} on each side: "
            "a thumbnail? Export the angiogram in full resolution"
        )
    if max(height, width) > LARGEST_ASPECT * min(height, width):
        raise ValueError(f"{where}: {height} x {width} pixels is far from square: {B_SCAN_HINT}")
    image = raster.astype(np.float32)
    broken = int(np.count_nonzero(~np.isfinite(image)))
    if broken:
        raise ValueError(f"{where}: {broken} of {image.size} pixels are NaN or infinite: export the image again")
    low, high = float(image.min()), float(image.max())
    if low == high:
        raise ValueError(f"{where}: the image is constant (every pixel is {low:g}): an empty or failed export?")
    if full_scale is not None and full_scale > EIGHT_BIT:  # wide types often hold narrow data: NIfTI and DICOM do
        full_scale = EIGHT_BIT if high <= EIGHT_BIT else min(full_scale, SIXTEEN_BIT)
    if full_scale is not None and low >= 0 and high <= full_scale:
        return image / np.float32(full_scale), []
    if low >= 0 and high <= 1:
        return image, []
    return (image - low) / (high - low), [f"grey values {low:.4g} to {high:.4g} stretched to 0 to 1"]
