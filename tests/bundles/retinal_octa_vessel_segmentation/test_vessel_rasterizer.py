"""The rasteriser: exact areas, invariances, and the obvious slow way."""

from __future__ import annotations

import numpy as np
import pytest

from retinal_octa_vessel_segmentation.simulation.rasterize_transform import (
    RandRasterizeVesselsd,
    drop_vessels,
    rasterize_window,
)
from retinal_octa_vessel_segmentation.simulation.vessel_graph import VesselGraph
from retinal_octa_vessel_segmentation.simulation.vessel_rasterizer import (
    artery_vein_label,
    centreline,
    paint_coverage_and_width,
    paint_segments,
    radius_map,
    vessel_coverage,
    vessel_label,
    vessel_volume,
)


def segments(count: int = 60, seed: int = 0, size: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    start = rng.uniform(4, size - 4, (count, 2))
    return start, start + rng.normal(0, 6, (count, 2)), rng.uniform(0.1, 4, count)


def graph_of(start: np.ndarray, end: np.ndarray, radius: np.ndarray, field_mm: float = 3.0) -> VesselGraph:
    n = len(radius)
    flat = np.zeros((n, 1))
    parent = np.full(n, -1)
    artery = np.arange(n) % 2 == 0
    return VesselGraph(
        np.hstack([start, flat]), np.hstack([end, flat]), radius, parent, artery, np.zeros(n, int), field_mm
    )


@pytest.mark.parametrize(("radius", "tolerance"), [(0.2, 0.03), (0.45, 0.03), (0.8, 0.03), (2.0, 0.01), (5.3, 0.01)])
def test_coverage_adds_up_to_the_area_of_the_capsule(radius: float, tolerance: float) -> None:
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(40):
        start = rng.uniform(60, 70, 2)
        angle = rng.uniform(0, 2 * np.pi)
        end = start + 45 * np.array([np.cos(angle), np.sin(angle)])
        painted = paint_segments(start[None], end[None], np.array([radius]), (130, 130)).sum(dtype=float)
        ratios.append(painted / (2 * radius * 45 + np.pi * radius**2))
    assert np.mean(ratios) == pytest.approx(1, abs=tolerance)
    assert np.std(ratios) < 1.5 * tolerance  # single directions, such as exactly diagonal ones, are off by more


def test_equals_the_formula_in_every_pixel() -> None:
    start, end, radius = segments()
    centres = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5, indexing="ij"), axis=-1)
    coverage, widest = np.zeros((64, 64)), np.zeros((64, 64))
    for a, b, r in zip(start, end, radius, strict=True):
        s = np.clip(((centres - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        t = np.linalg.norm(centres - a - s[..., None] * (b - a), axis=-1)
        coverage = np.maximum(coverage, np.clip(r + 0.5 - t, 0, min(1, 2 * r)))
        widest = np.where(t <= max(r, 0.5), np.maximum(widest, r), widest)
    painted, width = paint_coverage_and_width(start, end, radius, (64, 64))
    np.testing.assert_allclose(painted, coverage, atol=1e-6)
    np.testing.assert_allclose(width, widest, atol=1e-6)


def test_order_of_segments_does_not_matter() -> None:
    start, end, radius = segments()
    order = np.random.default_rng(2).permutation(len(radius))
    for one, two in zip(
        paint_coverage_and_width(start, end, radius, (64, 64)),
        paint_coverage_and_width(start[order], end[order], radius[order], (64, 64)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


def test_whole_pixel_shift_is_exact() -> None:
    start, end, radius = segments()
    start, end = np.round(start * 256) / 256, np.round(end * 256) / 256  # so that adding whole pixels rounds nothing
    image = paint_segments(start, end, radius, (80, 80))
    moved = paint_segments(start + (7, 3), end + (7, 3), radius, (87, 83))
    np.testing.assert_array_equal(moved[7:, 3:], image)


def test_quarter_turn() -> None:
    start, end, radius = segments()
    image = paint_segments(start, end, radius, (64, 64))
    turned = paint_segments(np.c_[64 - start[:, 1], start[:, 0]], np.c_[64 - end[:, 1], end[:, 0]], radius, (64, 64))
    np.testing.assert_allclose(turned, np.rot90(image), atol=1e-5)


def test_two_resolutions_agree_after_area_averaging() -> None:
    start, end, radius = segments(12)
    radius = np.maximum(radius, 1.0)
    coarse = paint_segments(start, end, radius, (64, 64))
    fine = paint_segments(start * 8, end * 8, radius * 8, (512, 512)).reshape(64, 8, 64, 8).mean(axis=(1, 3))
    assert np.abs(coarse - fine).mean() < 0.01
    assert np.abs(coarse - fine).max() < 0.3


def test_segments_outside_change_nothing() -> None:
    start, end, radius = segments()
    more = (np.r_[start, [[-40.0, -40.0]]], np.r_[end, [[-20.0, 90.0]]], np.r_[radius, 5.0])
    np.testing.assert_array_equal(paint_segments(*more, (64, 64)), paint_segments(start, end, radius, (64, 64)))


def test_label_details_and_radius_map_follow_the_radius() -> None:
    start = np.array([[0.2, 0.1], [0.501, 0.1], [0.8, 0.1]])
    end = start + (0, 0.8)
    graph = graph_of(start, end, np.array([0.0025, 0.006, 0.02]) / 3)
    assert vessel_label(graph, (304, 304), 0.0099).any(axis=1).sum() == pytest.approx(2 * 0.02 / 3 * 304, abs=1)
    assert [r for r in np.unique(radius_map(graph, (304, 304)).round(4)) if r] == pytest.approx([0.0025, 0.006, 0.02])
    assert centreline(graph, (304, 304))[:, 150].sum() == 3
    sides = artery_vein_label(graph, (304, 304))
    assert set(np.unique(sides[40:80])) == {0, 1}
    assert set(np.unique(sides[140:165])) == {0, 2}
    np.testing.assert_array_equal(sides > 0, vessel_label(graph, (304, 304)))


def test_a_min_radius_that_removes_everything_says_the_largest_radius() -> None:
    graph = graph_of(np.array([[0.2, 0.1]]), np.array([[0.2, 0.9]]), np.array([0.004]) / 3)
    with pytest.raises(
        ValueError, match=r"min_radius_mm=0.01 removes every vessel segment: the largest radius is 0.0040 mm"
    ):
        vessel_coverage(graph, (64, 64), 0.01)


def test_volume_has_the_volume_of_the_vessel() -> None:
    start, end = np.array([[20.0, 20.0, 20.0]]), np.array([[40.0, 44.0, 20.0]])
    graph = VesselGraph(
        start / 64, end / 64, np.array([5.0]) / 64, np.array([-1]), np.array([True]), np.array([0]), 3.0
    )
    length = np.linalg.norm(end - start)
    expected = np.pi * 25 * length + 4 / 3 * np.pi * 125
    assert vessel_volume(graph, (64, 64, 40)).sum(dtype=float) == pytest.approx(expected, rel=0.02)
    assert vessel_volume(graph, (64, 64, 40)).max(axis=2) == pytest.approx(vessel_coverage(graph, (64, 64)), abs=0.06)


def test_a_window_equals_a_crop_of_the_whole_image() -> None:
    start, end, radius = segments(80, size=96)
    graph = graph_of(start / 96, end / 96, radius / 96)
    whole, label = rasterize_window(graph, (96, 96), pixel_mm=3 / 96)
    np.testing.assert_allclose(whole[0].numpy(), vessel_coverage(graph, (96, 96)), atol=1e-5)
    part, part_label = rasterize_window(graph, (32, 32), centre=(40 / 96, 56 / 96), pixel_mm=3 / 96)
    np.testing.assert_allclose(part.numpy(), whole[:, 24:56, 40:72].numpy(), atol=1e-5)
    np.testing.assert_array_equal(part_label.numpy(), label[:, 24:56, 40:72].numpy())


def test_dropout_removes_a_vessel_and_all_it_feeds_from_image_and_label() -> None:
    chain = np.array([[0.1, 0.5], [0.3, 0.5], [0.5, 0.5], [0.7, 0.5], [0.9, 0.5]])
    graph = graph_of(chain[:-1], chain[1:], np.full(4, 0.01))
    graph = VesselGraph(graph.start, graph.end, graph.radius, np.array([-1, 0, 1, 2]), graph.artery, graph.stage, 3.0)
    kept = graph.select(~graph.downstream_of(np.array([False, False, True, False])))
    assert kept.parent.tolist() == [-1, 0]
    assert len(drop_vessels(graph, 1.0, np.random.RandomState(0))) == 0
    assert drop_vessels(graph, 0.0, np.random.RandomState(0)) is graph
    draw = RandRasterizeVesselsd(window=(32, 32), dropout=0.0).set_random_state(0)
    again = RandRasterizeVesselsd(window=(32, 32), dropout=0.0).set_random_state(0)
    assert (draw({"graph": graph})["image"] == again({"graph": graph})["image"]).all()


def test_csv_and_graphml_keep_the_graph(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import networkx as nx

    start, end, radius = segments(20)
    graph = graph_of(start / 64, end / 64, radius / 64)
    graph.write_csv(tmp_path / "graph.csv")
    back = VesselGraph.read_csv(tmp_path / "graph.csv")
    np.testing.assert_allclose(back.end, graph.end, rtol=1e-8)
    assert back.field_mm == 3.0
    assert (back.artery == graph.artery).all()
    graph.write_graphml(tmp_path / "graph.graphml")
    network = nx.read_graphml(tmp_path / "graph.graphml")
    assert network.number_of_edges() == 20
    assert network.edges["root3", "n3"]["radius_um"] == pytest.approx(radius[3] / 64 * 3000)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1.3,0.5,0,0.5,0.5,0,0.01,-1,1,0", r"segment 0 has coordinates .* outside \[-0.1, 1.1\]"),
        ("0.3,0.5,0,0.5,0.5,0,0.0,-1,1,0", "segment 0 has radius 0.0; every radius must be a number above 0"),
        ("0.3,0.5,0,0.5,0.5,0,nan,-1,1,0", "segment 0 has radius nan"),
        ("0.3,0.5,0,0.5,0.5,0,0.01,7,1,0", "segment 0 names parent 7; a parent must be -1"),
    ],
)
def test_broken_graph_files_are_refused_by_row(tmp_path, line: str, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "graph.csv"
    path.write_text(f"# field_mm=3.0\nx0,y0,z0,x1,y1,z1,radius,parent,artery,stage\n{line}\n")
    with pytest.raises(ValueError, match=f"graph.csv: {message}"):
        VesselGraph.read_csv(path)
