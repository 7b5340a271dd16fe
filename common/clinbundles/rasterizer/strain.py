"""Strain of muscle: from deformation gradients, or from the triangles of a moving surface.

Green-Lagrange E = (F^T F - I) / 2 is stored; clinical tables use the engineering strain e = sqrt(1 + 2 E) - 1, the
relative change of length.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

Numbers = TypeVar("Numbers", NDArray, Tensor)


def green_lagrange(gradient: Tensor) -> Tensor:
    """E = (F^T F - I) / 2 (..., 3, 3) of deformation gradients F (..., 3, 3)."""
    identity = torch.eye(3, dtype=gradient.dtype, device=gradient.device)
    return (gradient.transpose(-1, -2) @ gradient - identity) / 2


def strain_along(gradient: Tensor, axes: Tensor) -> Tensor:
    """Green-Lagrange strain (..., A) along unit vectors: (|F a|^2 - 1) / 2.

    Args:
        gradient: F (..., 3, 3).
        axes: (..., A, 3) at end-diastole, such as rows radial, circumferential, longitudinal.
    """
    stretched = torch.einsum("...cd,...ad->...ac", gradient, axes)
    return (stretched.square().sum(-1) - 1) / 2


def engineering_strain(strain: Numbers) -> Numbers:
    """Relative change of length e = sqrt(1 + 2 E) - 1 of Green-Lagrange strains E > -1/2."""
    if isinstance(strain, Tensor):
        return (1 + 2 * strain).clamp(min=0).sqrt() - 1
    return np.sqrt(np.maximum(1 + 2 * strain, 0)) - 1


def stretch_strain(length: Numbers, first: Numbers) -> Numbers:
    """Green-Lagrange strain ((l / l0)^2 - 1) / 2 of lengths, such as radial strain of a wall's thickness."""
    return ((length / first) ** 2 - 1) / 2


def surface_strain(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    directions: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Green-Lagrange strain (T, F, A) in each triangle of a moving surface, along A directions of end-diastole.

    A triangle maps its plane at end-diastole linearly to its plane at t: F (b - a) = b' - a'. A direction a, projected
    on the triangle and scaled to 1, has E = (|F a|^2 - 1) / 2.

    Args:
        vertices: (T, V, 3) mm, frame 0 = end-diastole.
        faces: (F, 3).
        directions: (F, A, 3) at end-diastole; the part out of the triangle's plane is left out.
    """
    corners = np.asarray(vertices, np.float64)[:, np.asarray(faces)]  # T F 3 3
    edges = np.stack([corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]], axis=-2)  # T F 2 3
    first = edges[0]
    metric = np.einsum("fic,fjc->fij", first, first)
    # coefficients of a direction in the two edges: the pseudo-inverse projects on the plane
    parts = np.einsum("fij,fjc,fac->fai", np.linalg.pinv(metric, hermitian=True), first, directions)
    length = np.linalg.norm(np.einsum("fai,fic->fac", parts, first), axis=-1, keepdims=True)
    parts = parts / np.maximum(length, 1e-12)
    stretched = np.einsum("fai,tfic->tfac", parts, edges)
    return ((stretched**2).sum(-1) - 1) / 2


def faces_to_vertices(
    values: NDArray[np.floating], faces: NDArray[np.integer], areas: NDArray[np.floating], count: int
) -> NDArray[np.float64]:
    """Means (..., V) at vertices of values (..., F) of the triangles around them, by area; NaN without a triangle."""
    corner = np.asarray(faces, np.int64).ravel()
    share = np.repeat(np.asarray(areas, float), 3)
    face = np.repeat(np.arange(len(faces)), 3)
    around = csr_matrix((share, (corner, face)), shape=(count, len(faces)))
    weights = np.asarray(around.sum(axis=1)).ravel()
    rows = np.asarray(values, float).reshape(-1, len(faces))
    means = (around @ rows.T).T / np.where(weights > 0, weights, np.nan)
    return means.reshape(*values.shape[:-1], count)


def triangle_areas(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.float64]:
    """Areas (..., F) in mm2 of triangles of vertices (..., V, 3)."""
    a, b, c = (np.asarray(vertices, np.float64)[..., np.asarray(faces)[:, corner], :] for corner in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=-1) / 2
