"""Chamfer distance between point clouds, with PyTorch3D's name and meaning, by a k-d tree instead of all pairs."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity

from clinbundles.rasterizer.nearest_points import nearest_by_brute_force, nearest_by_tree


def chamfer_distance(
    x: torch.Tensor,
    y: torch.Tensor,
    x_lengths: torch.Tensor | None = None,
    y_lengths: torch.Tensor | None = None,
    x_normals: torch.Tensor | None = None,
    y_normals: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    batch_reduction: str | None = "mean",
    point_reduction: str = "mean",
    norm: int = 2,
    single_directional: bool = False,
    abs_cosine: bool = True,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Mean over x of the squared distance to the nearest point of y, plus the same with x and y exchanged.

    Args:
        x: [N, P1, D] points, N clouds.
        y: [N, P2, D] points.
        x_lengths: [N] number of points of each cloud; the rest of its row is padding. All, if None.
        y_lengths: [N], likewise.
        x_normals: [N, P1, D]; with both normals, the second result is the mean of 1 - |cos| of those of neighbours.
        y_normals: [N, P2, D].
        weights: [N] of the clouds, not negative.
        batch_reduction: "mean" (weighted), "sum", or None: a number for each cloud.
        point_reduction: "mean" or "sum" over the points.
        norm: 2, the squared Euclidean distance, or 1, the sum of absolute differences.
        single_directional: only from x to y.
        abs_cosine: False takes 1 - cos instead of 1 - |cos|.

    Returns:
        The distance and the term of the normals, or None without normals.

    The gradient is exact: the indices of the neighbours come from a k-d tree (on a GPU from all distances), the
    distances from PyTorch.

    Source: Fan et al., CVPR 2017; `pytorch3d.loss.chamfer_distance` 0.7.9, but for its point_reduction None and "max".
    """
    if batch_reduction not in ("mean", "sum", None):
        raise ValueError(f"batch_reduction is {batch_reduction!r}, but must be 'mean', 'sum' or None")
    if point_reduction not in ("mean", "sum"):
        raise ValueError(f"point_reduction is {point_reduction!r}, but must be 'mean' or 'sum'")
    if norm not in (1, 2):
        raise ValueError(f"norm is {norm}, but must be 1 or 2")
    if x.ndim != 3 or y.ndim != 3 or x.shape[0] != y.shape[0] or x.shape[2] != y.shape[2]:
        raise ValueError(
            f"x {tuple(x.shape)} and y {tuple(y.shape)} must be [N, P1, D] and [N, P2, D] with the same N and D"
        )
    if weights is not None and (weights.shape != x.shape[:1] or bool((weights < 0).any())):
        raise ValueError(f"weights must be {len(x)} numbers that are not negative, but they are {weights.tolist()}")
    x_count, y_count = _lengths("x", x, x_lengths), _lengths("y", y, y_lengths)

    distances, turns = [], []
    for cloud in range(len(x)):
        points, others = x[cloud, : x_count[cloud]], y[cloud, : y_count[cloud]]
        normals = None
        if x_normals is not None and y_normals is not None:
            normals = (x_normals[cloud, : x_count[cloud]], y_normals[cloud, : y_count[cloud]])
        distance, turn = _one_way(points, others, normals, norm, point_reduction, abs_cosine)
        if not single_directional:
            back, back_turn = _one_way(
                others, points, None if normals is None else normals[::-1], norm, point_reduction, abs_cosine
            )
            distance, turn = distance + back, turn + back_turn
        distances.append(distance)
        turns.append(turn)
    reduced = [_reduce(torch.stack(values), weights, batch_reduction) for values in (distances, turns)]
    return reduced[0], None if x_normals is None or y_normals is None else reduced[1]


def _one_way(
    points: torch.Tensor,
    others: torch.Tensor,
    normals: tuple[torch.Tensor, torch.Tensor] | None,
    norm: int,
    reduction: str,
    abs_cosine: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    find = nearest_by_tree if points.device.type == "cpu" else nearest_by_brute_force
    index = find(points, others, norm)
    difference = points - others.index_select(0, index)
    distance = (difference**2 if norm == 2 else difference.abs()).sum(-1)
    turn = torch.zeros_like(distance)
    if normals is not None:
        cosine = cosine_similarity(normals[0], normals[1].index_select(0, index), dim=1, eps=1e-6)
        turn = 1 - (cosine.abs() if abs_cosine else cosine)
    return (distance.mean(), turn.mean()) if reduction == "mean" else (distance.sum(), turn.sum())


def _reduce(values: torch.Tensor, weights: torch.Tensor | None, reduction: str | None) -> torch.Tensor:
    if weights is not None:
        values = values * weights
    if reduction is None:
        return values
    if reduction == "sum":
        return values.sum()
    total = len(values) if weights is None else weights.sum()
    return values.sum() / total if total > 0 else 0.0 * values.sum()


def _lengths(name: str, points: torch.Tensor, lengths: torch.Tensor | None) -> list[int]:
    counts = [points.shape[1]] * len(points) if lengths is None else [int(length) for length in lengths]
    if len(counts) != len(points) or min(counts) < 1 or max(counts) > points.shape[1]:
        raise ValueError(
            f"{name}_lengths must be {len(points)} numbers from 1 to {points.shape[1]}, but they are {counts}"
        )
    if not bool(torch.isfinite(points).all()):
        raise ValueError(f"{name} has points that are not finite: they have no nearest point")
    return counts
