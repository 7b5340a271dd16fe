"""M22 augmentation: vessel-like noise, quantum noise, vitreous floaters, eye motion and uneven brightness.

Source: Menten et al., "Physiology-based simulation of the retinal vasculature enables annotation-free segmentation of
OCT angiographs", MICCAI 2022 (LNCS 13438, 330-340); numbers as in the public code of Kreitner et al. 2024, save that a
floater keeps its drawn opacity (there, the dilation makes it opaque).

Axis letters: C channel, H rows (slow scan axis), W columns.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor
from scipy import ndimage
from skimage.draw import line

CUT_MARGIN = 10
"""Motion happens at least this many rows away from the top and the bottom."""
FOVEA_RADII = (48.0, 45.0, 42.0, 39.0, 36.0)
"""Radii in pixels of 9.87 um of the nested central discs, each of which dampens the vessel noise by 0.7."""


def vessel_noise(
    shape: Sequence[int],
    generator: np.random.Generator,
    *,
    density: float = 0.1,
    centre: Sequence[float] | None = (0.5, 0.5),
    radii: Sequence[float] = FOVEA_RADII,
) -> np.ndarray:
    """Grain that looks like unresolved capillaries: (H, W) float32 in [0, 1].

    Bernoulli(`density`) pixels, dilated once by a cross, dampened in nested discs around the fovea, blurred (sigma 1).

    Args:
        shape: (H, W).
        generator: source of randomness.
        density: probability of a seed pixel.
        centre: fovea as fractions of H and W; None for an image without fovea (a crop).
        radii: disc radii in pixels.
    """
    grain = ndimage.binary_dilation(generator.random(tuple(shape)) < density).astype(np.float32)
    if centre is not None:
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        distance = np.hypot(rows + 0.5 - centre[0] * shape[0], columns + 0.5 - centre[1] * shape[1])
        for radius in radii:
            grain[distance <= radius] *= 0.7
    return ndimage.gaussian_filter(grain, 1.0)


def floater_shadow(shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
    """Shadow of a vitreous floater, (H, W) float32 in [0, 1]: opacity of a dilated random polyline, blurred (sigma 10).

    10 to 19 segments with steps N(0, size / 10), dilated 10 to 29 times by a cross, opacity U(0.5, 1).
    """
    height, width = shape
    count = int(generator.integers(10, 20))
    start = generator.uniform((0, 0), (height, width))
    steps = generator.normal(0.0, (height / 10, width / 10), (count, 2))
    points = np.rint(np.vstack([start, start + np.cumsum(steps, axis=0)])).astype(int)
    drawn = np.zeros((height, width), bool)
    for (row0, column0), (row1, column1) in pairwise(points):
        rows, columns = line(row0, column0, row1, column1)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        drawn[rows[inside], columns[inside]] = True
    dilations = int(generator.integers(10, 30))
    opacity = generator.uniform(0.5, 1.0)
    if not drawn.any():
        return np.zeros((height, width), np.float32)
    # dilating n times by a cross reaches every pixel within city-block distance n
    reached = ndimage.distance_transform_cdt(~drawn, metric="taxicab") <= dilations
    return ndimage.gaussian_filter(opacity * reached.astype(np.float32), 10.0)


@dataclass(frozen=True)
class ScanMotion:
    """Where each row of a moved scan comes from.

    rows: (H,) index of the still row that was scanned; shift: (H,) pixels by which it is moved to the right;
    white: (H,) brightness in [0, 1] that hides the row, 0 where it is not hidden.
    """

    rows: np.ndarray
    shift: np.ndarray
    white: np.ndarray


def draw_scan_motion(
    height: int,
    generator: np.random.Generator,
    *,
    cuts: int = 2,
    shear: float = 0.3,
    stretch: float = 0.3,
    buckle: float = 0.3,
    whiteout: float = 0.1,
) -> ScanMotion:
    """Draw 0 to `cuts` motion events, each at a row U(10, H - 10).

    Args:
        height: number of rows H.
        generator: source of randomness.
        cuts: largest number of events.
        shear: probability that everything below is moved sideways by up to 5 pixels.
        stretch: probability that the row is scanned 1 to 5 more times (the eye follows the scan).
        buckle: probability that the last 1 to 5 rows are scanned again (the eye jumps back).
        whiteout: probability that the row is lost in a white line of brightness U(0.5, 1).
    """
    rows: np.ndarray = np.arange(height)
    shift: np.ndarray = np.zeros(height, int)
    white: np.ndarray = np.zeros(height)
    if height <= 2 * CUT_MARGIN:
        return ScanMotion(rows, shift, white)
    for _ in range(int(generator.integers(cuts + 1))):
        cut = int(generator.integers(CUT_MARGIN, height - CUT_MARGIN))
        chances = generator.random(4)
        if chances[0] < shear:
            shift[cut:] += int(generator.integers(-5, 6))
        if chances[1] < stretch:
            repeats = int(generator.integers(1, 6))
            order = np.insert(np.arange(height), cut, np.full(repeats, cut))[:height]
            rows, shift, white = rows[order], shift[order], white[order]
        if chances[2] < buckle:
            length = int(generator.integers(1, 6))
            order = np.insert(np.arange(height), cut, np.arange(cut - length, cut))[:height]
            rows, shift, white = rows[order], shift[order], white[order]
        if chances[3] < whiteout:
            white[cut] = generator.uniform(0.5, 1.0)
    return ScanMotion(rows, shift, white)


def apply_scan_motion(image: torch.Tensor, motion: ScanMotion, *, whiten: bool) -> torch.Tensor:
    """Move the rows of (C, kH, kW) by a motion drawn for H rows; k is a positive integer (labels may be finer).

    At the sides the image is mirrored, so that image and label agree there as well.

    Args:
        image: image or label.
        motion: motion of H rows.
        whiten: also paint the white rows (images, not labels).

    Raises:
        ValueError: if the number of rows is no multiple of the motion's, or k does not divide the columns.
    """
    height = len(motion.rows)
    factor, rest = divmod(image.shape[-2], height)
    if rest or not factor or image.shape[-1] % factor:
        raise ValueError(
            f"an image of {tuple(image.shape[-2:])} pixels cannot follow a motion drawn for {height} rows: "
            "its size must be the same or an integer multiple"
        )
    width = image.shape[-1] // factor
    within = np.arange(factor)
    columns = np.abs(np.arange(width)[None, :] - motion.shift[:, None])
    columns = np.where(columns >= width, 2 * (width - 1) - columns, columns)
    columns = (columns[:, :, None] * factor + within).reshape(height, -1).repeat(factor, axis=0)
    rows = (motion.rows[:, None] * factor + within).reshape(-1)
    moved = image[..., torch.from_numpy(rows[:, None]), torch.from_numpy(columns)]
    if whiten and motion.white.any():
        white = torch.from_numpy(np.repeat(motion.white, factor)).to(moved)[:, None]
        moved = torch.where(white > 0, white, moved)
    return moved


def uneven_brightness(
    image: torch.Tensor, generator: np.random.Generator, *, lowest: float = 0.5, grid: int = 9
) -> torch.Tensor:
    """I (C - u (1 - C)) with C a bilinear field of U(lowest, 1) control points and u ~ U(0, 1) per pixel; (C, H, W)."""
    points = torch.from_numpy(generator.uniform(lowest, 1.0, (1, 1, grid, grid)).astype(np.float32))
    brightness = F.interpolate(points, size=image.shape[-2:], mode="bilinear", align_corners=False)[0]
    flicker = torch.from_numpy(generator.random(tuple(image.shape[-2:]), dtype=np.float32))
    return (image * (brightness - flicker * (1.0 - brightness))).clamp(0.0, 1.0)


class RandMentenAugmentationd(RandomizableTransform):
    """M22 augmentation of a clean vessel map; motion moves the label alike.

    Args:
        image_key: image (1, H, W) in [0, 1].
        label_key: label (C, kH, kW), k a positive integer; None if there is none.
        vessel_noise: weight of the vessel noise (0.5; 0: off).
        quantum_noise: largest value of the uniform noise (0.2; 0: off).
        fovea: fovea as fractions of H and W, around which vessel noise is dampened; None for crops.
        floater: probability of a vitreous floater (0.1).
        cuts: largest number of motion events (2; 0: no motion).
        shear, stretch, buckle, whiteout: probabilities at each event (0.3, 0.3, 0.3, 0.1).
        brightness: 1 - lowest local brightness (0.5; 0: off).
        prob: probability that a sample is augmented at all.

    Raises:
        ValueError: if the label's rows are no multiple of the image's.
    """

    def __init__(
        self,
        image_key: str = "image",
        label_key: str | None = "label",
        *,
        vessel_noise: float = 0.5,
        quantum_noise: float = 0.2,
        fovea: Sequence[float] | None = (0.5, 0.5),
        floater: float = 0.1,
        cuts: int = 2,
        shear: float = 0.3,
        stretch: float = 0.3,
        buckle: float = 0.3,
        whiteout: float = 0.1,
        brightness: float = 0.5,
        prob: float = 1.0,
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        self.image_key, self.label_key, self.fovea = image_key, label_key, fovea
        self.vessel_noise, self.quantum_noise, self.floater = vessel_noise, quantum_noise, floater
        self.cuts, self.brightness = cuts, brightness
        self.events = {"shear": shear, "stretch": stretch, "buckle": buckle, "whiteout": whiteout}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return sample
        generator = np.random.default_rng(int(self.R.randint(2**32, dtype=np.uint32)))
        image = convert_to_tensor(sample[self.image_key], dtype=torch.float32, track_meta=False)
        image = self._add_noise(image, generator)
        if generator.random() < self.floater:
            image = image * (1.0 - torch.from_numpy(floater_shadow(image.shape[-2:], generator)))
        if self.cuts:
            motion = draw_scan_motion(image.shape[-2], generator, cuts=self.cuts, **self.events)
            image = apply_scan_motion(image, motion, whiten=True)
            if self.label_key is not None:
                label = convert_to_tensor(sample[self.label_key], track_meta=False)
                moved = apply_scan_motion(label, motion, whiten=False)
                sample[self.label_key] = convert_to_dst_type(moved, sample[self.label_key])[0]
        if self.brightness > 0:
            image = uneven_brightness(image, generator, lowest=1.0 - self.brightness)
        sample[self.image_key] = convert_to_dst_type(image, sample[self.image_key])[0]
        return sample

    def _add_noise(self, image: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        """clip((I + v + q) / (1 + 0.5 / 1.5), 0, 1), left out if both noises are off."""
        if not self.vessel_noise and not self.quantum_noise:
            return image
        noise = torch.zeros(image.shape[-2:])
        if self.vessel_noise:
            grain = vessel_noise(image.shape[-2:], generator, centre=self.fovea)
            noise = noise + self.vessel_noise * torch.from_numpy(grain)
        if self.quantum_noise:
            noise = noise + self.quantum_noise * torch.from_numpy(
                generator.random(tuple(image.shape[-2:]), dtype=np.float32)
            )
        return ((image + noise) / (1.0 + 0.5 / 1.5)).clamp(0.0, 1.0)
