"""Random augmentation (RA): turns a clean vessel map into an image with the contrast and noise of an OCT angiograph.

Source: Kreitner et al., "Synthetic optical coherence tomography angiographs for detailed retinal vessel segmentation
without human annotations", IEEE TMI 43(6), 2024, section on random and adversarial augmentation. For a map I in [0, 1]
and a background capillary map D0::

    I1 = max(I, delta * D0 * Delta)           Delta ~ Beta(a, b)   background capillaries of varying visibility
    I2 = I1 * (noise * N + 1 - noise)         N ~ Beta(a', b')     speckle
    I3 = (I2 + 1e-6) ** Gamma                 Gamma = 1 - gamma + 2 gamma u, u ~ U(0, 1)   local contrast

The shape parameters a, b, a', b' = 10^(2q - 1), q ~ Beta(2, 2), and u live on a coarse control grid that is enlarged
bicubically to the image, so that density, noise and contrast vary smoothly over the field. Each strength (`delta`,
`noise`, `gamma`) switches its part off at 0.

Axis letters: B batch, C channel, H rows, W columns, G control points per axis.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor

SHAPE_RANGE = (0.1, 10.0)
"""Range of the control points of a and b: 10^(2q - 1) for q in [0, 1]."""
SMALLEST_SHAPE = 1e-3
"""Bicubic overshoot of a and b is cut here (K24)."""
GAMMA_OFFSET = 1e-6


@dataclass(frozen=True)
class ContrastGrids:
    """Control grids of the contrast model, each (..., G, G) and broadcast over the image's leading axes."""

    delta_a: torch.Tensor
    delta_b: torch.Tensor
    noise_a: torch.Tensor
    noise_b: torch.Tensor
    gamma: torch.Tensor

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> ContrastGrids:
        """The grids after `function` has been applied to each."""
        return ContrastGrids(*(function(getattr(self, field.name)) for field in fields(self)))


def draw_contrast_grids(
    generator: np.random.Generator, grid: int = 9, leading_shape: tuple[int, ...] = (1,)
) -> ContrastGrids:
    """Draw the control grids: 10^(2q - 1) with q ~ Beta(2, 2) for the four shape parameters, U(0, 1) for gamma.

    Args:
        generator: source of all randomness.
        grid: control points per axis G, at least 2 (K24: 9).
        leading_shape: axes before (G, G), e.g. (B, 1).

    Raises:
        ValueError: if `grid` is below 2.
    """
    if grid < 2:
        raise ValueError(f"grid is {grid}: the control grid needs at least 2 points per axis (K24 uses 9)")
    shape = (*leading_shape, grid, grid)

    def shape_grid() -> torch.Tensor:
        return torch.from_numpy((10.0 ** (2.0 * generator.beta(2.0, 2.0, shape) - 1.0)).astype(np.float32))

    return ContrastGrids(
        delta_a=shape_grid(),
        delta_b=shape_grid(),
        noise_a=shape_grid(),
        noise_b=shape_grid(),
        gamma=torch.from_numpy(generator.random(shape, dtype=np.float32)),
    )


