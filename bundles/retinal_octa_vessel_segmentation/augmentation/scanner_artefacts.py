"""Artefacts of real OCT angiography scanners that random augmentation lacks: motion lines and point spread.

Each is a pure function and a MONAI dictionary transform with its own strength. None of them moves the image.
Axis letters: C channel, H rows (slow scan axis), W columns (fast scan axis).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))


def whiten_lines(image: torch.Tensor, opacity: torch.Tensor, axis: int) -> torch.Tensor:
    """Raise whole scan lines towards white: I + opacity (1 - I).

    Args:
        image: (C, H, W) in [0, 1].
        opacity: (L,) or (H, W) in [0, 1]: one value per line, or one per pixel.
        axis: 0 if the lines are rows, 1 if they are columns (only for one value per line).
    """
    if opacity.ndim == 1:
        opacity = opacity[:, None] if axis == 0 else opacity[None, :]
    return image + opacity * (1.0 - image)


def blur_point_spread(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of standard deviation `sigma` pixels, kernel cut at 4 sigma, borders repeated; (C, H, W)."""
    if sigma <= 0:
        return image
    radius = max(1, math.ceil(4.0 * sigma))
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(image)
    padded = F.pad(image[:, None], (radius, radius, radius, radius), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[:, 0]


class _RandArtefactd(RandomizableTransform, MapTransform):
    """Draws once for a sample and applies the same artefact to all `keys`."""

    def __init__(self, keys: KeysCollection, prob: float, allow_missing_keys: bool) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)

    def draw(self, shape: torch.Size) -> Any:
        raise NotImplementedError

    def apply(self, image: torch.Tensor, drawn: Any) -> torch.Tensor:
        raise NotImplementedError

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return sample
        drawn = None
        for key in self.key_iterator(sample):
            image = convert_to_tensor(sample[key], dtype=torch.float32, track_meta=False)
            drawn = self.draw(image.shape[-2:]) if drawn is None else drawn
            sample[key] = convert_to_dst_type(self.apply(image, drawn), sample[key])[0]
        return sample


class RandMotionLinesd(_RandArtefactd):
    """White motion lines: a micro-saccade decorrelates whole B-scans, so that their rows become bright and grainy.

    Args:
        keys: images (C, H, W) in [0, 1].
        strength: largest opacity of a line, in [0, 1]; each line draws U(0, strength). 0 switches off.
        rate: mean number of lines (Poisson).
        thickness: largest thickness in pixels, uniform from 1.
        direction: "horizontal" (fast axis along the rows), "vertical" or "random" (either, per sample).
        grain: share of a line's opacity that varies from pixel to pixel, in [0, 1].
        prob, allow_missing_keys: as in MONAI.

    Raises:
        ValueError: for a strength or grain outside [0, 1] or an unknown direction.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        strength: float = 0.5,
        rate: float = 3.0,
        thickness: int = 2,
        direction: str = "random",
        grain: float = 0.5,
        prob: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys)
        if direction not in ("horizontal", "vertical", "random"):
            raise ValueError(f"direction is '{direction}': choose horizontal, vertical or random")
        for name, value in (("strength", strength), ("grain", grain)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}: it lies between 0 and 1")
        self.strength, self.rate, self.thickness = strength, rate, thickness
        self.direction, self.grain = direction, grain

    def draw(self, shape: torch.Size) -> torch.Tensor:
        vertical = self.direction == "vertical" or (self.direction == "random" and self.R.random() < 0.5)
        height, width = (shape[1], shape[0]) if vertical else (shape[0], shape[1])
        opacity = np.zeros((height, width), np.float32)
        for _ in range(self.R.poisson(self.rate)):
            first = self.R.randint(height)
            rows = slice(first, first + self.R.randint(1, self.thickness + 1))
            grain = 1.0 - self.grain * self.R.random((1, width))
            opacity[rows] = np.maximum(opacity[rows], self.R.uniform(0, self.strength) * grain)
        return torch.from_numpy(opacity.T.copy() if vertical else opacity)

    def apply(self, image: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        return whiten_lines(image, drawn, 0)


class RandPointSpreadd(_RandArtefactd):
    """Lateral point spread: Gaussian blur whose full width at half maximum is drawn from a range in mm.

    Args:
        keys: images (C, H, W).
        fwhm_mm: range of the full width at half maximum (retinal scanners: 0.012 to 0.022 mm); (0, 0) switches off.
        pixel_mm: pixel size in mm (304 pixels on 3 mm: 0.00987).
        prob, allow_missing_keys: as in MONAI.

    Raises:
        ValueError: if `fwhm_mm` is not an ordered, non-negative range or `pixel_mm` is not positive.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        fwhm_mm: Sequence[float] = (0.012, 0.022),
        pixel_mm: float = 3.0 / 304.0,
        prob: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys)
        low, high = (float(value) for value in fwhm_mm)
        if not 0 <= low <= high:
            raise ValueError(f"fwhm_mm is {tuple(fwhm_mm)}: it must be an ordered range of widths in mm, 0 or more")
        if not pixel_mm > 0:
            raise ValueError(f"pixel_mm is {pixel_mm}: the pixel size in mm must be positive")
        self.fwhm_mm, self.pixel_mm = (low, high), float(pixel_mm)

    def draw(self, shape: torch.Size) -> float:
        return float(self.R.uniform(*self.fwhm_mm)) / FWHM_PER_SIGMA / self.pixel_mm

    def apply(self, image: torch.Tensor, drawn: float) -> torch.Tensor:
        return blur_point_spread(image, drawn)


class RandSpeckleGraind(_RandArtefactd):
    """Multiplicative speckle with a grain: I exp(c g - c^2 / 2), cut to [0, 1]; g a correlated normal field.

    Independent noise per pixel averages out over a wide vessel; a scanner's speckle has grains about as wide as the
    point spread and leaves wide vessels mottled.

    Args:
        keys: images (C, H, W) in [0, 1].
        contrast: range of c, about the standard deviation of the factor over its mean; (0, 0) switches off.
        grain_mm: range of the full width at half maximum of a grain in mm.
        pixel_mm: pixel size in mm (304 pixels on 3 mm: 0.00987).
        prob, allow_missing_keys: as in MONAI.

    Raises:
        ValueError: if a range is not ordered and non-negative.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        contrast: Sequence[float] = (0.0, 0.5),
        grain_mm: Sequence[float] = (0.008, 0.025),
        pixel_mm: float = 3.0 / 304.0,
        prob: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys)
        for name, (low, high) in (("contrast", contrast), ("grain_mm", grain_mm)):
            if not 0 <= low <= high:
                raise ValueError(f"{name} is {(low, high)}: it must be an ordered range, 0 or more")
        self.contrast, self.grain_mm, self.pixel_mm = tuple(contrast), tuple(grain_mm), float(pixel_mm)

    def draw(self, shape: torch.Size) -> torch.Tensor:
        contrast = self.R.uniform(*self.contrast)
        sigma = self.R.uniform(*self.grain_mm) / FWHM_PER_SIGMA / self.pixel_mm
        field = blur_point_spread(torch.from_numpy(self.R.standard_normal((1, *shape)).astype(np.float32)), sigma)
        field = (field - field.mean()) / field.std().clamp_min(1e-6)
        return torch.exp(contrast * field - 0.5 * contrast**2)

    def apply(self, image: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        return (image * drawn).clamp(0.0, 1.0)
