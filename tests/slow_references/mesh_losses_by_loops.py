"""The mesh losses written down literally, one vertex, edge or pair of faces at a time (plain numpy)."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

import numpy as np


def neighbours_of(faces: np.ndarray) -> dict[int, set[int]]:
    found: dict[int, set[int]] = defaultdict(set)
    for a, b, c in faces.tolist():
        for first, second in ((a, b), (b, c), (c, a)):
            found[first].add(second)
            found[second].add(first)
    return found


def faces_at_edges(faces: np.ndarray) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (a, b, c) in enumerate(faces.tolist()):
        for edge in ((a, b), (b, c), (c, a)):
            found[min(edge), max(edge)].append(index)
    return found


def uniform_laplacian(vertices: np.ndarray, faces: np.ndarray) -> float:
    near = neighbours_of(faces)
    distances = [
        np.linalg.norm(np.mean([vertices[j] for j in near[i]], axis=0) - vertices[i])
        if near[i]
        else np.linalg.norm(vertices[i])
        for i in range(len(vertices))
    ]
    return float(np.mean(distances))


def cotangent_laplacian(vertices: np.ndarray, faces: np.ndarray) -> float:
    weights: dict[tuple[int, int], float] = defaultdict(float)
    for face in faces.tolist():
        for corner in range(3):
            here, first, second = face[corner], face[(corner + 1) % 3], face[(corner + 2) % 3]
            u, v = vertices[first] - vertices[here], vertices[second] - vertices[here]
            cotangent = u @ v / np.linalg.norm(np.cross(u, v))
            weights[first, second] += cotangent
            weights[second, first] += cotangent
    moved, total = np.zeros_like(vertices), np.zeros(len(vertices))
    for (i, j), weight in weights.items():
        moved[i] += weight * vertices[j]
        total[i] += weight
    return float(np.mean(np.linalg.norm(moved / total[:, None] - vertices, axis=1)))


def edge_loss(vertices: np.ndarray, faces: np.ndarray, target: float) -> float:
    return float(np.mean([(np.linalg.norm(vertices[a] - vertices[b]) - target) ** 2 for a, b in faces_at_edges(faces)]))


def normal_consistency(vertices: np.ndarray, faces: np.ndarray) -> float:
    """The normals are those of the edge and the third vertices: the faces' own orientation plays no part."""
    losses = []
    for (a, b), sharing in faces_at_edges(faces).items():
        for first, second in combinations(sharing, 2):
            along = vertices[b] - vertices[a]
            others = [next(v for v in faces[f].tolist() if v not in (a, b)) for f in (first, second)]
            n0 = np.cross(along, vertices[others[0]] - vertices[a])
            n1 = -np.cross(along, vertices[others[1]] - vertices[a])
            losses.append(1 - n0 @ n1 / np.linalg.norm(n0) / np.linalg.norm(n1))
    return float(np.mean(losses))


def chamfer(x: np.ndarray, y: np.ndarray) -> float:
    def squared(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([min(((p - q) ** 2).sum() for q in b) for p in a]))

    return squared(x, y) + squared(y, x)


def weighted_hausdorff(points: np.ndarray, weights: np.ndarray, contour: np.ndarray, size: tuple[int, int]) -> float:
    diagonal, epsilon = np.hypot(*size), 1e-6
    distance = np.array([[np.linalg.norm(p - g) for g in contour] for p in points])
    first = (weights * distance.min(1)).sum() / (weights.sum() + epsilon)
    means = []
    for g in range(len(contour)):
        cost = (1 - weights) * diagonal + weights * distance[:, g]
        means.append(np.mean((cost + epsilon) ** -7.0) ** (-1 / 7))
    return float(first + np.mean(means))
