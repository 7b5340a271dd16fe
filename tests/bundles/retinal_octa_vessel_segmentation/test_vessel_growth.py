"""The growth engine: Murray's law, the published rules by hand, the literal slow loop, and the published statistics."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from literal_growth import Rules, assign, grow_once

from retinal_octa_vessel_segmentation.simulation.growth_parameters import DEEP, SUPERFICIAL, GrowthParameters
from retinal_octa_vessel_segmentation.simulation.neighbour_grid import accept_sinks, nearest_node
from retinal_octa_vessel_segmentation.simulation.space_colonisation import (
    ForestArrays,
    StepRules,
    fold_into_slab,
    grow,
    murray_angles,
    principal_axis,
)
from retinal_octa_vessel_segmentation.simulation.vessel_graph import VesselGraph
from retinal_octa_vessel_segmentation.simulation.vessel_growth import grow_vessels, oxygen_distance

TERMINAL = 0.0025 / 3


@pytest.fixture(scope="module")
def eye() -> VesselGraph:
    return grow_vessels(GrowthParameters(field_mm=3.0), seed=5)


def small_parameters(**changes: object) -> GrowthParameters:
    stages = (dataclasses.replace(SUPERFICIAL, iterations=20), dataclasses.replace(DEEP, iterations=15))
    return dataclasses.replace(GrowthParameters(field_mm=3.0, stages=stages), **changes)


@pytest.mark.parametrize(("kappa", "degrees"), [(2.55, 30.561), (2.9, 36.249), (3.0, 37.467)])
def test_equal_branches_open_by_the_least_work_angle(kappa: float, degrees: float) -> None:
    parent, one, two = murray_angles(1.0, 1.0, kappa)
    assert math.degrees(one) == pytest.approx(degrees, abs=0.02)
    assert math.cos(one) == pytest.approx(2 ** (2 / kappa) / 2, abs=1e-9)
    assert one == pytest.approx(two)
    assert parent == pytest.approx(2 ** (1 / kappa))


def test_unequal_branches_are_in_force_balance() -> None:
    parent, one, two = murray_angles(2.0, 1.0, 3.0)
    assert parent == pytest.approx(9 ** (1 / 3))
    assert 4 * math.sin(one) == pytest.approx(math.sin(two))
    assert 4 * math.cos(one) + math.cos(two) == pytest.approx(parent**2)


def test_oxygen_distance_is_greatest_at_3_5_um() -> None:
    radii = np.linspace(0.5e-3, 30e-3, 2000)
    distances = oxygen_distance(radii)
    assert radii[np.argmax(distances)] == pytest.approx(3.5e-3, abs=2e-5)
    assert distances.max() == pytest.approx(0.02447, abs=1e-5)
    assert oxygen_distance(2.5e-3) == pytest.approx(0.0233, abs=1e-4)
    assert oxygen_distance(10e-3) == pytest.approx(0.0109, abs=1e-4)


def test_principal_axis_equals_eigh() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        points = rng.normal(size=(int(rng.integers(2, 6)), 3)) * rng.uniform(0.01, 2, 3)
        c = np.cov(points.T)
        axis = np.array(principal_axis(c[0, 0], c[1, 1], c[2, 2], c[0, 1], c[0, 2], c[1, 2]))
        assert abs(axis @ np.linalg.eigh(c)[1][:, -1]) == pytest.approx(1, abs=1e-6)


def test_nodes_are_reflected_into_the_slab() -> None:
    for z in np.linspace(-0.2, 0.2, 101):
        expected = z
        while not 0 <= expected <= 0.0131:
            expected = -expected if expected < 0 else 2 * 0.0131 - expected
        assert fold_into_slab(z, 0.0131) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("cells", [4, 13, 64])
def test_nearest_node_equals_brute_force(cells: int) -> None:
    rng = np.random.default_rng(cells)
    nodes, sinks = rng.random((300, 3)) * (1, 1, 0.0131), rng.random((200, 3)) * (1, 1, 0.0131)
    eligible = rng.random(300) < 0.6
    distances = np.linalg.norm(sinks[:, None] - nodes[None], axis=2)
    distances[:, ~eligible] = np.inf
    expected = np.where(distances.min(axis=1) <= 0.05, distances.argmin(axis=1), -1)
    np.testing.assert_array_equal(nearest_node(sinks, nodes, eligible, 0.05, cells), expected)


def test_sinks_are_accepted_as_in_the_literal_rule() -> None:
    rng = np.random.default_rng(3)
    nodes, exclusion = rng.random((150, 3)) * (1, 1, 0.0131), rng.uniform(0, 0.03, 150)
    candidates, spacing = rng.random((400, 3)) * (1, 1, 0.0131), 0.03
    old = rng.random((20, 3)) * (1, 1, 0.0131)
    expected = list(old)
    for c in candidates:
        if (
            all(np.linalg.norm(c - s) > spacing for s in expected)
            and (np.linalg.norm(nodes - c, axis=1) > exclusion).all()
        ):
            expected.append(c)
    room = np.zeros((420, 3))
    room[:20] = old
    count = accept_sinks(candidates, room, 20, nodes, exclusion, spacing, 32)
    np.testing.assert_array_equal(room[:count], np.array(expected))


def one_step(nodes, parent, radius, sinks, uniform=None, **rules):  # type: ignore[no-untyped-def]
    """Compiled and literal result of one step: (nodes, radius, parent) twice."""
    settings = Rules(**{"step": 0.02, "thickness": 0.0131, "terminal_radius": TERMINAL, "gamma": math.radians(90),
                        "phi": math.radians(15), "omega": 0.0, "kappa": 2.9, **rules})  # fmt: skip
    nodes, sinks = np.asarray(nodes, float), np.asarray(sinks, float)
    n, room = len(nodes), 3 * len(nodes) + 4
    uniform = np.zeros(n) if uniform is None else uniform
    fast = ForestArrays(
        nodes=np.zeros((room, 3)),
        radius=np.zeros(room),
        parent=np.full(room, -1),
        children=np.full((room, 2), -1),
        child_count=np.zeros(room, np.int64),
        kappa=np.full(room, settings.kappa),
    )
    fast.nodes[:n], fast.radius[:n], fast.parent[:n] = nodes, radius, parent
    for node, up in enumerate(parent):
        if up >= 0:
            fast.children[up, fast.child_count[up]] = node
            fast.child_count[up] += 1
    nearest = nearest_node(sinks, fast.nodes, fast.child_count[:n] < 2, 0.2, 16)
    assert nearest.tolist() == assign(nodes, fast.child_count[:n].tolist(), sinks, 0.2)
    total = grow(fast, n, sinks, nearest, uniform, StepRules(**dataclasses.asdict(settings)))
    slow_nodes, slow_radius, slow_parent = list(nodes), list(radius), list(parent)
    grow_once(slow_nodes, slow_radius, slow_parent, sinks, nearest.tolist(), uniform, [settings.kappa] * room, settings)
    compiled = fast.nodes[:total], fast.radius[:total], fast.parent[:total]
    return compiled, (np.array(slow_nodes), np.array(slow_radius), np.array(slow_parent))


def straight_stump() -> tuple[list[list[float]], list[int], list[float]]:
    return [[0.3, 0.5, 0.005], [0.4, 0.5, 0.005]], [-1, 0], [TERMINAL, TERMINAL]


def polar(distance: float, degrees: float) -> list[float]:
    """Point at an angle to the stump's direction, seen from its tip."""
    return [0.4 + distance * math.cos(math.radians(degrees)), 0.5 + distance * math.sin(math.radians(degrees)), 0.005]


