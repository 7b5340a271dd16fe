"""Compiled neighbour search among points in the slab: where a new sink may lie, which node is nearest to a sink.

Points are (N, 3) in units of the field. They are found through a grid of square cells over x and y: the slab is
thinner than a cell, so a third axis would only cost time. Distances are always three-dimensional. Each cell holds a
linked list: ``head`` (cells, cells) starts it, ``following`` (N,) goes on, -1 ends it.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def _distance2(points: np.ndarray, index: int, point: tuple[float, float, float]) -> float:
    dx, dy, dz = points[index, 0] - point[0], points[index, 1] - point[1], points[index, 2] - point[2]
    return dx * dx + dy * dy + dz * dz


@njit(cache=True)
def _cell(coordinate: float, cells: int) -> int:
    return min(max(int(coordinate * cells), 0), cells - 1)


@njit(cache=True)
def _insert(points: np.ndarray, index: int, head: np.ndarray, following: np.ndarray) -> None:
    row, column = _cell(points[index, 0], head.shape[0]), _cell(points[index, 1], head.shape[0])
    following[index] = head[row, column]
    head[row, column] = index


@njit(cache=True)
def _is_free(
    point: tuple[float, float, float],
    points: np.ndarray,
    distance: np.ndarray,
    longest: float,
    head: np.ndarray,
    following: np.ndarray,
) -> bool:
    """Whether every listed point keeps its own ``distance``, at most ``longest``, from ``point``."""
    cells = head.shape[0]
    reach = int(np.ceil(longest * cells))
    row, column = _cell(point[0], cells), _cell(point[1], cells)
    for r in range(max(row - reach, 0), min(row + reach, cells - 1) + 1):
        for c in range(max(column - reach, 0), min(column + reach, cells - 1) + 1):
            other = head[r, c]
            while other >= 0:
                if _distance2(points, other, point) <= distance[other] * distance[other]:
                    return False
                other = following[other]
    return True


@njit(cache=True)
def accept_sinks(
    candidates: np.ndarray,
    sinks: np.ndarray,
    sink_count: int,
    nodes: np.ndarray,
    exclusion: np.ndarray,
    spacing: float,
    cells: int,
) -> int:
    """Append to ``sinks`` the candidates that no vessel supplies and that keep ``spacing`` to all sinks; new count.

    Candidates (N, 3) are taken in order; ``exclusion`` (K,) is the supplied distance of the first K ``nodes``.
    """
    node_head = np.full((cells, cells), -1, np.int64)
    node_following = np.empty(exclusion.shape[0], np.int64)
    longest = 0.0
    for node in range(exclusion.shape[0]):
        _insert(nodes, node, node_head, node_following)
        longest = max(longest, exclusion[node])
    sink_head = np.full((cells, cells), -1, np.int64)
    sink_following = np.empty(sinks.shape[0], np.int64)
    for sink in range(sink_count):
        _insert(sinks, sink, sink_head, sink_following)
    spacings = np.full(sinks.shape[0], spacing)
    for candidate in range(candidates.shape[0]):
        point = (candidates[candidate, 0], candidates[candidate, 1], candidates[candidate, 2])
        if not _is_free(point, sinks, spacings, spacing, sink_head, sink_following):
            continue
        if not _is_free(point, nodes, exclusion, longest, node_head, node_following):
            continue
        sinks[sink_count] = candidates[candidate]
        _insert(sinks, sink_count, sink_head, sink_following)
        sink_count += 1
    return sink_count


@njit(cache=True)
def nearest_node(
    targets: np.ndarray,
    nodes: np.ndarray,
    eligible: np.ndarray,
    reach: float,
    cells: int,
) -> np.ndarray:
    """Index (T,) of the nearest node within ``reach`` of each target (T, 3), else -1; equally near: the lowest index.

    Only nodes with ``eligible`` (K,) true count; nodes beyond the first K are not looked at.
    """
    head = np.full((cells, cells), -1, np.int64)
    following = np.empty(eligible.shape[0], np.int64)
    for index in range(eligible.shape[0]):
        if eligible[index]:
            _insert(nodes, index, head, following)
    nearest = np.full(targets.shape[0], -1, np.int64)
    rings = int(np.ceil(reach * cells))
    for target in range(targets.shape[0]):
        point = (targets[target, 0], targets[target, 1], targets[target, 2])
        row, column = _cell(point[0], cells), _cell(point[1], cells)
        best, best2 = -1, reach * reach
        for ring in range(rings + 1):
            # whatever lies in this ring or beyond is at least (ring - 1) cells away
            if best >= 0 and ring > 0 and best2 <= ((ring - 1) / cells) ** 2:
                break
            for r in range(max(row - ring, 0), min(row + ring, cells - 1) + 1):
                step = 1 if abs(r - row) == ring else max(2 * ring, 1)
                for c in range(column - ring, column + ring + 1, step):
                    if c < 0 or c >= cells:
                        continue
                    node = head[r, c]
                    while node >= 0:
                        d2 = _distance2(nodes, node, point)
                        if d2 < best2 or (d2 == best2 and (best < 0 or node < best)):
                            best, best2 = node, d2
                        node = following[node]
        nearest[target] = best
    return nearest
