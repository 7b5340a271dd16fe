"""The compiled step of vessel growth by space colonisation (Rauch and Harders 2021; Kreitner et al. 2024).

Everything here is scalar code on plain arrays and on vectors as tuples (x, y, z). Angles are in radians, lengths in
units of the field.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

Vector = tuple[float, float, float]


class ForestArrays(NamedTuple):
    """The arrays of a forest that grows, with room for two children of every node: see ``vessel_growth.Forest``."""

    nodes: np.ndarray
    radius: np.ndarray
    parent: np.ndarray
    children: np.ndarray
    child_count: np.ndarray
    kappa: np.ndarray


class StepRules(NamedTuple):
    """What holds for all nodes during one growth step.

    Args:
        step: length of a new segment.
        thickness: of the slab.
        terminal_radius: radius of a new segment.
        gamma: opening angle of the perception cone.
        phi: standard deviation of the sinks' angles above which a leaf bifurcates.
        omega: weight in [0, 1] of the vessel's own direction against the sinks' pull.
        kappa: bifurcation exponent of Murray's law for new branches.
        faz_radius: size of the foveal avascular zone; 0 or less for none.
        fovea: (x, y) of the fovea.
        rotation_radius: distance within which vessels turn around the fovea; negative for none.
        rotation_floor: least squared weight of that turning.
    """

    step: float
    thickness: float
    terminal_radius: float
    gamma: float
    phi: float
    omega: float
    kappa: float
    faz_radius: float
    fovea: tuple[float, float]
    rotation_radius: float
    rotation_floor: float


# Vectors


@njit(cache=True)
def _row(points: np.ndarray, index: int) -> Vector:
    return points[index, 0], points[index, 1], points[index, 2]


@njit(cache=True)
def _minus(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@njit(cache=True)
def _combine(s: float, a: Vector, t: float, b: Vector) -> Vector:
    """The linear combination s a + t b."""
    return s * a[0] + t * b[0], s * a[1] + t * b[1], s * a[2] + t * b[2]


@njit(cache=True)
def _unit(v: Vector) -> Vector:
    norm = np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    return (v[0] / norm, v[1] / norm, v[2] / norm) if norm > 0 else v


@njit(cache=True)
def _angle(a: Vector, b: Vector) -> float:
    a, b = _unit(a), _unit(b)
    return np.arccos(min(max(a[0] * b[0] + a[1] * b[1] + a[2] * b[2], -1.0), 1.0))


@njit(cache=True)
def _cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


# Growth rules


@njit(cache=True)
def murray_angles(r1: float, r2: float, kappa: float) -> Vector:
    """(parent radius, angle of branch 1, angle of branch 2) of least work, Murray 1926."""
    parent = (r1**kappa + r2**kappa) ** (1.0 / kappa)
    p4, a4, b4 = parent**4, r1**4, r2**4
    cos1 = (p4 + a4 - b4) / (2.0 * parent * parent * r1 * r1)
    cos2 = (p4 + b4 - a4) / (2.0 * parent * parent * r2 * r2)
    return parent, np.arccos(min(max(cos1, -1.0), 1.0)), np.arccos(min(max(cos2, -1.0), 1.0))


@njit(cache=True)
def principal_axis(xx: float, yy: float, zz: float, xy: float, xz: float, yz: float) -> Vector:
    """Unit eigenvector of the largest eigenvalue of a symmetric 3x3 matrix, by cyclic Jacobi rotations."""
    a = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    v = np.eye(3)
    for _ in range(30):
        if a[0, 1] ** 2 + a[0, 2] ** 2 + a[1, 2] ** 2 <= 1e-30 * (a[0, 0] ** 2 + a[1, 1] ** 2 + a[2, 2] ** 2):
            break
        for p in range(2):
            for q in range(p + 1, 3):
                if a[p, q] == 0.0:
                    continue
                theta = (a[q, q] - a[p, p]) / (2.0 * a[p, q])
                t = (1.0 if theta >= 0 else -1.0) / (abs(theta) + np.sqrt(theta * theta + 1.0))
                c = 1.0 / np.sqrt(t * t + 1.0)
                s = t * c
                for k in range(3):
                    akp, akq = a[k, p], a[k, q]
                    a[k, p], a[k, q] = c * akp - s * akq, s * akp + c * akq
                for k in range(3):
                    apk, aqk = a[p, k], a[q, k]
                    a[p, k], a[q, k] = c * apk - s * aqk, s * apk + c * aqk
                    vkp, vkq = v[k, p], v[k, q]
                    v[k, p], v[k, q] = c * vkp - s * vkq, s * vkp + c * vkq
    best = 0
    for k in range(1, 3):
        if a[k, k] > a[best, best]:
            best = k
    return (v[0, best], v[1, best], v[2, best])


@njit(cache=True)
def fold_into_slab(z: float, thickness: float) -> float:
    """Reflect z at the faces 0 and ``thickness`` of the slab until it lies inside."""
    z = abs(z) % (2.0 * thickness)
    return 2.0 * thickness - z if z > thickness else z


@njit(cache=True)
def grow(
    forest: ForestArrays, count: int, sinks: np.ndarray, nearest: np.ndarray, uniform: np.ndarray, rules: StepRules
) -> int:
    """One growth step of one forest towards its sinks; returns the new number of nodes.

    Leaves elongate or bifurcate, nodes with one child sprout a second one; roots do neither. Vessels end at the
    lateral faces and are reflected at the slab's top and bottom. Source: card section 2.2; Murray's law for radii.

    Args:
        forest: changed in place; ``kappa`` is the exponent of the stage in which a node appeared.
        count: number of nodes before the step.
        sinks: (S, 3) positions.
        nearest: (S,) node that perceives the sink, -1 for none.
        uniform: (count,) random numbers in [0, 1), one per node, for the fovea rule.
        rules: parameters of the step.
    """
    first, order = _sinks_by_node(nearest, count)
    angles = np.empty(order.shape[0])
    new_count = count
    for node in range(count):
        low, high = first[node], first[node + 1]
        if low == high or forest.parent[node] < 0:
            continue
        if forest.child_count[node] == 0:
            new_count = _grow_leaf(
                forest, new_count, node, sinks, order[low:high], angles[low:high], uniform[node], rules
            )
        elif forest.child_count[node] == 1:
            new_count = _grow_side_branch(forest, new_count, node, sinks, order[low:high], uniform[node], rules)
    return new_count


@njit(cache=True)
def _sinks_by_node(nearest: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(first (count + 1,), order): the sinks of node n are order[first[n]:first[n + 1]], in ascending order."""
    first = np.zeros(count + 1, np.int64)
    for node in nearest:
        if node >= 0:
            first[node + 1] += 1
    for node in range(count):
        first[node + 1] += first[node]
    order, cursor = np.empty(first[count], np.int64), first.copy()
    for sink in range(nearest.shape[0]):
        node = nearest[sink]
        if node >= 0:
            order[cursor[node]] = sink
            cursor[node] += 1
    return first, order


