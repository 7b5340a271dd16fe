"""Where the left ventricle is: the planes of the long-axis views, and what moves at the rate of the heart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from clinbundles.cine.cine_exam import CineView
from clinbundles.cine.find_views import meeting_point

_EDGE_MM = 2.0
_RADII_MM = np.arange(8.0, 38.0, 2.0)
_REACH_MM = 160.0  # of the accumulator to each side of the stack's middle
_CELL_MM = 2.0
_BLUR_MM = 5.0
_VOTING_SLICES = (0.2, 0.9)  # from base to apex
_CANDIDATES = 3
_APART_MM = 15.0
_RV_MM = (32.0, 85.0)  # from the LV axis
_RV_SLICES = (0.2, 0.6)


def rough_lv_centres(sax: CineView, axes: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Where the moving round edges of the short-axis stack point to: up to 3 places, the likeliest first.

    Every pixel votes for the points 8 to 36 mm ahead along its brightness gradient (from muscle to blood and from lung
    to muscle alike, this is towards the middle of the left ventricle), weighted by its change in time (first harmonic).
    Votes of all slices add up on the long axis; those of the right ventricle, of vessels and of the chest wall do not
    (a Hough transform for circles of any radius). Every slice has the same say; the fifth at the base, with the atria
    and great vessels, and the tenth at the apex have none.

    Args:
        sax: the stack.
        axes: (3, 3) columns of the exam frame.

    Returns:
        points (3,) in RAS mm, at the height of the stack's middle, and their votes relative to the first.
    """
    phases = sax.image.shape[3]
    wave = np.exp(-2j * np.pi * np.arange(phases) / phases)
    cells = int(2 * _REACH_MM / _CELL_MM)
    middle = sax.centres.mean(axis=0)
    votes = np.zeros(cells * cells)
    blur = [_EDGE_MM / mm for mm in sax.pixel_mm]
    last = len(sax.affines) - 1
    for k, affine in enumerate(sax.affines):
        if not _VOTING_SLICES[0] <= k / last <= _VOTING_SLICES[1]:
            continue
        image = sax.image[:, :, k]
        energy = np.hypot(image @ wave.real.astype(np.float32), image @ wave.imag.astype(np.float32))
        mean = gaussian_filter(image.mean(axis=-1), blur)
        slope = np.stack(np.gradient(mean, *sax.pixel_mm), axis=-1)
        steepness = np.linalg.norm(slope, axis=-1)
        weight = energy * steepness
        chosen = np.nonzero(weight > np.quantile(weight, 1 - _voting_share(sax)))
        weight = np.sqrt(weight[chosen])
        across = affine[:3, :2] @ np.diag(1 / np.asarray(sax.pixel_mm))
        towards = (slope[chosen] / np.maximum(steepness[chosen], 1e-9)[:, None]) @ across.T @ axes[:, :2]
        index = np.stack(chosen, axis=1).astype(float)
        points = (index @ affine[:3, :2].T + affine[:3, 3] - middle) @ axes[:, :2]
        aims = points[:, None] + _RADII_MM[:, None] * towards[:, None]
        cell = np.round((aims + _REACH_MM) / _CELL_MM).astype(int)
        inside = ((cell >= 0) & (cell < cells)).all(axis=-1)
        flat = cell[..., 0] * cells + cell[..., 1]
        share = np.broadcast_to(weight[:, None] / weight.sum(), flat.shape)
        votes += np.bincount(flat[inside], weights=share[inside], minlength=cells * cells)
    smooth = gaussian_filter(votes.reshape(cells, cells), _BLUR_MM / _CELL_MM)
    places = (np.arange(cells) * _CELL_MM - _REACH_MM)[:, None], (np.arange(cells) * _CELL_MM - _REACH_MM)[None]
    found: list[tuple[np.ndarray, float]] = []
    highest = float(smooth.max())
    while len(found) < _CANDIDATES:
        i, j = np.unravel_index(int(smooth.argmax()), smooth.shape)
        best = np.array([i, j]) * _CELL_MM - _REACH_MM
        found.append((middle + axes[:, :2] @ best, float(smooth[i, j]) / highest))
        smooth[(places[0] - best[0]) ** 2 + (places[1] - best[1]) ** 2 < _APART_MM**2] = 0
    return found


def _voting_share(sax: CineView) -> float:
    """Of a slice's pixels: as many as cover the edges of a heart, 40 cm2."""
    area = sax.image.shape[0] * sax.image.shape[1] * sax.pixel_mm[0] * sax.pixel_mm[1]
    return float(min(0.25, 4000.0 / area))


def right_ventricle_angle(sax: CineView, axes: np.ndarray, centre: np.ndarray) -> float:
    """Direction from the LV axis to what else moves, the right ventricle: degrees from x (lateral) to y (inferior).

    Mean direction of the pixels 32 to 85 mm from the axis in the basal half, weighted by their first harmonic.

    Args:
        sax: the stack.
        axes: (3, 3) columns of the exam frame.
        centre: (3,) a point of the LV axis, RAS mm.
    """
    wave = np.exp(-2j * np.pi * np.arange(sax.image.shape[3]) / sax.image.shape[3])
    last = len(sax.affines) - 1
    total = np.zeros(2)
    for k, affine in enumerate(sax.affines):
        if not _RV_SLICES[0] <= k / last <= _RV_SLICES[1]:
            continue
        image = sax.image[:, :, k]
        energy = np.hypot(image @ wave.real.astype(np.float32), image @ wave.imag.astype(np.float32))
        i, j = np.ogrid[: image.shape[0], : image.shape[1]]
        to_plane = axes[:, :2].T @ affine[:3, :2]
        start = axes[:, :2].T @ (affine[:3, 3] - centre)
        x, y = (to_plane[row, 0] * i + to_plane[row, 1] * j + start[row] for row in range(2))
        distance = np.hypot(x, y)
        weight = np.where((distance > _RV_MM[0]) & (distance < _RV_MM[1]), energy / np.maximum(distance, 1), 0)
        total += np.array([(weight * x).sum(), (weight * y).sum()]) / max(float(energy.sum()), 1e-9)
    return float(np.degrees(np.arctan2(total[1], total[0])))


def lv_centre(lax: Sequence[CineView], axes: np.ndarray, rough_centre: np.ndarray) -> np.ndarray:
    """(3,) estimated LV centre, RAS mm: the origin of the exam frame.

    Across the long axis it is the point where the long-axis planes meet best, the rough centre counting as half a plane
    in each direction; without planes it is the rough centre. Along the axis it is the middle of the stack.

    Args:
        lax: named long-axis views of the LV, any number.
        axes: (3, 3) columns of the exam frame.
        rough_centre: (3,) RAS mm, of :func:`rough_lv_centres`.
    """
    return meeting_point([(view.normals[0], view.centres[0]) for view in lax], axes, rough_centre)
