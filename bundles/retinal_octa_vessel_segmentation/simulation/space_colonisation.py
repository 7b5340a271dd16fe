"""Compiled inner loops of vessel growth by space colonisation (Rauch and Harders 2021; Kreitner et al. 2024).

Everything here is scalar code on plain arrays. Neighbours are found through a grid of square cells over x and y: the
slab is thinner than a cell, so a third axis would only cost time. Distances are always three-dimensional.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def build_grid(points, count, cells):  # type: ignore[no-untyped-def]
    """Linked lists of the first ``count`` points per cell: (head (cells, cells), next (count,)), -1 ends a list."""
    head = np.full((cells, cells), -1, np.int64)
    following = np.empty(count, np.int64)
    for index in range(count - 1, -1, -1):
        row, column = _cell(points[index, 0], cells), _cell(points[index, 1], cells)
        following[index] = head[row, column]
        head[row, column] = index
    return head, following


@njit(cache=True)
def _cell(coordinate, cells):  # type: ignore[no-untyped-def]
    return min(max(int(coordinate * cells), 0), cells - 1)


@njit(cache=True)
def _distance2(points, index, x, y, z):  # type: ignore[no-untyped-def]
    dx, dy, dz = points[index, 0] - x, points[index, 1] - y, points[index, 2] - z
    return dx * dx + dy * dy + dz * dz


@njit(cache=True)
def accept_sinks(candidates, sinks, sink_count, nodes, exclusion, node_count, spacing, cells):  # type: ignore[no-untyped-def]
    """Append to ``sinks`` the candidates that no vessel supplies and that keep ``spacing`` to all sinks; new count.

    Candidates (N, 3) are taken in order; ``exclusion`` (node_count,) is the supplied distance of each node.
    """
    node_head, node_next = build_grid(nodes, node_count, cells)
    sink_head = np.full((cells, cells), -1, np.int64)
    sink_next = np.empty(sinks.shape[0], np.int64)
    for index in range(sink_count):
        row, column = _cell(sinks[index, 0], cells), _cell(sinks[index, 1], cells)
        sink_next[index] = sink_head[row, column]
        sink_head[row, column] = index
    longest = 0.0
    for index in range(node_count):
        longest = max(longest, exclusion[index])
    node_reach, sink_reach = int(np.ceil(longest * cells)), int(np.ceil(spacing * cells))
    for candidate in range(candidates.shape[0]):
        x, y, z = candidates[candidate, 0], candidates[candidate, 1], candidates[candidate, 2]
        row, column = _cell(x, cells), _cell(y, cells)
        free = True
        for r in range(max(row - sink_reach, 0), min(row + sink_reach, cells - 1) + 1):
            for c in range(max(column - sink_reach, 0), min(column + sink_reach, cells - 1) + 1):
                other = sink_head[r, c]
                while other >= 0 and free:
                    free = _distance2(sinks, other, x, y, z) > spacing * spacing
                    other = sink_next[other]
        if not free:
            continue
        for r in range(max(row - node_reach, 0), min(row + node_reach, cells - 1) + 1):
            for c in range(max(column - node_reach, 0), min(column + node_reach, cells - 1) + 1):
                node = node_head[r, c]
                while node >= 0 and free:
                    free = _distance2(nodes, node, x, y, z) > exclusion[node] * exclusion[node]
                    node = node_next[node]
        if not free:
            continue
        sinks[sink_count] = candidates[candidate]
        sink_next[sink_count] = sink_head[row, column]
        sink_head[row, column] = sink_count
        sink_count += 1
    return sink_count


@njit(cache=True)
def nearest_node(targets, target_count, nodes, node_count, eligible, reach, cells):  # type: ignore[no-untyped-def]
    """(target_count,) index of the nearest node with ``eligible`` true within ``reach`` of each target, else -1."""
    head = np.full((cells, cells), -1, np.int64)
    following = np.empty(node_count, np.int64)
    for index in range(node_count):
        if eligible[index]:
            row, column = _cell(nodes[index, 0], cells), _cell(nodes[index, 1], cells)
            following[index] = head[row, column]
            head[row, column] = index
    nearest = np.full(target_count, -1, np.int64)
    rings = int(np.ceil(reach * cells))
    for target in range(target_count):
        x, y, z = targets[target, 0], targets[target, 1], targets[target, 2]
        row, column = _cell(x, cells), _cell(y, cells)
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
                        d2 = _distance2(nodes, node, x, y, z)
                        if d2 < best2 or (d2 == best2 and (best < 0 or node < best)):
                            best, best2 = node, d2
                        node = following[node]
        nearest[target] = best
    return nearest


@njit(cache=True)
def murray_angles(r1, r2, kappa):  # type: ignore[no-untyped-def]
    """(parent radius, angle of branch 1, angle of branch 2 in radians) of least work, Murray 1926."""
    parent = (r1**kappa + r2**kappa) ** (1.0 / kappa)
    p4, a4, b4 = parent**4, r1**4, r2**4
    cos1 = (p4 + a4 - b4) / (2.0 * parent * parent * r1 * r1)
    cos2 = (p4 + b4 - a4) / (2.0 * parent * parent * r2 * r2)
    return parent, np.arccos(min(max(cos1, -1.0), 1.0)), np.arccos(min(max(cos2, -1.0), 1.0))


@njit(cache=True)
def _unit(v):  # type: ignore[no-untyped-def]
    norm = np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    return (v[0] / norm, v[1] / norm, v[2] / norm) if norm > 0 else v


@njit(cache=True)
def _angle(a, b):  # type: ignore[no-untyped-def]
    a, b = _unit(a), _unit(b)
    return np.arccos(min(max(a[0] * b[0] + a[1] * b[1] + a[2] * b[2], -1.0), 1.0))


@njit(cache=True)
def _cross(a, b):  # type: ignore[no-untyped-def]
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@njit(cache=True)
def principal_axis(xx, yy, zz, xy, xz, yz):  # type: ignore[no-untyped-def]
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
def fold_into_slab(z, thickness):  # type: ignore[no-untyped-def]
    """Reflect z at the faces 0 and ``thickness`` of the slab until it lies inside."""
    z = abs(z) % (2.0 * thickness)
    return 2.0 * thickness - z if z > thickness else z


@njit(cache=True)
def grow(  # type: ignore[no-untyped-def]
    nodes, radius, parent, children, child_count, count, sinks, nearest, uniform,
    step, thickness, terminal_radius, gamma, phi, omega, kappa, node_kappa, faz_radius, faz_x, faz_y, rotation_radius, rotation_floor,
):  # fmt: skip
    """One growth step of one forest towards its sinks; returns the new number of nodes.

    Node arrays have room for two children per node; ``nearest`` (S,) assigns sinks to nodes, ``uniform`` (count,) is
    one random number in [0, 1) per node for the fovea rule; ``node_kappa`` (capacity,) is the exponent of the stage in
    which a node appeared. Angles in radians, lengths in units of the field.
    A negative ``rotation_radius`` switches the rotation around the fovea off. Sources: card sections 2.2 (rules),
    Murray's law for radii. Vessels end at the lateral faces and are reflected at the slab's top and bottom.
    """
    sink_count = nearest.shape[0]
    first = np.zeros(count + 1, np.int64)
    for sink in range(sink_count):
        if nearest[sink] >= 0:
            first[nearest[sink] + 1] += 1
    for node in range(count):
        first[node + 1] += first[node]
    order, cursor = np.empty(first[count], np.int64), first.copy()
    for sink in range(sink_count):
        node = nearest[sink]
        if node >= 0:
            order[cursor[node]] = sink
            cursor[node] += 1
    kept, angles = np.empty(sink_count, np.int64), np.empty(sink_count)
    new_count = count
    for node in range(count):
        if first[node + 1] == first[node] or parent[node] < 0 or child_count[node] > 1:
            continue
        px, py, pz = nodes[node, 0], nodes[node, 1], nodes[node, 2]
        up = parent[node]
        forward = (px - nodes[up, 0], py - nodes[up, 1], pz - nodes[up, 2])
        to_fovea = (faz_x - px, faz_y - py, 0.0)
        fovea_distance = np.sqrt(to_fovea[0] ** 2 + to_fovea[1] ** 2)
        leaf = child_count[node] == 0
        distal, branch_angle, sprout_angle = forward, 0.0, 0.0
        if not leaf:
            child = children[node, 0]
            distal = (nodes[child, 0] - px, nodes[child, 1] - py, nodes[child, 2] - pz)
            _, angle1, sprout_angle = murray_angles(radius[child], terminal_radius, kappa)
            branch_angle = angle1 + sprout_angle
        kept_count, sx, sy, sz = 0, 0.0, 0.0, 0.0
        for position in range(first[node], first[node + 1]):
            sink = order[position]
            direction = (sinks[sink, 0] - px, sinks[sink, 1] - py, sinks[sink, 2] - pz)
            angle = _angle(forward, direction)
            if leaf:
                inside = angle <= gamma / 2
            else:
                inside = (
                    abs(_angle(distal, direction) - branch_angle) <= gamma / 2 and angle <= sprout_angle + gamma / 2
                )
            if inside:
                unit = _unit(direction)
                sx, sy, sz = sx + unit[0], sy + unit[1], sz + unit[2]
                kept[kept_count], angles[kept_count] = sink, angle
                kept_count += 1
        if kept_count == 0:
            continue
        attraction = (sx, sy, sz)
        away = _angle(to_fovea, (sx, sy, 0.0)) > np.pi / 2
        allowed = faz_radius <= 0 or uniform[node] < (fovea_distance / (2.0 * faz_radius)) ** 5
        if leaf:
            mean_angle = 0.0
            for k in range(kept_count):
                mean_angle += angles[k] / kept_count
            variance = 0.0
            for k in range(kept_count):
                variance += (angles[k] - mean_angle) ** 2 / kept_count
            if np.sqrt(variance) > phi and (faz_radius <= 0 or (allowed and away)):
                mx, my, mz = 0.0, 0.0, 0.0
                for k in range(kept_count):
                    mx += sinks[kept[k], 0] / kept_count
                    my += sinks[kept[k], 1] / kept_count
                    mz += sinks[kept[k], 2] / kept_count
                xx, yy, zz, xy, xz, yz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
                for k in range(kept_count):
                    dx, dy, dz = sinks[kept[k], 0] - mx, sinks[kept[k], 1] - my, sinks[kept[k], 2] - mz
                    xx, yy, zz = xx + dx * dx, yy + dy * dy, zz + dz * dz
                    xy, xz, yz = xy + dx * dy, xz + dx * dz, yz + dy * dz
                axis = _unit((mx - px, my - py, mz - pz))
                spread = principal_axis(xx, yy, zz, xy, xz, yz)
                _, opening, _ = murray_angles(terminal_radius, terminal_radius, kappa)
                cosine, sine = np.cos(opening), np.sin(opening)
                one = _unit(
                    (
                        cosine * axis[0] + sine * spread[0],
                        cosine * axis[1] + sine * spread[1],
                        cosine * axis[2] + sine * spread[2],
                    )
                )
                two = _unit(
                    (
                        cosine * axis[0] - sine * spread[0],
                        cosine * axis[1] - sine * spread[1],
                        cosine * axis[2] - sine * spread[2],
                    )
                )
                before = new_count
                new_count = _sprout(
                    nodes, radius, parent, children, child_count, new_count, node, one, step, thickness, terminal_radius
                )
                new_count = _sprout(
                    nodes, radius, parent, children, child_count, new_count, node, two, step, thickness, terminal_radius
                )
                if new_count > before + 1:
                    _thicken(radius, parent, children, child_count, node, node_kappa)
                continue
            straight, pull = _unit(forward), _unit(attraction)
            g = _unit((
                omega * straight[0] + (1 - omega) * pull[0],
                omega * straight[1] + (1 - omega) * pull[1],
                omega * straight[2] + (1 - omega) * pull[2],
            ))  # fmt: skip
            if rotation_radius > 0 and fovea_distance > 0:
                ahead = np.sqrt((faz_x - px - step * g[0]) ** 2 + (faz_y - py - step * g[1]) ** 2)
                weight = np.sqrt(max(rotation_floor, rotation_radius - ahead))
                inward = (to_fovea[0] / fovea_distance, to_fovea[1] / fovea_distance, 0.0)
                turn = -1.0 if g[1] * inward[0] - g[0] * inward[1] < 0 else 1.0
                g = (
                    (1 - weight) * g[0] + weight * (-0.7 * turn * inward[1] - 0.3 * inward[0]),
                    (1 - weight) * g[1] + weight * (0.7 * turn * inward[0] - 0.3 * inward[1]),
                    (1 - weight) * g[2],
                )
            new_count = _sprout(
                nodes,
                radius,
                parent,
                children,
                child_count,
                new_count,
                node,
                _unit(g),
                step,
                thickness,
                terminal_radius,
            )
        else:
            if faz_radius > 0 and not allowed and not away:
                continue
            distal = _unit(distal)
            rotation_axis = _cross(distal, attraction)
            if rotation_axis[0] == 0 and rotation_axis[1] == 0 and rotation_axis[2] == 0:
                continue
            rotation_axis = _unit(rotation_axis)
            side = _cross(
                rotation_axis, distal
            )  # the axis is perpendicular to distal: Rodrigues without its third term
            cosine, sine = np.cos(sprout_angle), np.sin(sprout_angle)
            ideal = (
                cosine * distal[0] + sine * side[0],
                cosine * distal[1] + sine * side[1],
                cosine * distal[2] + sine * side[2],
            )
            pull = _unit(attraction)
            g = _unit((
                omega * ideal[0] + (1 - omega) * pull[0],
                omega * ideal[1] + (1 - omega) * pull[1],
                omega * ideal[2] + (1 - omega) * pull[2],
            ))  # fmt: skip
            before = new_count
            new_count = _sprout(
                nodes, radius, parent, children, child_count, new_count, node, g, step, thickness, terminal_radius
            )
            if new_count > before:
                _thicken(radius, parent, children, child_count, node, node_kappa)
    return new_count


@njit(cache=True)
def _sprout(nodes, radius, parent, children, child_count, count, node, direction, step, thickness, terminal_radius):  # type: ignore[no-untyped-def]
    x, y = nodes[node, 0] + step * direction[0], nodes[node, 1] + step * direction[1]
    if x < 0.0 or x > 1.0 or y < 0.0 or y > 1.0:
        return count
    nodes[count, 0], nodes[count, 1] = x, y
    nodes[count, 2] = fold_into_slab(nodes[node, 2] + step * direction[2], thickness)
    radius[count], parent[count], child_count[count] = terminal_radius, node, 0
    children[node, child_count[node]] = count
    child_count[node] += 1
    return count + 1


@njit(cache=True)
def _thicken(radius, parent, children, child_count, node, kappa):  # type: ignore[no-untyped-def]
    """Murray's law, each node with its own exponent, from this node up to its root; stops where nothing changes."""
    while node >= 0 and parent[node] >= 0:
        total = 0.0
        for k in range(child_count[node]):
            total += radius[children[node, k]] ** kappa[node]
        updated = total ** (1.0 / kappa[node])
        if updated == radius[node]:
            return
        radius[node] = updated
        node = parent[node]
