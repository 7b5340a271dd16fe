"""Thickness of the ventricular wall: from each endocardial vertex to the nearest point of the epicardium."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_CANDIDATES = 12  # faces with the nearest centroids


def distance_to_surface(
    points: NDArray[np.floating], vertices: NDArray[np.floating], faces: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Distance (N,) in mm of points (N, 3) to a surface.

    The triangles with the nearest centroids are tried, exact for surfaces whose triangles are of similar size and
    smaller than the distance or the curvature.
    """
    corners = np.asarray(vertices, np.float64)[np.asarray(faces)]
    places = np.asarray(points, np.float64)
    count = min(_CANDIDATES, len(corners))
    _, near = cKDTree(corners.mean(axis=1)).query(places, k=count)
    near = near.reshape(len(places), count)
    return np.sqrt(_squared_distance(places[:, None, :], corners[near]).min(axis=1))


def _squared_distance(p: NDArray, triangles: NDArray) -> NDArray:
    """Squared distance of points (..., 3) to triangles (..., 3, 3): inside by the plane, else the nearest edge."""
    a, b, c = triangles[..., 0, :], triangles[..., 1, :], triangles[..., 2, :]
    normal = np.cross(b - a, c - a)
    size = np.maximum((normal**2).sum(-1), 1e-30)
    height = ((p - a) * normal).sum(-1)
    inside = np.ones(height.shape, bool)
    best = np.full(height.shape, np.inf)
    for first, second in ((a, b), (b, c), (c, a)):
        edge, offset = second - first, p - first
        inside &= (np.cross(edge, offset) * normal).sum(-1) >= 0
        along = np.clip((offset * edge).sum(-1) / np.maximum((edge**2).sum(-1), 1e-30), 0, 1)
        best = np.minimum(best, ((offset - along[..., None] * edge) ** 2).sum(-1))
    return np.where(inside, height**2 / size, best)


def wall_thickness(
    vertices: NDArray[np.floating],
    endo_vertices: NDArray[np.integer],
    epi_faces: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Thickness (T, N) in mm at N endocardial vertices over T frames: the distance to the epicardium of that frame.

    Args:
        vertices: (T, V, 3) mm.
        endo_vertices: (N,) indices.
        epi_faces: (F, 3) of the epicardium.
    """
    return np.stack([distance_to_surface(frame[endo_vertices], frame, epi_faces) for frame in np.asarray(vertices)])