def test_a_leaf_elongates_by_one_step_towards_a_sink_straight_ahead() -> None:
    (nodes, _, parent), _ = one_step(*straight_stump(), [polar(0.1, 0)])
    assert len(nodes) == 3
    assert parent[2] == 1
    np.testing.assert_allclose(nodes[2], [0.42, 0.5, 0.005], atol=1e-12)


def test_a_leaf_bifurcates_by_the_murray_angle_in_the_plane_of_its_sinks() -> None:
    (nodes, radius, _), _ = one_step(*straight_stump(), [polar(0.1, 0), polar(0.1, 40)])
    assert len(nodes) == 4
    directions = sorted(math.degrees(math.atan2(n[1] - 0.5, n[0] - 0.4)) for n in nodes[2:])
    np.testing.assert_allclose(directions, [20 - 36.249, 20 + 36.249], atol=0.02)
    assert radius[1] == pytest.approx(TERMINAL * 2 ** (1 / 2.9))


def test_a_symmetric_pair_elongates_because_the_published_rule_uses_unsigned_angles() -> None:
    (nodes, _, _), _ = one_step(*straight_stump(), [polar(0.1, 20), polar(0.1, -20)])
    assert len(nodes) == 3


@pytest.mark.parametrize("sink", [polar(0.1, 60), polar(0.3, 0)], ids=["outside the cone", "beyond delta"])
def test_a_sink_that_is_not_perceived_changes_nothing(sink: list[float]) -> None:
    (nodes, _, _), _ = one_step(*straight_stump(), [sink])
    assert len(nodes) == 2


def test_one_step_equals_the_literal_loop() -> None:
    rng = np.random.default_rng(11)
    for trial in range(6):
        nodes, parent = [[0.1 + 0.1 * i, 0.0, 0.005] for i in range(6)], [-1] * 6
        for depth in range(5):
            for tree in range(6):
                up = tree if depth == 0 else len(nodes) - 6
                step = np.array([rng.normal(0, 0.02), 0.05, 0])
                nodes.append(
                    list(np.clip(np.array(nodes[up]) + step, 0, 1) * (1, 1, 0) + (0, 0, rng.uniform(0, 0.0131)))
                )
                parent.append(up)
        radius = list(rng.uniform(1, 4, len(nodes)) * TERMINAL)
        sinks = rng.random((120, 3)) * (1, 1, 0.0131)
        extra = {"faz_radius": 0.15, "rotation_radius": 0.35, "rotation_floor": 0.01, "omega": 0.3} if trial % 2 else {}
        fast, slow = one_step(nodes, parent, radius, sinks, uniform=rng.random(len(nodes)), **extra)
        assert len(fast[0]) > len(nodes)
        np.testing.assert_array_equal(fast[2], slow[2])
        np.testing.assert_allclose(fast[1], slow[1], rtol=1e-12)
        for node in range(len(nodes), len(fast[0])):  # the two branches of a bifurcation come in either order
            siblings = np.flatnonzero(slow[2] == fast[2][node])
            assert min(np.abs(slow[0][s] - fast[0][node]).max() for s in siblings) < 1e-9


