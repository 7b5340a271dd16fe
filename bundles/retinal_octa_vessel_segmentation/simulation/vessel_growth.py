"""Growth of the retinal vasculature: arteries towards oxygen sinks, veins towards the carbon dioxide they leave.

Method: Kreitner et al. 2024 (IEEE TMI 43(6)) after Rauch and Harders 2021 and Schneider et al. 2012.
"""

from __future__ import annotations

import math

import numpy as np

from retinal_octa_vessel_segmentation.simulation.growth_parameters import GrowthParameters, GrowthStage
from retinal_octa_vessel_segmentation.simulation.neighbour_grid import accept_sinks, nearest_node
from retinal_octa_vessel_segmentation.simulation.space_colonisation import ForestArrays, StepRules, grow
from retinal_octa_vessel_segmentation.simulation.vessel_graph import VesselGraph


class Forest:
    """Rooted binary trees in growing arrays; node 0 .. count-1, a parent before its children, roots have parent -1.

    Attributes:
        nodes: (capacity, 3) positions in units of the field.
        radius: (capacity,) radius of the segment to the parent.
        parent, child_count: (capacity,); children: (capacity, 2), -1 where there is none.
        stage, kappa: (capacity,) growth stage in which the node appeared, and the bifurcation exponent of that stage.
    """

    def __init__(self, roots: np.ndarray, tips: np.ndarray, radius: float, kappa: float):
        trees = len(roots)
        self.count = 2 * trees
        capacity = max(4096, self.count)
        self.nodes = np.zeros((capacity, 3))
        self.radius = np.zeros(capacity)
        self.parent = np.full(capacity, -1, np.int64)
        self.children = np.full((capacity, 2), -1, np.int64)
        self.child_count = np.zeros(capacity, np.int64)
        self.stage = np.zeros(capacity, np.int64)
        self.kappa = np.full(capacity, kappa)
        self.nodes[:trees], self.nodes[trees : 2 * trees] = roots, tips
        self.radius[: self.count] = radius
        self.parent[trees : 2 * trees] = np.arange(trees)
        self.children[:trees, 0] = np.arange(trees, 2 * trees)
        self.child_count[:trees] = 1

    def reserve(self) -> None:
        """Make room for two children of every node that can still grow."""
        needed = self.count + 2 * int((self.child_count[: self.count] < 2).sum())
        while len(self.radius) < needed:
            for name in ("nodes", "radius", "parent", "children", "child_count", "stage", "kappa"):
                old = getattr(self, name)
                empty = -1 if name in ("parent", "children") else 0
                setattr(self, name, np.concatenate([old, np.full_like(old, empty)]))

    def arrays(self) -> ForestArrays:
        """The arrays as the compiled growth step takes and changes them; they are others after ``reserve``."""
        return ForestArrays(self.nodes, self.radius, self.parent, self.children, self.child_count, self.kappa)


def grow_vessels(parameters: GrowthParameters, seed: int) -> VesselGraph:
    """Grow one eye; the same seed gives the same graph, byte for byte.

    Returns:
        Arterial segments first, then venous ones.
    """
    rng = np.random.default_rng(seed)
    p = parameters
    scale = p.field_mm
    thickness = p.slab_mm / scale
    faz = max(rng.normal(p.faz_mm, p.faz_sd_mm), 0.0) / scale if p.faz_mm > 0 else 0.0
    terminal = p.terminal_radius_mm / scale
    arteries = Forest(*_stumps(p.arterial_trees, p, rng), terminal, p.stages[0].kappa)
    veins = Forest(*_stumps(p.venous_trees, p, rng), terminal, p.stages[0].kappa)
    oxygen, carbon_dioxide = np.zeros((0, 3)), np.zeros((0, 3))
    step_mm, iteration = p.step_mm, 0
    for index, stage in enumerate(p.stages):
        for local in range(stage.iterations):
            sigma = 1.0 + local * stage.delta_sigma
            if index == 0:
                step_mm = max(p.step_mm / sigma, p.least_step_mm)
            rotation = p.rotation_mm / scale if iteration > p.rotation_delay and p.rotation_mm > 0 else -1.0
            args = (stage, sigma, step_mm / scale, thickness, terminal, faz, p, rotation, index)
            satisfaction = stage.eps_k_mm / sigma / scale

            oxygen = _sample_sinks(oxygen, arteries, stage, sigma, faz, p, thickness, rng)
            new = _grow_forest(arteries, oxygen, rng, *args)
            satisfied = _near(oxygen, new, satisfaction)
            freed = oxygen[satisfied]
            oxygen = oxygen[~satisfied]
            unserved = ~_near(freed, veins.nodes[: veins.count], satisfaction)
            carbon_dioxide = np.concatenate([carbon_dioxide, freed[unserved]])

            new = _grow_forest(veins, carbon_dioxide, rng, *args)
            carbon_dioxide = carbon_dioxide[~_near(carbon_dioxide, new, satisfaction)]
            iteration += 1
    return _to_graph(arteries, veins, scale)


