"""Errors of an estimated motion: end-point error and its parts, overlap, contour distances, Jacobian, volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

from clinbundles.motion.displacement_field import DisplacementField, deformation_gradient_at, determinant

DIRECTIONS = ("radial", "circumferential", "longitudinal")


def end_point_errors(estimated: torch.Tensor, true: torch.Tensor, wall_axes: torch.Tensor) -> dict[str, float]:
    """Mean end-point error of displacements and the mean absolute error along each axis of the wall, in mm.

    Args:
        estimated: (..., N, 3) displacements of points.
        true: (..., N, 3), the same points.
        wall_axes: (N, 3, 3), rows radial, circumferential, longitudinal at end-diastole, in the same frame.
    """
    if estimated.shape != true.shape or wall_axes.shape != (*true.shape[-2:-1], 3, 3):
        raise ValueError(
            f"estimated has shape {tuple(estimated.shape)}, true {tuple(true.shape)}, wall_axes "
            f"{tuple(wall_axes.shape)}: expected (..., N, 3), the same, and (N, 3, 3)"
        )
    error = estimated - true
    parts = torch.einsum("...nc,nac->...na", error, wall_axes).abs().reshape(-1, 3).mean(dim=0)
    errors = {"epe": float(error.square().sum(-1).sqrt().mean())}
    return errors | {name: float(part) for name, part in zip(DIRECTIONS, parts, strict=True)}


def strain_at(field: DisplacementField, points: torch.Tensor, axes: torch.Tensor, step_mm: float = 2.0) -> torch.Tensor:
    """Green-Lagrange strain along the wall's axes at points of end-diastole: (B, N, 3) E_rr, E_cc, E_ll.

    Args:
        field: on either domain; one on t is inverted: F from end-diastole is the inverse of F to end-diastole.
        points: (B, N, 3) in mm at end-diastole.
        axes: (B, N, 3, 3) or (N, 3, 3), rows radial, circumferential, longitudinal.
        step_mm: half width of the central differences.
    """
    if field.domain == "ed":
        gradient = deformation_gradient_at(field.vectors, points, field.spacing_mm, step_mm)
    else:
        back = deformation_gradient_at(field.vectors, field.from_ed(points), field.spacing_mm, step_mm)
        gradient = torch.linalg.inv(back)
    identity = torch.eye(3, dtype=gradient.dtype, device=gradient.device)
    strain = (gradient.transpose(-1, -2) @ gradient - identity) / 2
    # a axis of the wall, c and d components of space
    return torch.einsum("...ac,...cd,...ad->...a", axes.expand(*strain.shape), strain, axes.expand(*strain.shape))


def jacobian_errors(field: DisplacementField, points: torch.Tensor, step_mm: float = 2.0) -> dict[str, float]:
    """Mean |det J - 1| and the share of det J <= 0 at places (B, N, 3) of the field's own domain."""
    volume = determinant(deformation_gradient_at(field.vectors, points, field.spacing_mm, step_mm), 2, 3)
    return {
        "jacobian_error": float((volume - 1).abs().mean()),
        "folded_share": float((volume <= 0).to(volume.dtype).mean()),
    }


def dice(prediction: np.ndarray | torch.Tensor, label: np.ndarray | torch.Tensor, value: int) -> float:
    """Dice of one label value; NaN when neither has it. Pixels with label 255 (unknown) do not count."""
    first, second = np.asarray(prediction) == value, np.asarray(label) == value
    first = first & (np.asarray(label) != 255)
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def volume_difference(prediction: np.ndarray, label: np.ndarray) -> float:
    """|V - V_label| / V_label of two masks; NaN for an empty label."""
    wanted = int(np.count_nonzero(label))
    return abs(int(np.count_nonzero(prediction)) - wanted) / wanted if wanted else float("nan")


def _outline(mask: np.ndarray) -> np.ndarray:
    """Inner boundary of a mask, 4-connected."""
    return mask & ~binary_erosion(mask)


def contour_distances(prediction: np.ndarray, label: np.ndarray, pixel_mm: float | Sequence[float]) -> dict[str, float]:
    """Distances in mm between the outlines of two masks (I, J): ``hd`` the largest, ``hd95``, ``mcd`` the mean
    of the two mean nearest distances. All NaN when a mask is empty.
    """
    ours, theirs = _outline(np.asarray(prediction, dtype=bool)), _outline(np.asarray(label, dtype=bool))
    if not ours.any() or not theirs.any():
        return dict.fromkeys(("hd", "hd95", "mcd"), float("nan"))
    sampling = [pixel_mm] * 2 if isinstance(pixel_mm, (int, float)) else list(pixel_mm)
    to_label = distance_transform_edt(~theirs, sampling=sampling)[ours]
    to_prediction = distance_transform_edt(~ours, sampling=sampling)[theirs]
    return {
        "hd": float(max(to_label.max(), to_prediction.max())),
        "hd95": float(max(np.percentile(to_label, 95), np.percentile(to_prediction, 95))),
        "mcd": float((to_label.mean() + to_prediction.mean()) / 2),
    }


def boundary_f(prediction: np.ndarray, label: np.ndarray, tolerances: Sequence[int] = (1, 2, 3, 4, 5)) -> float:
    """Boundary F-score of two masks (I, J), mean over tolerances in pixels (Meng et al. 2024); NaN if one is empty."""
    ours, theirs = _outline(np.asarray(prediction, dtype=bool)), _outline(np.asarray(label, dtype=bool))
    if not ours.any() or not theirs.any():
        return float("nan")
    scores = []
    for tolerance in tolerances:
        reach = np.arange(-tolerance, tolerance + 1)
        disk = reach[:, None] ** 2 + reach[None] ** 2 <= tolerance**2
        precision = float((ours & binary_dilation(theirs, disk)).sum() / ours.sum())
        recall = float((theirs & binary_dilation(ours, disk)).sum() / theirs.sum())
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return float(np.mean(scores))