@lru_cache(maxsize=64)
def _bicubic_matrix(points: int, size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(size, points) weights of torch's bicubic interpolation (align_corners=False) along one axis."""
    unit = torch.eye(points, dtype=dtype).reshape(1, points, points, 1)
    weights = F.interpolate(unit, size=(size, 1), mode="bicubic", align_corners=False)[0, :, :, 0].T
    return weights.contiguous().to(device)


def enlarge_grid(grid: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bicubic enlargement (..., G, G) -> (..., H, W), as two small matrix products (7 ms -> 0.1 ms at 304 x 304)."""
    rows = _bicubic_matrix(grid.shape[-2], size[-2], grid.dtype, grid.device)
    columns = _bicubic_matrix(grid.shape[-1], size[-1], grid.dtype, grid.device)
    return rows @ grid @ columns.T


def enlarge_shape_grid(grid: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Per-pixel shape parameter of a beta distribution, (..., H, W), cut at `SMALLEST_SHAPE`."""
    return enlarge_grid(grid, size).clamp_min(SMALLEST_SHAPE)


def sample_beta_field(
    a: torch.Tensor, b: torch.Tensor, generator: np.random.Generator, where: torch.Tensor
) -> torch.Tensor:
    """Independent Beta(a, b) values where `where` is true, 0 elsewhere; all four (..., H, W).

    Exact sampling costs about 0.1 us a value, so it is done only where the value can matter. Tensors on the CPU.
    """
    field = torch.zeros(where.shape, dtype=a.dtype)
    index = where.reshape(-1).nonzero().squeeze(1)
    shape_a = a.expand(where.shape).reshape(-1)[index].numpy()
    shape_b = b.expand(where.shape).reshape(-1)[index].numpy()
    field.view(-1)[index] = torch.from_numpy(generator.beta(shape_a, shape_b)).to(a.dtype)
    return field


BetaSampler = Callable[[torch.Tensor, torch.Tensor, np.random.Generator, torch.Tensor], torch.Tensor]
"""(a, b, generator, where) -> field, as `sample_beta_field`."""


def add_background_capillaries(
    image: torch.Tensor, background: torch.Tensor, delta_field: torch.Tensor, strength: float
) -> torch.Tensor:
    """I1 = max(I, strength * D0 * Delta); all (..., H, W) in [0, 1]."""
    return torch.maximum(image, strength * background * delta_field)


def apply_speckle(image: torch.Tensor, noise_field: torch.Tensor, strength: float) -> torch.Tensor:
    """I2 = I1 (strength * N + 1 - strength); (..., H, W) in [0, 1]."""
    return image * (strength * noise_field + (1.0 - strength))


def apply_local_gamma(image: torch.Tensor, gamma_grid: torch.Tensor, strength: float) -> torch.Tensor:
    """I3 = (I2 + 1e-6)^Gamma, cut to [0, 1], with Gamma = 1 - strength + 2 strength u.

    Args:
        image: (..., H, W) in [0, 1].
        gamma_grid: u, (..., G, G) in [0, 1].
        strength: half the width of the exponent's range, in [0, 1].
    """
    exponent = 1.0 - strength + 2.0 * strength * enlarge_grid(gamma_grid, image.shape).clamp(0.0, 1.0)
    return (image + GAMMA_OFFSET).pow(exponent).clamp(0.0, 1.0)


def apply_vessel_contrast(
    image: torch.Tensor,
    background: torch.Tensor | None,
    grids: ContrastGrids,
    generator: np.random.Generator,
    *,
    delta: float = 1.0,
    noise: float = 0.7,
    gamma: float = 0.3,
    sample_field: BetaSampler = sample_beta_field,
) -> torch.Tensor:
    """RA of K24 with given control grids; the same generator state gives the same image.

    Args:
        image: vessel coverage (..., H, W) in [0, 1].
        background: background capillary coverage, same shape; may be None if `delta` is 0.
        grids: control grids, broadcast over the leading axes of `image`.
        generator: source of the beta values.
        delta: visibility of background capillaries, in [0, 1].
        noise: strength of the speckle, in [0, 1].
        gamma: strength of the local contrast, in [0, 1].
        sample_field: how Beta fields are drawn; the adversarial augmentation gives one with gradients.

    Returns:
        Augmented image, same shape, in [0, 1]; the image itself if all strengths are 0.
    """
    if delta > 0:
        if background is None:
            raise ValueError("delta > 0 needs a background capillary map: give one, or set delta to 0")
        visible = delta * background > image
        a, b = enlarge_shape_grid(grids.delta_a, image.shape), enlarge_shape_grid(grids.delta_b, image.shape)
        image = add_background_capillaries(image, background, sample_field(a, b, generator, visible), delta)
    if noise > 0:
        a, b = enlarge_shape_grid(grids.noise_a, image.shape), enlarge_shape_grid(grids.noise_b, image.shape)
        image = apply_speckle(image, sample_field(a, b, generator, image > 0), noise)
    if gamma > 0:
        image = apply_local_gamma(image, grids.gamma, gamma)
    return image


def check_strength(name: str, value: float) -> float:
    """`value` as a float, if it lies in [0, 1].

    Raises:
        ValueError: otherwise, naming the setting.
    """
    if not 0.0 <= float(value) <= 1.0:
        raise ValueError(f"{name} is {value}: a strength lies between 0 (off) and 1")
    return float(value)


def check_unit_range(image: torch.Tensor, key: Hashable) -> None:
    """Raise a ValueError unless every value lies in [0, 1] (to rounding)."""
    low, high = torch.aminmax(image)
    if not (low >= -1e-5 and high <= 1 + 1e-5):
        raise ValueError(
            f"'{key}' has values from {float(low):.4g} to {float(high):.4g} but the augmentation works on [0, 1]: "
            "scale before it and z-score after it"
        )


class RandVesselContrastd(RandomizableTransform, MapTransform):
    """Random augmentation (RA) of K24: background capillaries, speckle and local contrast on a clean vessel map.

    The result is ``max(I, delta D0 Delta)``, times ``noise N + 1 - noise``, to the power Gamma (see the module's text).

    Args:
        keys: images, (C, H, W) in [0, 1]; each gets its own draw.
        background_key: background capillary coverage D0, (1, H, W) in [0, 1] like the image. Its entry stays in the
            sample; if the sample has none, `pool` is used.
        pool: background maps, each (1, h, w) or (h, w) with h >= H and w >= W, from which a window is taken at random
            and turned at random (8 symmetries for square windows).
        delta, noise, gamma: strengths in [0, 1]; 0 switches the part off (K24: 1, 0.7, 0.3; its mild setting 0.7, 0.5,
            0.1 with `prob` 0.5).
        grid: control points per axis (K24: 9).
        prob: probability that a sample is augmented at all.
        allow_missing_keys: skip keys that a sample lacks.

    Raises:
        ValueError: for a strength outside [0, 1], an image outside [0, 1], a background of another shape, or no
            background although `delta` > 0.

    Examples:
        >>> augment = RandVesselContrastd(keys="image", noise=0.5).set_random_state(seed=0)
        >>> sample = augment({"image": torch.rand(1, 64, 64), "background": torch.rand(1, 64, 64)})
    """

    def __init__(
        self,
        keys: KeysCollection,
        background_key: str = "background",
        pool: Sequence[torch.Tensor | np.ndarray] | None = None,
        *,
        delta: float = 1.0,
        noise: float = 0.7,
        gamma: float = 0.3,
        grid: int = 9,
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.background_key = background_key
        self.pool = [torch.as_tensor(item, dtype=torch.float32).reshape(-1, *item.shape[-2:]) for item in pool or ()]
        self.delta = check_strength("delta", delta)
        self.noise = check_strength("noise", noise)
        self.gamma = check_strength("gamma", gamma)
        self.grid = grid
        self.generator = np.random.default_rng(0)
        self.grids = draw_contrast_grids(self.generator, grid)

    def randomize(self, data: Any | None = None) -> None:
        super().randomize(None)
        if not self._do_transform:
            return
        # one word of MONAI's seeded state feeds a modern generator: beta values at 2/3 of the cost of RandomState
        self.generator = np.random.default_rng(int(self.R.randint(2**32, dtype=np.uint32)))
        self.grids = draw_contrast_grids(self.generator, self.grid)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            self.randomize()
            if not self._do_transform:
                continue
            image = convert_to_tensor(sample[key], dtype=torch.float32, track_meta=False)
            check_unit_range(image, key)
            background = self._background(sample, image) if self.delta > 0 else None
            result = apply_vessel_contrast(
                image.clamp(0.0, 1.0),
                background,
                self.grids,
                self.generator,
                delta=self.delta,
                noise=self.noise,
                gamma=self.gamma,
            )
            sample[key] = convert_to_dst_type(result, sample[key])[0]
        return sample

    def _background(self, sample: Mapping[Hashable, Any], image: torch.Tensor) -> torch.Tensor:
        if self.background_key in sample:
            background = convert_to_tensor(sample[self.background_key], dtype=torch.float32, track_meta=False)
        elif self.pool:
            background = self._window(self.pool[int(self.generator.integers(len(self.pool)))], image.shape[-2:])
        else:
            raise ValueError(
                f"the sample has no '{self.background_key}' and no pool was given: add a background capillary map "
                "(a dense simulation of the deep plexus without FAZ), or set delta to 0"
            )
        if background.shape[-2:] != image.shape[-2:]:
            raise ValueError(
                f"'{self.background_key}' is {tuple(background.shape)} but the image is {tuple(image.shape)}: "
                "crop and resize both alike"
            )
        check_unit_range(background, self.background_key)
        return background.expand_as(image)

    def _window(self, background: torch.Tensor, size: torch.Size) -> torch.Tensor:
        spare = [background.shape[axis - 2] - size[axis] for axis in (0, 1)]
        if min(spare) < 0:
            raise ValueError(f"a background of {tuple(background.shape)} is smaller than the image {tuple(size)}")
        row, column = (int(self.generator.integers(s + 1)) for s in spare)
        window = background[..., row : row + size[0], column : column + size[1]]
        flips = [axis for axis in (-2, -1) if self.generator.random() < 0.5]
        window = window.flip(flips)
        return window.transpose(-2, -1) if size[0] == size[1] and self.generator.random() < 0.5 else window