def _stumps(trees: int, p: GrowthParameters, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Root and first node of each tree: (trees, 3) each."""
    step, thickness = p.step_mm / p.field_mm, p.slab_mm / p.field_mm
    roots, directions = np.zeros((trees, 3)), np.zeros((trees, 3))
    for tree in range(trees):
        if p.roots == "nerve":
            angle, distance = rng.uniform(0, 2 * math.pi), 0.3 / p.field_mm * math.sqrt(rng.uniform())
            roots[tree, :2] = np.asarray(p.nerve_centre) + distance * np.array([math.cos(angle), math.sin(angle)])
            roots[tree, 2] = rng.uniform(0, thickness)
            heading = rng.uniform(0, 2 * math.pi)
            directions[tree] = math.cos(heading), math.sin(heading), 0.0
            continue
        axis, far = int(rng.integers(2)), bool(rng.integers(2))
        along = 1 - axis
        roots[tree, axis] = float(far)
        roots[tree, along] = rng.uniform()
        roots[tree, 2] = rng.uniform(0, thickness)
        directions[tree, axis] = rng.uniform(0.1, 1) * (-1 if far else 1)
        for other, size in ((along, 1.0), (2, thickness)):
            position = roots[tree, other]
            low, high = -float(position - step > 0), float(position + step < size)
            directions[tree, other] = rng.uniform(low, high)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    tips = roots + step * directions
    tips[:, :2] = np.clip(tips[:, :2], 0.0, 1.0)
    tips[:, 2] = np.clip(tips[:, 2], 0.0, thickness)
    return roots, tips


def oxygen_distance(radius_mm: np.ndarray | float) -> np.ndarray | float:
    """Distance in mm within which a vessel of this radius supplies the tissue (Schneider et al. 2012).

    Greatest, 24.5 um, at a radius of 3.5 um.
    """
    ratio = np.asarray(radius_mm) / 3.5e-3
    return 6.0 * 0.02 * 0.2039 * ratio * np.exp(1.0 - ratio)


def _sample_sinks(
    sinks: np.ndarray,
    arteries: Forest,
    stage: GrowthStage,
    sigma: float,
    faz: float,
    p: GrowthParameters,
    thickness: float,
    rng: np.random.Generator,
) -> np.ndarray:
    count = max(1, round(stage.sinks_per_step * (p.field_mm / 3.0) ** 2))
    candidates = rng.random((count, 3)) * (1.0, 1.0, thickness)
    candidates = candidates[np.hypot(candidates[:, 0] - p.faz_centre[0], candidates[:, 1] - p.faz_centre[1]) > faz / 2]
    exclusion_mm = np.full(arteries.count, max(stage.eps_n_mm, stage.eps_k_mm) / sigma)
    if p.exclusion == "radius":
        supplied = oxygen_distance(arteries.radius[: arteries.count] * p.field_mm)
        exclusion_mm = np.minimum(supplied, exclusion_mm)
    room = np.empty((len(sinks) + len(candidates), 3))
    room[: len(sinks)] = sinks
    spacing = stage.eps_s_mm / sigma / p.field_mm
    total = accept_sinks(
        candidates, room, len(sinks), arteries.nodes, exclusion_mm / p.field_mm, spacing, _cells(spacing)
    )
    return room[:total]


def _grow_forest(
    forest: Forest,
    sinks: np.ndarray,
    rng: np.random.Generator,
    stage: GrowthStage,
    sigma: float,
    step: float,
    thickness: float,
    terminal: float,
    faz: float,
    p: GrowthParameters,
    rotation: float,
    index: int,
) -> np.ndarray:
    """Let the forest grow by one step; returns the positions (K, 3) of its new nodes."""
    forest.reserve()
    forest.kappa[forest.count :] = stage.kappa
    reach = stage.delta_mm / sigma / p.field_mm
    eligible = forest.child_count[: forest.count] < 2
    nearest = nearest_node(sinks, forest.nodes, eligible, reach, _cells(reach))
    rules = StepRules(
        step=step,
        thickness=thickness,
        terminal_radius=terminal,
        gamma=math.radians(stage.gamma_deg),
        phi=math.radians(stage.phi_deg),
        omega=stage.omega,
        kappa=stage.kappa,
        faz_radius=faz,
        fovea=(p.faz_centre[0], p.faz_centre[1]),
        rotation_radius=rotation,
        rotation_floor=stage.rotation_floor,
    )
    before = forest.count
    forest.count = grow(forest.arrays(), before, sinks, nearest, rng.random(before), rules)
    forest.stage[before : forest.count] = index
    return forest.nodes[before : forest.count]


def _near(points: np.ndarray, nodes: np.ndarray, distance: float) -> np.ndarray:
    """(P,) true where a node lies within ``distance`` of the point."""
    everyone = np.ones(len(nodes), dtype=bool)
    return nearest_node(points, nodes, everyone, distance, _cells(distance)) >= 0


def _cells(reach: float) -> int:
    """Cells per side of the neighbour grid for a search radius in units of the field: about two cells per radius."""
    return int(min(max(2.0 / reach, 4), 512))


def _to_graph(arteries: Forest, veins: Forest, field_mm: float) -> VesselGraph:
    parts = []
    offset = 0
    for forest in (arteries, veins):
        n = forest.count
        child = np.flatnonzero(forest.parent[:n] >= 0)
        edge_of_node = np.full(n, -1, np.int64)
        edge_of_node[child] = np.arange(len(child)) + offset
        up = forest.parent[child]
        parts.append(
            (forest.nodes[up], forest.nodes[child], forest.radius[child], edge_of_node[up], forest.stage[child])
        )
        offset += len(child)
    start, end, radius, parent, stage = (np.concatenate(column) for column in zip(*parts, strict=True))
    artery = np.arange(len(radius)) < len(parts[0][2])
    return VesselGraph(start, end, radius, parent, artery, stage, float(field_mm))
