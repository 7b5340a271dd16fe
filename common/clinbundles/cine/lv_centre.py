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


def rough_lv_centre(sax: CineView, axes: np.ndarray) -> np.ndarray:
    """(3,) where the moving round edges of the short-axis stack point to, RAS mm; its height is the stack's middle.

    Every pixel votes for the points 8 to 36 mm ahead along its brightness gradient (from muscle to blood and from lung
    to muscle alike, this is towards the middle of the left ventricle), weighted by its change in time (first harmonic).
    Votes of all slices add up on the long axis; those of the right ventricle, of vessels and of the chest wall do not
    (a Hough transform for circles of any radius). Every slice has the same say.

    Args:
        sax: the stack.
        axes: (3, 3) columns of the exam frame.
    """
    phases = sax.image.shape[3]
    wave = np.exp(-2j * np.pi * np.arange(phases) / phases)
    cells = int(2 * _REACH_MM / _CELL_MM)
    middle = sax.centres.mean(axis=0)
    votes = np.zeros(cells * cells)
    blur = [_EDGE_MM / mm for mm in sax.pixel_mm]
    for k, affine in enumerate(sax.affines):
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
    best = np.array(np.unravel_index(int(smooth.argmax()), smooth.shape)) * _CELL_MM - _REACH_MM
    return middle + axes[:, :2] @ best


def _voting_share(sax: CineView) -> float:
    """Of a slice's pixels: as many as cover the edges of a heart, 40 cm2."""
    area = sax.image.shape[0] * sax.image.shape[1] * sax.pixel_mm[0] * sax.pixel_mm[1]
    return float(min(0.25, 4000.0 / area))


def lv_centre(
    sax: CineView, lax: Sequence[CineView], axes: np.ndarray, rough_centre: np.ndarray | None = None
) -> np.ndarray:
    """(3,) estimated LV centre, RAS mm: the origin of the exam frame.

    Across the long axis it is the point where the long-axis planes meet; with a single plane, the point of it nearest
    to the moving pixels of the short axis, without any, those alone. Along the axis it is the middle of the stack.

    Args:
        sax: the stack.
        lax: named long-axis views of the LV, any number.
        axes: (3, 3) columns of the exam frame.
        rough_centre: of :func:`rough_lv_centre`, if it is known already.
    """
    rough = rough_lv_centre(sax, axes) if rough_centre is None else rough_centre
    return meeting_point([(view.normals[0], view.centres[0]) for view in lax], axes, rough)
