"""The growth rules written down literally, one node and one sink at a time: slow reference for the compiled step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class Rules:
    step: float
    thickness: float
    terminal_radius: float
    gamma: float
    phi: float
    omega: float
    kappa: float
    faz_radius: float = 0.0
    fovea: tuple[float, float] = (0.5, 0.5)
    rotation_radius: float = -1.0
    rotation_floor: float = 0.0


def unit(v: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(v)
    return v / norm if norm > 0 else v


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return math.acos(float(np.clip(unit(a) @ unit(b), -1, 1)))


def murray(r1: float, r2: float, kappa: float) -> tuple[float, float, float]:
    rp = (r1**kappa + r2**kappa) ** (1 / kappa)
    f1 = math.acos((rp**4 + r1**4 - r2**4) / (2 * rp**2 * r1**2))
    f2 = math.acos((rp**4 + r2**4 - r1**4) / (2 * rp**2 * r2**2))
    return rp, f1, f2


def assign(nodes: np.ndarray, child_count: list[int], sinks: np.ndarray, reach: float) -> list[int]:
    """Nearest node with fewer than two children within reach of every sink, else -1."""
    result = []
    for sink in sinks:
        distances = [np.linalg.norm(n - sink) if c < 2 else np.inf for n, c in zip(nodes, child_count, strict=True)]
        best = int(np.argmin(distances))
        result.append(best if distances[best] <= reach else -1)
    return result


def grow_once(
    nodes: list[np.ndarray], radius: list[float], parent: list[int], sinks: np.ndarray, nearest: list[int],
    uniform: np.ndarray, kappas: list[float], rules: Rules,
) -> None:  # fmt: skip
    """Append the nodes that one step adds; updates radii by Murray's law up to the root."""
    for node in range(len(nodes)):
        assigned = [sinks[i] for i in range(len(sinks)) if nearest[i] == node]
        children = [i for i, p in enumerate(parent) if p == node]
        if not assigned or parent[node] < 0 or len(children) > 1:
            continue
        here, forward = nodes[node], nodes[node] - nodes[parent[node]]
        to_faz = np.array([*rules.fovea, 0.0]) - np.array([here[0], here[1], 0.0])
        distance = float(np.linalg.norm(to_faz))
        near_rule = rules.faz_radius <= 0 or uniform[node] < (distance / (2 * rules.faz_radius)) ** 5
        if not children:
            kept = [s for s in assigned if angle(forward, s - here) <= rules.gamma / 2]
            if not kept:
                continue
            pull = sum(unit(s - here) for s in kept)
            away = angle(to_faz, np.array([pull[0], pull[1], 0])) > math.pi / 2
            spread = np.std([angle(forward, s - here) for s in kept])
            if spread > rules.phi and (rules.faz_radius <= 0 or (near_rule and away)):
                mean = np.mean(kept, axis=0)
                axis = unit(mean - here)
                values, vectors = np.linalg.eigh(np.cov(np.array(kept).T))
                across = vectors[:, int(np.argmax(values))]
                _, opening, _ = murray(rules.terminal_radius, rules.terminal_radius, rules.kappa)
                before = len(nodes)
                for sign in (1, -1):
                    direction = unit(math.cos(opening) * axis + sign * math.sin(opening) * across)
                    add(nodes, radius, parent, kappas, node, direction, rules)
                if len(nodes) == before + 2:
                    thicken(radius, parent, kappas, node)
                continue
            g = unit(rules.omega * unit(forward) + (1 - rules.omega) * unit(pull))
            if rules.rotation_radius > 0 and distance > 0:
                ahead = np.linalg.norm(np.array(rules.fovea) - (here + rules.step * g)[:2])
                weight = math.sqrt(max(rules.rotation_floor, rules.rotation_radius - ahead))
                inward = to_faz / distance
                tangent = np.array([-inward[1], inward[0], 0.0])
                if g[0] * tangent[0] + g[1] * tangent[1] < 0:
                    tangent = -tangent
                g = (1 - weight) * g + 0.7 * weight * tangent - 0.3 * weight * inward
            add(nodes, radius, parent, kappas, node, unit(g), rules)
        else:
            child = children[0]
            distal = nodes[child] - here
            _, f1, f2 = murray(radius[child], rules.terminal_radius, rules.kappa)
            kept = [
                s for s in assigned
                if abs(angle(distal, s - here) - (f1 + f2)) <= rules.gamma / 2
                and angle(forward, s - here) <= f2 + rules.gamma / 2
            ]  # fmt: skip
            if not kept:
                continue
            pull = sum(unit(s - here) for s in kept)
            away = angle(to_faz, np.array([pull[0], pull[1], 0])) > math.pi / 2
            if rules.faz_radius > 0 and not near_rule and not away:
                continue
            cross = np.cross(unit(distal), pull)
            if not cross.any():
                continue
            k, v = unit(cross), unit(distal)
            rotated = v * math.cos(f2) + np.cross(k, v) * math.sin(f2) + k * (k @ v) * (1 - math.cos(f2))
            g = unit(rules.omega * unit(rotated) + (1 - rules.omega) * unit(pull))
            before = len(nodes)
            add(nodes, radius, parent, kappas, node, g, rules)
            if len(nodes) > before:
                thicken(radius, parent, kappas, node)


def add(
    nodes: list[np.ndarray], radius: list[float], parent: list[int], kappas: list[float], node: int,
    direction: np.ndarray, rules: Rules,
) -> None:  # fmt: skip
    new = nodes[node] + rules.step * direction
    if not (0 <= new[0] <= 1 and 0 <= new[1] <= 1):
        return
    while not 0 <= new[2] <= rules.thickness:
        new[2] = -new[2] if new[2] < 0 else 2 * rules.thickness - new[2]
    nodes.append(new)
    radius.append(rules.terminal_radius)
    parent.append(node)
    kappas.append(rules.kappa)


def thicken(radius: list[float], parent: list[int], kappas: list[float], node: int) -> None:
    while parent[node] >= 0:
        total = sum(radius[i] ** kappas[node] for i, p in enumerate(parent) if p == node)
        radius[node] = total ** (1 / kappas[node])
        node = parent[node]
