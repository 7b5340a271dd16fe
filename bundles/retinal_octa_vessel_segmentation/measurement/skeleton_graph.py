"""Skeleton of a vessel mask as a graph: branches, junctions, end points, and the length that each pixel stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from skimage.morphology import skeletonize

from retinal_octa_vessel_segmentation.measurement.pixel_spacing import checked_spacing

SMOOTHING_STEPS = 8  # binomial smoothing of the chain code, standard deviation sqrt(8 / 2) = 2 pixels


@dataclass(frozen=True)
class SkeletonGraph:
    """Branches of a skeleton of n pixels.

    Attributes:
        pixels: int (n, 2), row and column of each skeleton pixel.
        degree: int (n,), number of linked neighbours: 1 end point, 2 inside a branch, 3 or 4 junction.
        junction: int (n,), number of the junction (touching junction pixels are one), -1 elsewhere.
        pixel_length_mm: float (n,), length of centreline that a pixel stands for; the sum is the length of all vessels.
        branches: each branch as pixel numbers from end to end, both ends included; rings start and end at one pixel.
        arc_mm, chord_mm: float (branches,), length along the branch and straight distance of its ends.
    """

    pixels: np.ndarray
    degree: np.ndarray
    junction: np.ndarray
    pixel_length_mm: np.ndarray
    branches: tuple[np.ndarray, ...]
    arc_mm: np.ndarray
    chord_mm: np.ndarray

    def junction_pixels(self) -> np.ndarray:
        """One pixel number per junction."""
        inside = np.flatnonzero(self.junction >= 0)
        _, first = np.unique(self.junction[inside], return_index=True)
        return inside[first]


def vessel_skeleton(mask: np.ndarray, half_width_px: np.ndarray | None = None) -> np.ndarray:
    """Centreline of a vessel mask, one pixel wide.

    Args:
        mask: boolean (H, W).
        half_width_px: float (H, W), half the local vessel width in pixels (``half_width_map(mask, 1.0)``). When given,
            end branches that stick out of the wall of their parent no further than they are wide are taken away: they
            are bumps of the wall, not vessels.

    Returns:
        boolean (H, W).
    """
    skeleton = skeletonize(mask)
    if half_width_px is None:
        return skeleton
    graph = trace_skeleton(skeleton, 1.0)
    for branch, arc in zip(graph.branches, graph.arc_mm, strict=True):
        for end, root in ((branch[0], branch[-1]), (branch[-1], branch[0])):
            ends_freely = graph.degree[end] == 1 and graph.degree[root] > 2
            parent, own = half_width_px[tuple(graph.pixels[root])], half_width_px[tuple(graph.pixels[end])]
            if ends_freely and arc <= parent + 2 * own:
                spur = graph.pixels[branch[branch != root]]
                skeleton[spur[:, 0], spur[:, 1]] = False
    return skeletonize(skeleton)


def trace_skeleton(skeleton: np.ndarray, spacing_mm: float | Sequence[float]) -> SkeletonGraph:
    """Follow the branches of a skeleton.

    Pixels are linked with mixed adjacency (Rosenfeld): a diagonal link exists only where no path over a common side
    neighbour does, so that a corner is not mistaken for a junction. The Freeman chain of each branch is smoothed
    with its ends held before it is measured; a raw chain makes oblique lines up to 8 % too long.

    Args:
        skeleton: boolean (H, W), one pixel wide.
        spacing_mm: mm per pixel, one number or (row, column).
    """
    spacing = np.asarray(checked_spacing(spacing_mm))
    pixels = np.argwhere(skeleton)
    links = _mixed_adjacency(skeleton)
    degree = np.bincount(links.ravel(), minlength=len(pixels))
    junction, cluster_links = _junction_clusters(links, degree)
    branches = [path for path in _walk(links, degree) if not _inside_junction(path, junction)]

    length = np.zeros(len(pixels))
    within = np.linalg.norm((pixels[cluster_links[:, 0]] - pixels[cluster_links[:, 1]]) * spacing, axis=1)
    np.add.at(length, cluster_links, within[:, None] / 2)
    arc: np.ndarray = np.zeros(len(branches))
    chord = arc
    if branches:
        chain = np.concatenate(branches)
        sizes = np.array([len(path) for path in branches])
        owner = np.repeat(np.arange(len(branches)), sizes)
        points = _smooth_chains(pixels[chain].astype(float), owner) * spacing
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1) * (owner[1:] == owner[:-1])
        arc = np.bincount(owner[1:], weights=steps, minlength=len(branches))
        np.add.at(length, chain[:-1], steps / 2)
        np.add.at(length, chain[1:], steps / 2)
        last = np.cumsum(sizes) - 1
        chord = np.linalg.norm(points[last] - points[last - sizes + 1], axis=1)
    return SkeletonGraph(pixels, degree, junction, length, tuple(branches), arc, chord)


def _mixed_adjacency(skeleton: np.ndarray) -> np.ndarray:
    """Links (M, 2) between pixel numbers in the order of ``np.argwhere``."""
    number = np.full(np.add(skeleton.shape, 2), -1, dtype=np.int64)
    number[1:-1, 1:-1][skeleton] = np.arange(np.count_nonzero(skeleton))
    here, rows, columns = number[1:-1, 1:-1], slice(1, -1), slice(1, -1)
    east, south, west = number[rows, 2:], number[2:, columns], number[rows, :-2]
    south_east, south_west = number[2:, 2:], number[2:, :-2]
    found = []
    for neighbour, shortcut in (
        (east, None),
        (south, None),
        (south_east, (east, south)),
        (south_west, (west, south)),
    ):
        linked = (here >= 0) & (neighbour >= 0)
        for side in shortcut or ():
            linked &= side < 0
        found.append(np.stack([here[linked], neighbour[linked]], axis=1))
    return np.concatenate(found)


def _junction_clusters(links: np.ndarray, degree: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of the junction of each pixel (-1: none), and the links inside junctions."""
    inside = links[(degree[links] > 2).all(axis=1)]
    junction = np.full(len(degree), -1, dtype=np.int64)
    if not (degree > 2).any():
        return junction, inside
    weights = coo_matrix((np.ones(len(inside)), (inside[:, 0], inside[:, 1])), shape=(len(degree),) * 2)
    _, component = connected_components(weights, directed=False)
    _, junction[degree > 2] = np.unique(component[degree > 2], return_inverse=True)
    return junction, inside