@njit(cache=True)
def _grow_leaf(
    forest: ForestArrays,
    count: int,
    node: int,
    sinks: np.ndarray,
    assigned: np.ndarray,
    angles: np.ndarray,
    chance: float,
    rules: StepRules,
) -> int:
    """Elongate a leaf, or bifurcate it if its sinks are spread; ``assigned`` and ``angles`` (n,) are overwritten."""
    here = _row(forest.nodes, node)
    forward = _minus(here, _row(forest.nodes, forest.parent[node]))
    kept, pull = 0, (0.0, 0.0, 0.0)
    for sink in assigned:
        towards = _minus(_row(sinks, sink), here)
        angle = _angle(forward, towards)
        if angle <= rules.gamma / 2:
            pull = _combine(1.0, pull, 1.0, _unit(towards))
            assigned[kept], angles[kept] = sink, angle  # never ahead of the sink being read
            kept += 1
    if kept == 0:
        return count
    free, away = _fovea_rule(here, pull, chance, rules)
    if free and away and _standard_deviation(angles[:kept]) > rules.phi:
        one, two = _bifurcation(here, sinks, assigned[:kept], rules)
        middle = _sprout(forest, count, node, one, rules)
        end = _sprout(forest, middle, node, two, rules)
        if end > count + 1:
            _thicken(forest, node)
        return end
    direction = _unit(_combine(rules.omega, _unit(forward), 1 - rules.omega, _unit(pull)))
    if rules.rotation_radius > 0:
        direction = _turn_around_fovea(direction, here, rules)
    return _sprout(forest, count, node, _unit(direction), rules)


@njit(cache=True)
def _grow_side_branch(
    forest: ForestArrays,
    count: int,
    node: int,
    sinks: np.ndarray,
    assigned: np.ndarray,
    chance: float,
    rules: StepRules,
) -> int:
    """Let a node with one child sprout a second one at the angle of least work, in the plane of child and sinks."""
    here, child = _row(forest.nodes, node), forest.children[node, 0]
    forward = _minus(here, _row(forest.nodes, forest.parent[node]))
    distal = _minus(_row(forest.nodes, child), here)
    _, child_angle, sprout_angle = murray_angles(forest.radius[child], rules.terminal_radius, rules.kappa)
    kept, pull = 0, (0.0, 0.0, 0.0)
    for sink in assigned:
        towards = _minus(_row(sinks, sink), here)
        off_branch = abs(_angle(distal, towards) - (child_angle + sprout_angle))
        if off_branch <= rules.gamma / 2 and _angle(forward, towards) <= sprout_angle + rules.gamma / 2:
            pull = _combine(1.0, pull, 1.0, _unit(towards))
            kept += 1
    if kept == 0:
        return count
    free, away = _fovea_rule(here, pull, chance, rules)
    if not free and not away:
        return count
    distal = _unit(distal)
    axis = _cross(distal, pull)
    if axis == (0.0, 0.0, 0.0):
        return count
    # the axis is perpendicular to distal: Rodrigues without its third term
    side = _cross(_unit(axis), distal)
    ideal = _combine(np.cos(sprout_angle), distal, np.sin(sprout_angle), side)
    direction = _unit(_combine(rules.omega, ideal, 1 - rules.omega, _unit(pull)))
    end = _sprout(forest, count, node, direction, rules)
    if end > count:
        _thicken(forest, node)
    return end


