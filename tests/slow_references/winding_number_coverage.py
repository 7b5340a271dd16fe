"""Coverage by counting: cut every face with plain loops, then ask the winding number of many points in every pixel."""

from __future__ import annotations

import numpy as np


def section(vertices: np.ndarray, faces: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Segments [M, 2, 2] in pixel indices (i, j), inside on the left; a vertex on the plane counts as above."""
    axes, origin = affine[:3, :2], affine[:3, 3]
    normal = np.cross(axes[:, 0], axes[:, 1])
    normal /= np.linalg.norm(normal)
    segments = []
    for face in faces:
        points = vertices[face]
        heights = (points - origin) @ normal
        ends = {}
        for a, b in ((0, 1), (1, 2), (2, 0)):
            if (heights[a] >= 0) != (heights[b] >= 0):
                t = heights[a] / (heights[a] - heights[b])
                point = points[a] + t * (points[b] - points[a])
                pixel = np.linalg.lstsq(axes, point - origin, rcond=None)[0]
                ends["down" if heights[a] >= 0 else "up"] = pixel
        if ends:  # the outline of an outward face enters where its border goes down
            segments.append((ends["down"], ends["up"]))
    return np.array(segments).reshape(-1, 2, 2)


def winding_number(points: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Sum of the angles under which the segments are seen, in turns, by every point [N, 2]."""
    turns = np.zeros(len(points))
    for first, second in segments:
        a, b = first - points, second - points
        turns += np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(1))
    return turns / (2 * np.pi)


def supersampled_coverage(
    vertices: np.ndarray, faces: np.ndarray, affine: np.ndarray, size: tuple[int, int], samples: int = 16
) -> np.ndarray:
    """Mean winding number of samples x samples points in every pixel: [I, J]."""
    segments = section(vertices, faces, affine)
    inside = (np.arange(samples) + 0.5) / samples - 0.5
    i = (np.arange(size[0])[:, None] + inside).ravel()
    j = (np.arange(size[1])[:, None] + inside).ravel()
    grid = np.stack(np.meshgrid(i, j, indexing="ij"), -1).reshape(-1, 2)
    fine = winding_number(grid, segments).reshape(size[0], samples, size[1], samples)
    return fine.mean((1, 3))


def shoelace(segments: np.ndarray) -> float:
    """Signed area of closed oriented segments, in pixels."""
    first, second = segments[:, 0], segments[:, 1]
    return float(0.5 * (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum())