def _inside_junction(path: np.ndarray, junction: np.ndarray) -> bool:
    return len(path) == 2 and junction[path[0]] >= 0 and junction[path[0]] == junction[path[1]]


def _walk(links: np.ndarray, degree: np.ndarray) -> list[np.ndarray]:
    """All maximal paths whose inner pixels have two neighbours, each once; then the rings without any junction."""
    both = np.concatenate([links, links[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    first = np.concatenate([[0], np.cumsum(degree)]).tolist()
    neighbours, degrees = both[:, 1].tolist(), degree.tolist()
    seen = bytearray(len(degrees))
    paths = []

    def follow(start: int, step: int) -> list[int]:
        path = [start, step]
        while degrees[step] == 2 and step != start:
            seen[step] = 1
            one, other = neighbours[first[step]], neighbours[first[step] + 1]
            step = other if one == path[-2] else one
            path.append(step)
        return path

    for start in np.flatnonzero((degree != 2) & (degree > 0)).tolist():
        for step in neighbours[first[start] : first[start + 1]]:
            if degrees[step] == 2:
                if not seen[step]:
                    paths.append(follow(start, step))
            elif step > start:
                paths.append([start, step])
    for start in np.flatnonzero(degree == 2).tolist():
        if not seen[start]:
            seen[start] = 1
            paths.append(follow(start, neighbours[first[start]]))
    return [np.array(path) for path in paths]


def _smooth_chains(points: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Binomial smoothing (1, 2, 1)/4 along each chain; its two ends stay where they are."""
    inner = np.zeros(len(points), dtype=bool)
    inner[1:-1] = (owner[1:-1] == owner[:-2]) & (owner[1:-1] == owner[2:])
    index = np.flatnonzero(inner)
    for _ in range(SMOOTHING_STEPS):
        points[index] = 0.25 * points[index - 1] + 0.5 * points[index] + 0.25 * points[index + 1]
    return points
