"""Resolution loss: an image seen through coarser pixels, without moving anything.

Part of the random augmentation of Kreitner et al., IEEE TMI 43(6), 2024. The reference implementation resamples twice
with nearest neighbour, which moves the image by 0.5 to 2.3 pixels against its label; here each coarse pixel is the
exact area average of what it covers, and the way back is bilinear between pixel centres (align_corners=False).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor


@lru_cache(maxsize=512)
def area_average_matrix(size: int, coarse: int) -> torch.Tensor:
    """(coarse, size) float32: row i averages the interval [i, i + 1) * size / coarse of pixels, fractions included."""
    step = size / coarse
    edges = torch.arange(coarse + 1, dtype=torch.float64) * step
    pixels = torch.arange(size, dtype=torch.float64)
    high = torch.minimum(edges[1:, None], pixels + 1)
    low = torch.maximum(edges[:-1, None], pixels)
    return ((high - low).clamp_min(0) / step).float()


@lru_cache(maxsize=512)
def bilinear_matrix(coarse: int, size: int) -> torch.Tensor:
    """(size, coarse) float32: linear interpolation between pixel centres, constant beyond the outer ones."""
    unit = torch.eye(coarse).reshape(1, coarse, coarse)
    return F.interpolate(unit, size=size, mode="linear", align_corners=False)[0].T.contiguous()


def lose_resolution(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Average over pixels that are 1/factor times as large, then interpolate back.

    Args:
        image: (..., H, W).
        factor: coarse size / size per axis, in (0, 1]; 1 returns the image unchanged.

    Returns:
        (..., H, W), in the range of `image`.

    Raises:
        ValueError: if `factor` is outside (0, 1].
    """
    if not 0 < factor <= 1:
        raise ValueError(f"factor is {factor}: the coarse size relative to the size lies in (0, 1]")
    for axis in (-2, -1):
        size = image.shape[axis]
        coarse = max(1, round(size * factor))
        if coarse == size:
            continue
        down = area_average_matrix(size, coarse).to(image)
        up = bilinear_matrix(coarse, size).to(image)
        image = up @ (down @ image) if axis == -2 else (image @ down.T) @ up.T
    return image


class RandResolutionLossd(RandomizableTransform, MapTransform):
    """Random loss of resolution: area average to a coarser grid and bilinear back. A dot stays where it is.

    Args:
        keys: images (C, H, W).
        factor: range of the coarse size relative to the image size, uniform, within (0, 1]. K24 uses 0.25 to 1 on an
            image of 1216 x 1216 that was itself enlarged from 304 x 304; on 304 x 304 the same range is stronger.
            (1, 1) switches the transform off.
        prob: probability that a sample is changed.
        allow_missing_keys: skip keys that a sample lacks.

    Raises:
        ValueError: if `factor` is not an ordered range within (0, 1].
    """

    def __init__(
        self,
        keys: KeysCollection,
        factor: Sequence[float] = (0.25, 1.0),
        *,
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        low, high = (float(value) for value in factor)
        if not 0 < low <= high <= 1:
            raise ValueError(f"factor is {tuple(factor)}: it must be an ordered range within (0, 1], e.g. (0.25, 1.0)")
        self.factor = (low, high)
        self._drawn = 1.0

    def randomize(self, data: Any | None = None) -> None:
        super().randomize(None)
        if self._do_transform:
            self._drawn = float(self.R.uniform(*self.factor))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        self.randomize()
        if self._do_transform:
            for key in self.key_iterator(sample):
                image = convert_to_tensor(sample[key], dtype=torch.float32, track_meta=False)
                sample[key] = convert_to_dst_type(lose_resolution(image, self._drawn), sample[key])[0]
        return sample