@njit(cache=True)
def _fovea_rule(here: Vector, pull: Vector, chance: float, rules: StepRules) -> tuple[bool, bool]:
    """(whether ``chance`` allows a branch this near to the fovea, whether the sinks pull away from the fovea)."""
    if rules.faz_radius <= 0:
        return True, True
    to_fovea = (rules.fovea[0] - here[0], rules.fovea[1] - here[1], 0.0)
    distance = np.sqrt(to_fovea[0] ** 2 + to_fovea[1] ** 2)
    away = _angle(to_fovea, (pull[0], pull[1], 0.0)) > np.pi / 2
    return chance < (distance / (2.0 * rules.faz_radius)) ** 5, away


@njit(cache=True)
def _turn_around_fovea(direction: Vector, here: Vector, rules: StepRules) -> Vector:
    """The direction, not normalised, turned towards the circle around the fovea and a little outwards."""
    to_fovea = (rules.fovea[0] - here[0], rules.fovea[1] - here[1], 0.0)
    distance = np.sqrt(to_fovea[0] ** 2 + to_fovea[1] ** 2)
    if distance == 0:
        return direction
    ahead_x = to_fovea[0] - rules.step * direction[0]
    ahead_y = to_fovea[1] - rules.step * direction[1]
    ahead = np.sqrt(ahead_x**2 + ahead_y**2)
    weight = np.sqrt(max(rules.rotation_floor, rules.rotation_radius - ahead))
    inward = (to_fovea[0] / distance, to_fovea[1] / distance, 0.0)
    sense = -1.0 if direction[1] * inward[0] - direction[0] * inward[1] < 0 else 1.0
    tangent = (-sense * inward[1], sense * inward[0], 0.0)
    return _combine(1 - weight, direction, weight, _combine(0.7, tangent, -0.3, inward))


@njit(cache=True)
def _bifurcation(here: Vector, sinks: np.ndarray, seen: np.ndarray, rules: StepRules) -> tuple[Vector, Vector]:
    """Directions of two equal branches around the sinks' mean, in the plane in which the sinks spread most."""
    count = seen.shape[0]
    mx, my, mz = 0.0, 0.0, 0.0
    for sink in seen:
        mx += sinks[sink, 0] / count
        my += sinks[sink, 1] / count
        mz += sinks[sink, 2] / count
    mean = (mx, my, mz)
    xx, yy, zz, xy, xz, yz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for sink in seen:
        dx, dy, dz = _minus(_row(sinks, sink), mean)
        xx, yy, zz = xx + dx * dx, yy + dy * dy, zz + dz * dz
        xy, xz, yz = xy + dx * dy, xz + dx * dz, yz + dy * dz
    axis, spread = _unit(_minus(mean, here)), principal_axis(xx, yy, zz, xy, xz, yz)
    _, opening, _ = murray_angles(rules.terminal_radius, rules.terminal_radius, rules.kappa)
    cosine, sine = np.cos(opening), np.sin(opening)
    return _unit(_combine(cosine, axis, sine, spread)), _unit(_combine(cosine, axis, -sine, spread))


@njit(cache=True)
def _standard_deviation(values: np.ndarray) -> float:
    count = values.shape[0]
    mean, variance = 0.0, 0.0
    for value in values:
        mean += value / count
    for value in values:
        variance += (value - mean) ** 2 / count
    return np.sqrt(variance)


@njit(cache=True)
def _sprout(forest: ForestArrays, count: int, node: int, direction: Vector, rules: StepRules) -> int:
    """Append a child one step from ``node``; returns the new number of nodes, unchanged outside the field."""
    x, y, z = _combine(1.0, _row(forest.nodes, node), rules.step, direction)
    if x < 0.0 or x > 1.0 or y < 0.0 or y > 1.0:
        return count
    forest.nodes[count, 0], forest.nodes[count, 1] = x, y
    forest.nodes[count, 2] = fold_into_slab(z, rules.thickness)
    forest.radius[count], forest.parent[count], forest.child_count[count] = rules.terminal_radius, node, 0
    forest.children[node, forest.child_count[node]] = count
    forest.child_count[node] += 1
    return count + 1


@njit(cache=True)
def _thicken(forest: ForestArrays, node: int) -> None:
    """Murray's law, each node with its own exponent, from this node up to its root; stops where nothing changes."""
    while node >= 0 and forest.parent[node] >= 0:
        kappa = forest.kappa[node]
        total = 0.0
        for k in range(forest.child_count[node]):
            total += forest.radius[forest.children[node, k]] ** kappa
        updated = total ** (1.0 / kappa)
        if updated == forest.radius[node]:
            return
        forest.radius[node] = updated
        node = forest.parent[node]
