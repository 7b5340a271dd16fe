"""Eye motion during a raster scan: drift, saccades, bulk-motion lines and the seam of two merged scans.

A scan takes rows one after another, so motion shows as a displacement that changes from row to row. The displacement
tells for each pixel of the scan where on the retina it was taken; image and truth follow the same one.

Axis letters: H rows (slow axis, time), W columns (fast axis).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates


@dataclass(frozen=True)
class EyeMotion:
    """Motion of one scan.

    Attributes:
        displacement: (2, H, W) pixels; scan pixel (i, j) shows the retina at (i + d[0, i, j], j + d[1, i, j]).
        bulk: (H,) in [0, 1], loss of correlation of the whole row by motion between its repeats.
        gain: (H, W) brightness, 1 but for the second of two merged scans.
        saccade_rows: rows at which the gaze jumps.
    """

    displacement: np.ndarray
    bulk: np.ndarray
    gain: np.ndarray
    saccade_rows: tuple[int, ...]


def draw_eye_motion(
    shape: tuple[int, int],
    generator: np.random.Generator,
    *,
    drift_px: float = 0.05,
    saccades: int = 3,
    jump_px: tuple[float, float] = (1.0, 8.0),
    lost_rows: int = 3,
    bulk_rows: int = 4,
    merge_probability: float = 0.3,
) -> EyeMotion:
    """Draw the motion of one scan; ranges as in the test recipe of this bundle's documentation.

    Args:
        shape: (H, W).
        generator: source of randomness.
        drift_px: standard deviation of the random walk per row, in both directions.
        saccades: largest number of jumps.
        jump_px: range of a jump along the rows, either sign.
        lost_rows: at a jump up to this many rows are skipped or scanned again.
        bulk_rows: largest number of bright lines besides those of the saccades.
        merge_probability: probability that the scan is merged from two, with a seam, an offset and another gain.
    """
    height, width = shape
    walk = np.cumsum(generator.normal(0.0, drift_px, (2, height)), axis=1)
    bulk = np.zeros(height)
    rows = np.sort(generator.integers(height // 20, height - height // 20, generator.integers(saccades + 1)))
    for row in rows:
        walk[1, row:] += generator.choice((-1.0, 1.0)) * generator.uniform(*jump_px)
        walk[0, row:] += generator.integers(-lost_rows, lost_rows + 1)
        bulk[row] = generator.uniform(0.3, 0.9)
    for row in generator.integers(height, size=generator.integers(bulk_rows + 1)):
        thickness = generator.integers(1, 4)
        bulk[row : row + thickness] = np.maximum(bulk[row : row + thickness], generator.uniform(0.05, 0.6))
    walk -= walk.mean(axis=1, keepdims=True)  # the fixation target is in the middle
    displacement = np.repeat(walk[:, :, None], width, axis=2)
    gain = np.ones(shape)
    if generator.random() < merge_probability:
        seam = generator.integers(height // 4, 3 * height // 4)
        second = np.zeros(shape, bool)
        if generator.random() < 0.5:
            second[seam:] = True
        else:
            second[:, seam:] = True
        displacement[:, second] += generator.uniform(-2.0, 2.0, (2, 1))
        gain[second] *= generator.uniform(0.85, 1.15)
    return EyeMotion(displacement, bulk, gain, tuple(int(row) for row in rows))


def displace(image: np.ndarray, displacement: np.ndarray, order: int = 1) -> np.ndarray:
    """The scan of a still retina: (H, W), sampled at each pixel's place plus `displacement` (2, H, W) in pixels.

    Args:
        image: still retina.
        displacement: see `EyeMotion`.
        order: 0 nearest neighbour (labels), 1 linear. Outside the field the image is mirrored.
    """
    places = np.indices(image.shape, dtype=np.float64) + displacement
    if image.dtype == bool:
        return map_coordinates(image.astype(np.uint8), places, order=0, mode="mirror") > 0
    return map_coordinates(image, places, order=order, mode="mirror")