def test_forest_invariants(eye: VesselGraph) -> None:
    eye.check()
    assert (eye.parent < np.arange(len(eye))).all()
    children = np.bincount(eye.parent[eye.parent >= 0], minlength=len(eye))
    assert children.max() == 2
    linked = eye.parent >= 0
    np.testing.assert_array_equal(eye.start[linked], eye.end[eye.parent[linked]])
    assert (eye.parent < 0).sum() == 16
    assert (eye.artery[linked] == eye.artery[eye.parent[linked]]).all()


def test_vessels_stay_in_the_slab_and_in_the_field(eye: VesselGraph) -> None:
    for points in (eye.start, eye.end):
        assert ((points >= 0) & (points <= [1, 1, 0.0393 / 3])).all()


def test_murray_law_holds_up_the_tree_with_a_single_exponent() -> None:
    stages = tuple(dataclasses.replace(s, kappa=3.0) for s in small_parameters().stages)
    graph = grow_vessels(small_parameters(stages=stages), seed=2)
    children = np.bincount(graph.parent[graph.parent >= 0], minlength=len(graph))
    leaves = (children == 0).astype(float)
    for edge in range(len(graph) - 1, -1, -1):
        if graph.parent[edge] >= 0:
            leaves[graph.parent[edge]] += leaves[edge]
    np.testing.assert_allclose(graph.radius**3.0, leaves * TERMINAL**3.0, rtol=1e-9)


def test_no_vessel_crosses_the_avascular_zone(eye: VesselGraph) -> None:
    middle = (eye.start + eye.end) / 2
    assert 0.2 < np.hypot(*(middle[:, :2] - 0.5).T).min() * 3 < 0.35


def test_statistics_match_the_published_data_set() -> None:
    graphs = [grow_vessels(GrowthParameters(field_mm=3.0), seed) for seed in range(6)]
    edges = np.mean([len(g) for g in graphs])
    length = np.mean([g.length_mm.sum() for g in graphs])
    percentiles = np.mean([np.percentile(g.radius_mm * 1e3, [50, 75, 95, 99, 100]) for g in graphs], axis=0)
    assert 13000 * 0.95 <= edges <= 14100 * 1.05
    assert 533 * 0.95 <= length <= 578 * 1.05
    low, high = np.array([2.5, 4.0, 8.7, 16, 31]), np.array([2.5, 4.0, 9.0, 17, 45])
    assert ((percentiles >= 0.95 * low) & (percentiles <= 1.05 * high)).all(), percentiles


def test_the_same_seed_gives_the_same_bytes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        grow_vessels(small_parameters(), seed).write_csv(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_roots_at_the_optic_nerve() -> None:
    graph = grow_vessels(small_parameters(field_mm=12.0, roots="nerve"), seed=1)
    roots = graph.start[graph.parent < 0, :2]
    assert (np.hypot(*(roots - (0.43, 0.88)).T) * 12 <= 0.3 + 1e-9).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": [{"name": "SVC", "iterations": 1, "eps_k_mm": 0}]}, "eps_k_mm is 0"),
        ({"stages": [{"name": "SVC", "iterations": 1, "delta_mm": -1.0}]}, "delta_mm is -1.0"),
        ({"stages": [{"name": "SVC", "iterations": 1, "gamma_deg": 200.0}]}, "gamma_deg is 200.0"),
        ({"stages": [{"name": "SVC", "iterations": 1, "kappa": 0.5}]}, "kappa is 0.5"),
        ({"stages": [{"name": "SVC", "iterations": 1, "kappa": math.nan}]}, "kappa is nan"),
        ({"stages": [{"name": "SVC", "iterations": 1, "gama_deg": 50}]}, "unknown names .'gama_deg'"),
        ({"stages": []}, "stages is empty"),
        ({"faz_mm": 3.5}, "faz_mm is 3.5 .* must fit into the field"),
        ({"field_mm": None}, "field_mm is None"),
        ({"roots": "top"}, "roots is 'top'"),
    ],
)
def test_impossible_growth_parameters_are_refused_by_name(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GrowthParameters.from_config({"field_mm": 3.0, **change})


def test_a_missing_field_size_is_named() -> None:
    with pytest.raises(ValueError, match="field_mm is missing; give the side of the field of view in mm"):
        GrowthParameters.from_config({})
