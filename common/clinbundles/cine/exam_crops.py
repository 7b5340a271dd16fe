"""From native slices to the grids on which motion is computed; all coordinates in the exam frame, mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from clinbundles.cine.cine_exam import CineExamError, CineView
from clinbundles.cine.exam_frame import rigid_inverse
from clinbundles.motion.motion_grid import GRID_SIZE, GRID_SPACING_MM, grid_affine

PLANE_SIZE = (64, 64)
PLANE_PIXEL_MM = 2.0
LARGEST_OUTSIDE = 0.25  # of a crop: planned for the atrium too, images of 128 mm leave up to 22 % outside
_PERCENTILES = (0.01, 0.99)
_MANY_VALUES = 200_000


def slice_poses(view: CineView, frame_to_world: np.ndarray) -> np.ndarray:
    """(K, 3, 4) of every slice: (x, y, z, 1) in exam mm to (i, j, n), native pixels and signed distance in mm.

    n grows along i cross j.
    """
    poses = np.empty((len(view.affines), 3, 4))
    for k, affine in enumerate(rigid_inverse(frame_to_world) @ view.affines):
        rigid = affine.copy()
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        rigid[:3, 2] = normal / np.linalg.norm(normal)
        poses[k] = np.linalg.inv(rigid)[:3]
    return poses


def crop_pose(pose: np.ndarray, pixel_mm: Sequence[float], size: Sequence[int], crop_mm: float) -> np.ndarray:
    """(3, 4) pose of a crop of a slice, centred on the projection of the origin.

    The crop's pixels run along the slice's own; where their size is the same (within 1 per mille) the centre is moved
    by less than a pixel onto the slice's pixels, so that cropping copies values.
    """
    zoom = np.asarray(pixel_mm, dtype=float) / crop_mm
    middle = (np.asarray(size) - 1) / 2
    crop = pose.copy()
    crop[:2] *= zoom[:, None]
    shift = middle - crop[:2, 3]
    if np.abs(zoom - 1).max() < 1e-3:
        # crop index = native index + whole number
        crop[:2] = pose[:2]
        shift = np.round(middle - pose[:2, 3])
    crop[:2, 3] += shift
    return crop


def crop_slices(
    images: Tensor, poses: np.ndarray, crops: np.ndarray, size: Sequence[int], mode: str = "bilinear"
) -> tuple[Tensor, Tensor]:
    """Resample slices in their own planes; zero outside.

    Args:
        images: (K, T, I, J).
        poses: (K, 3, 4) of the slices, exam mm to native (i, j, n).
        crops: (K, 3, 4) of the crops, with the same axes in the plane.
        size: (I', J') of the crops.
        mode: "bilinear" or "nearest".

    Returns:
        (K, T, I', J') and the share (K,) of each crop's pixels that lie outside its slice.
    """
    index_i = torch.arange(size[0], dtype=torch.float32)
    index_j = torch.arange(size[1], dtype=torch.float32)
    grids, outside = [], []
    for k in range(len(images)):
        axes = []
        for axis, index in enumerate((index_i, index_j)):
            zoom = float(np.linalg.norm(poses[k, axis, :3]) / np.linalg.norm(crops[k, axis, :3]))
            offset = float(poses[k, axis, 3] - crops[k, axis, 3] * zoom)
            native = index * zoom + offset
            rounded = native.round()
            axes.append(torch.where((native - rounded).abs() < 1e-3, rounded, native))
        inside = [(a >= -0.5) & (a <= n - 0.5) for a, n in zip(axes, images.shape[2:], strict=True)]
        outside.append(1 - float(inside[0].float().mean() * inside[1].float().mean()))
        grids.append(_normalised(axes[0][:, None].expand(*size), axes[1][None].expand(*size), images.shape[2:]))
    sampled = grid_sample(images, torch.stack(grids), mode=mode, padding_mode="zeros", align_corners=True)
    return sampled, torch.tensor(outside)


def _normalised(i: Tensor, j: Tensor, size: Sequence[int]) -> Tensor:
    """Pixel indices to the coordinates of ``grid_sample`` with align_corners: last axis of the image first."""
    return torch.stack([2 * j / max(size[1] - 1, 1) - 1, 2 * i / max(size[0] - 1, 1) - 1], dim=-1)


def stack_on_grid(
    images: Tensor,
    poses: np.ndarray,
    size: Sequence[int] = GRID_SIZE,
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
) -> tuple[Tensor, float]:
    """A short-axis stack on the motion grid: bilinear in every slice, then linear between slices.

    The slices are parallel to the grid's x-y plane (the exam frame's z is their normal), whatever their distances.
    Beyond the first and last slice the image goes on for half a slice distance and is zero further out.

    Args:
        images: (K, T, I, J).
        poses: (K, 3, 4) of the slices.
        size: voxels of the grid.
        spacing_mm: of the grid.

    Returns:
        (T, X, Y, Z), and the share of the grid's area in the plane that lies outside the slices.
    """
    affine = grid_affine(size, spacing_mm).numpy()
    x = affine[0, 0] * np.arange(size[0]) + affine[0, 3]
    y = affine[1, 1] * np.arange(size[1]) + affine[1, 3]
    heights = -poses[:, 2, 3] / poses[:, 2, 2]
    columns, rows = np.meshgrid(x, y, indexing="ij")
    grids, outside = [], 0.0
    for pose, height in zip(poses, heights, strict=True):
        points = np.stack([columns, rows, np.full_like(columns, height)], axis=-1)
        index = points @ pose[:2, :3].T + pose[:2, 3]
        beyond = (index < -0.5) | (index > np.asarray(images.shape[2:]) - 0.5)
        outside = max(outside, float(beyond.any(axis=-1).mean()))
        native = torch.from_numpy(index).float()
        grids.append(_normalised(native[..., 0], native[..., 1], images.shape[2:]))
    planes = grid_sample(images, torch.stack(grids), mode="bilinear", padding_mode="zeros", align_corners=True)
    z = affine[2, 2] * np.arange(size[2]) + affine[2, 3]
    weights = torch.from_numpy(_between_slices(heights, z)).float()
    return torch.einsum("zk,ktxy->txyz", weights, planes), outside


def _between_slices(heights: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(Z, K) weights of linear interpolation between slices at any heights."""
    order = np.argsort(heights)
    ordered = heights[order]
    gap = np.diff(ordered)
    reach_low, reach_high = gap[0] / 2, gap[-1] / 2
    weights = np.zeros((len(z), len(heights)))
    for row, value in enumerate(z):
        if value < ordered[0] - reach_low or value > ordered[-1] + reach_high:
            continue
        clamped = float(np.clip(value, ordered[0], ordered[-1]))
        above = int(np.clip(np.searchsorted(ordered, clamped), 1, len(ordered) - 1))
        share = (clamped - ordered[above - 1]) / gap[above - 1]
        weights[row, order[above - 1]] = 1 - share
        weights[row, order[above]] = share
    return weights


def intensity_range(crop: Tensor) -> tuple[float, float]:
    """The 1st and 99th percentile of a view around the heart over the whole cycle.

    Of the crop and not of the whole image, as fields of view differ in how much air and chest wall they hold.
    """
    values = crop.reshape(-1)
    values = values[:: max(1, len(values) // _MANY_VALUES)].sort().values
    low, high = (float(values[round(share * (len(values) - 1))]) for share in _PERCENTILES)
    return low, high if high > low else low + 1.0


def rescale(image: Tensor, limits: tuple[float, float]) -> Tensor:
    """Values to [0, 1], clipped."""
    return ((image - limits[0]) / (limits[1] - limits[0])).clamp(0, 1)


def refuse_outside(share: float, where: str, what: str) -> None:
    """Raise where too much of a crop has no image.

    Raises:
        CineExamError: more than a quarter.
    """
    if share > LARGEST_OUTSIDE:
        raise CineExamError(
            f"{where}: {share:.0%} of the {what} around the left ventricle lies outside the image (at most "
            f"{LARGEST_OUTSIDE:.0%}): the field of view is too small, or the affine is wrong"
        )
