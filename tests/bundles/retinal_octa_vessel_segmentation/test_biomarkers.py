"""Biomarkers against shapes whose measures are known on paper."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from retinal_octa_vessel_segmentation.measurement.biomarkers import measure_biomarkers
from retinal_octa_vessel_segmentation.measurement.etdrs_grid import etdrs_grid
from retinal_octa_vessel_segmentation.measurement.foveal_avascular_zone import faz_shape, foveal_avascular_zone
from retinal_octa_vessel_segmentation.measurement.fractal_dimension import fractal_dimension
from retinal_octa_vessel_segmentation.measurement.half_width import half_width_map
from retinal_octa_vessel_segmentation.measurement.intercapillary_distance import intercapillary_gaps
from retinal_octa_vessel_segmentation.measurement.radius_classes import RADIUS_CLASSES, local_radius_map
from retinal_octa_vessel_segmentation.measurement.skeleton_graph import SkeletonGraph, trace_skeleton, vessel_skeleton
from retinal_octa_vessel_segmentation.measurement.tortuosity import branch_tortuosity

PIXEL_MM = 3 / 304


def line_grid(size: int, pitch: int, width: int) -> np.ndarray:
    line = np.arange(size) % pitch < width
    return line[:, None] | line[None, :]


def counts(graph: SkeletonGraph) -> tuple[int, int, int]:
    """Branches, junctions, end points."""
    return len(graph.branches), len(graph.junction_pixels()), int((graph.degree == 1).sum())


def distance_map(size: int, row: float, column: float) -> np.ndarray:
    return np.hypot(np.arange(size)[:, None] + 0.5 - row, np.arange(size)[None, :] + 0.5 - column)


@pytest.mark.parametrize(("pitch", "width"), [(12, 2), (15, 3), (16, 4), (19, 5)])
def test_line_grid_has_density_and_gap_of_the_formula(pitch: int, width: int) -> None:
    size = 16 * pitch
    mask = line_grid(size, pitch, width)
    fraction = width / pitch
    _, gaps = intercapillary_gaps(mask, 0.01)
    assert len(gaps) >= 14 * 14
    assert np.allclose(gaps, (pitch - width) * 0.01)
    table = measure_biomarkers(mask, None, 0.01, faz_mask=np.zeros_like(mask))
    assert table.value("vessel_area_density") == pytest.approx(2 * fraction - fraction**2, abs=1e-12)
    assert table.value("intercapillary_distance_um") == pytest.approx(10 * (pitch - width))


@pytest.mark.parametrize("width", range(1, 9))
def test_half_width_of_a_bar_is_exact_for_odd_and_even_widths(width: int) -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10 : 10 + width] = True
    assert half_width_map(mask, 0.01).max() == pytest.approx(width / 2 * 0.01)
    assert half_width_map(np.ones((10, 20), dtype=bool), 0.01).max() == pytest.approx(0.05)


@pytest.mark.parametrize("angle", [0, 7, 15, 22.5, 30, 45, 60, 90])
def test_length_of_a_straight_line_does_not_depend_on_its_angle(angle: float) -> None:
    direction = np.array([np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    points = 20 + np.linspace(0, 150, 3000)[:, None] * direction
    skeleton = np.zeros((200, 200), dtype=bool)
    skeleton[tuple(np.round(points).astype(int).T)] = True
    graph = trace_skeleton(vessel_skeleton(skeleton), 0.01)
    assert graph.pixel_length_mm.sum() == pytest.approx(1.5, rel=0.012)
    assert graph.arc_mm.sum() == pytest.approx(graph.pixel_length_mm.sum())
    table = measure_biomarkers(skeleton, None, 0.01, faz_mask=np.zeros_like(skeleton))
    assert table.value("skeleton_density_mm_per_mm2") == pytest.approx(1.5 / 4, rel=0.012)


def test_length_of_a_circle_and_its_ring_branch() -> None:
    mask = np.abs(distance_map(200, 100, 100) - 60) <= 1.5
    graph = trace_skeleton(vessel_skeleton(mask), 1.0)
    assert counts(graph) == (1, 0, 0)
    assert graph.pixel_length_mm.sum() == pytest.approx(2 * np.pi * 60, rel=0.015)
    assert np.isnan(branch_tortuosity(graph)).all(), "a closed ring has no chord"


def test_anisotropic_spacing_measures_millimetres() -> None:
    mask = np.zeros((100, 100), dtype=bool)
    mask[10:90, 50] = True
    mask[50, 10:90] = True
    graph = trace_skeleton(mask, (0.02, 0.01))
    assert graph.pixel_length_mm.sum() == pytest.approx(79 * 0.02 + 79 * 0.01, rel=1e-6)


@pytest.mark.parametrize("radius", [30, 60])
def test_tortuosity_of_a_semicircle_is_half_pi(radius: int) -> None:
    angle = np.linspace(0, np.pi, 2000)
    points = np.stack([20 + radius * np.sin(angle), 100 + radius * np.cos(angle)], axis=1)
    skeleton = np.zeros((200, 200), dtype=bool)
    skeleton[tuple(np.round(points).astype(int).T)] = True
    assert branch_tortuosity(trace_skeleton(vessel_skeleton(skeleton), 0.01)) == pytest.approx(np.pi / 2, rel=0.01)


def test_tortuosity_of_straight_branches_is_one_and_short_ones_do_not_count() -> None:
    skeleton = np.zeros((50, 50), dtype=bool)
    skeleton[10, 5:45] = True
    skeleton[30, 5:9] = True
    ratio = branch_tortuosity(trace_skeleton(skeleton, 0.01))
    assert sorted(np.isfinite(ratio)) == [False, True]
    assert np.nanmax(ratio) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("drawing", "branches", "junctions", "ends"),
    [("plus", 4, 1, 4), ("tee", 3, 1, 3), ("why", 3, 1, 3), ("corner", 1, 0, 2), ("eight", 3, 2, 0), ("line", 1, 0, 2)],
)
def test_branches_junctions_and_ends_of_letters(drawing: str, branches: int, junctions: int, ends: int) -> None:
    mask = np.zeros((64, 64), dtype=bool)
    if drawing in ("plus", "tee", "line"):
        mask[30, 8:56] = True
    if drawing == "plus":
        mask[8:56, 32] = True
    if drawing == "tee":
        mask[30:56, 32] = True
    if drawing == "why":
        steps = np.arange(20)
        mask[30 - steps, 32 - steps] = mask[30 - steps, 32 + steps] = mask[30 + steps, 32] = True
    if drawing == "corner":
        mask[30, 8:40] = mask[30:60, 39] = True
    if drawing == "eight":
        mask[10, 10:50] = mask[30, 10:50] = mask[50, 10:50] = mask[10:51, 10] = mask[10:51, 49] = True
    graph = trace_skeleton(vessel_skeleton(mask), 1.0)
    assert counts(graph) == (branches, junctions, ends)


def test_bumps_of_the_wall_give_no_spurs() -> None:
    mask = np.zeros((60, 200), dtype=bool)
    mask[25:34, 10:190] = True
    mask[23:25, 60:63] = mask[34:36, 120:123] = True
    graph = trace_skeleton(vessel_skeleton(mask, half_width_map(mask, 1.0)), 1.0)
    assert counts(graph) == (1, 0, 2)


def sierpinski_carpet(order: int) -> np.ndarray:
    tile = np.ones((3, 3), dtype=bool)
    tile[1, 1] = False
    carpet = np.ones((1, 1), dtype=bool)
    for _ in range(order):
        carpet = np.kron(tile, carpet)
    return carpet


def test_box_dimension_of_line_square_and_sierpinski_carpet() -> None:
    line = np.zeros((304, 304), dtype=bool)
    line[150] = True
    assert fractal_dimension(line) == pytest.approx(1.0, abs=0.03)
    assert fractal_dimension(np.ones((304, 400), dtype=bool)) == pytest.approx(2.0, abs=0.03)
    assert fractal_dimension(sierpinski_carpet(6)) == pytest.approx(np.log(8) / np.log(3), abs=0.03)
    assert fractal_dimension(np.zeros((64, 64), dtype=bool)) is None
    with pytest.raises(ValueError, match="16 x 16"):
        fractal_dimension(np.ones((8, 8), dtype=bool))


@pytest.mark.parametrize("radius_mm", [0.2, 0.3, 0.45])
@pytest.mark.parametrize("pixel_mm", [3 / 304, 3 / 1216])
def test_faz_of_a_disc_has_its_area_and_is_round(radius_mm: float, pixel_mm: float) -> None:
    size = round(3 / pixel_mm)
    mask = distance_map(size, size / 2 + 5.3, size / 2 - 8.1) * pixel_mm > radius_mm
    faz = foveal_avascular_zone(mask, pixel_mm)
    shape = faz_shape(faz, pixel_mm)
    assert shape is not None
    assert shape.area_mm2 == pytest.approx(np.pi * radius_mm**2, rel=0.01)
    assert shape.perimeter_mm == pytest.approx(2 * np.pi * radius_mm, rel=0.02)
    assert shape.circularity == pytest.approx(1.0, abs=0.05)
    assert shape.axis_ratio == pytest.approx(1.0, abs=0.02)
    assert shape.centre_mm == pytest.approx(
        ((size / 2 + 5.3) * pixel_mm, (size / 2 - 8.1) * pixel_mm), abs=0.5 * pixel_mm
    )


def test_faz_does_not_leak_through_the_capillary_mesh() -> None:
    mask = line_grid(304, 8, 2) & (distance_map(304, 152, 152) * PIXEL_MM > 0.3)
    shape = faz_shape(foveal_avascular_zone(mask, PIXEL_MM), PIXEL_MM)
    assert shape is not None
    assert np.pi * 0.3**2 < shape.area_mm2 < np.pi * (0.3 + 0.04) ** 2


def test_faz_of_an_ellipse_has_its_axis_ratio() -> None:
    rows, columns = np.mgrid[:304, :304] + 0.5 - 152
    shape = faz_shape((rows / 20) ** 2 + (columns / 40) ** 2 <= 1, PIXEL_MM)
    assert shape is not None
    assert shape.axis_ratio == pytest.approx(0.5, abs=0.01)
    assert shape.circularity == pytest.approx(4 * np.pi * np.pi * 20 * 40 / 193.77**2, rel=0.03)


def test_faz_of_probabilities_equals_that_of_the_thresholded_mask_and_none_is_none() -> None:
    mask = line_grid(304, 8, 2) & (distance_map(304, 152, 152) * PIXEL_MM > 0.3)
    assert (foveal_avascular_zone(0.4 + 0.2 * mask, PIXEL_MM) == foveal_avascular_zone(mask, PIXEL_MM)).all()
    assert not foveal_avascular_zone(np.zeros((100, 100)), PIXEL_MM).any()
    assert not foveal_avascular_zone(np.ones((100, 100)), PIXEL_MM).any()
    assert faz_shape(np.zeros((100, 100)), PIXEL_MM) is None
    with pytest.raises(ValueError, match="gap_mm is 0"):
        foveal_avascular_zone(mask, PIXEL_MM, gap_mm=0)


@pytest.mark.parametrize("field_mm", [3.0, 6.0, 12.0])
@pytest.mark.parametrize("eye", ["OD", "OS", None])
@pytest.mark.parametrize("centre", [None, (1.3, 1.7)])
def test_etdrs_regions_are_disjoint_and_complete(
    field_mm: float, eye: str | None, centre: tuple[float, float] | None
) -> None:
    grid = etdrs_grid((200, 200), field_mm / 200, centre, eye)
    masks = [grid.mask(name) for name in grid.names]
    assert (np.sum(masks, axis=0) == 1).all()
    assert grid.mask("whole").all()
    inner = [grid.mask(name) for name in grid.names if name.startswith("inner_")]
    assert len(inner) == 4
    assert (np.sum(inner, axis=0) == grid.mask("inner")).all()


def test_etdrs_areas_and_sides() -> None:
    grid = etdrs_grid((608, 608), 3 / 608, eye="OD")
    assert grid.radii_mm == (0.5, 1.25)
    assert grid.mask("centre").sum() * (3 / 608) ** 2 == pytest.approx(np.pi * 0.25, rel=0.005)
    quadrant = np.pi * (1.25**2 - 0.25) / 4
    for side in ("superior", "inferior", "nasal", "temporal"):
        assert grid.mask(f"inner_{side}").sum() * (3 / 608) ** 2 == pytest.approx(quadrant, rel=0.01)
    assert grid.mask("inner_superior")[100, 304]
    assert grid.mask("inner_nasal")[304, 500], "nasal is to the right in a right eye"
    assert etdrs_grid((608, 608), 3 / 608, eye="OS").mask("inner_nasal")[304, 100]
    assert etdrs_grid((608, 608), 3 / 608).mask("inner_left")[304, 100]
    assert etdrs_grid((400, 400), 6 / 400).radii_mm == (0.5, 1.5, 3.0)


def test_etdrs_errors_say_what_to_give() -> None:
    with pytest.raises(ValueError, match="eye is 'left eye', expected 'OD'"):
        etdrs_grid((100, 100), 0.03, eye="left eye")
    with pytest.raises(ValueError, match="rising"):
        etdrs_grid((100, 100), 0.03, radii_mm=(1.0, 0.5))
    with pytest.raises(ValueError, match="outside the image"):
        etdrs_grid((100, 100), 0.03, centre_mm=(9.0, 1.0))
    with pytest.raises(ValueError, match="no region 'outer'"):
        etdrs_grid((100, 100), 0.03).mask("outer")


def random_vessels(size: int, seed: int = 0) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 3 * size / 304)
    return np.abs(field) < 0.35 * field.std()


def test_regions_and_classes_add_up() -> None:
    mask = random_vessels(304)
    larger = mask & (local_radius_map(mask, PIXEL_MM) >= 0.0099)
    table = measure_biomarkers(mask, larger, PIXEL_MM, eye="OD")
    names = table.grid.names
    area = {name: table.value("area_mm2", name) for name in names}
    assert sum(area.values()) == pytest.approx(9.0)
    for measure in ("vessel_area_density", "skeleton_density_mm_per_mm2"):
        total = table.value(measure)
        assert sum(table.value(measure, name) * area[name] for name in names) == pytest.approx(9 * total)
        assert sum(table.value(measure, "whole", c) for c in RADIUS_CLASSES) == pytest.approx(total)
        parts = [table.value(measure, "whole", c) for c in ("larger vessel", "capillary")]
        assert sum(parts) == pytest.approx(total)
    for count in ("branch_count", "branch_point_count", "end_point_count"):
        assert sum(table.value(count, name) for name in names) == table.value(count)
    assert table.value("vessel_area_density") == pytest.approx(mask.mean())


def test_calibre_and_radius_class_of_bars() -> None:
    mask = np.zeros((304, 304), dtype=bool)
    mask[50:51], mask[150:153], mask[250:255] = True, True, True
    table = measure_biomarkers(mask, None, 0.01)
    for name, width_um in zip(RADIUS_CLASSES, (10, 30, 50), strict=True):
        assert table.value("mean_calibre_um", "whole", name) == pytest.approx(width_um, rel=0.02)
        assert table.value("vessel_area_density", "whole", name) == pytest.approx(width_um / 10 / 304, rel=0.02)
        assert table.value("tortuosity", "whole", name) == pytest.approx(1.0, abs=0.001)


def test_empty_and_full_masks_have_defined_values_and_notes() -> None:
    for mask in (np.zeros((304, 304), dtype=np.uint8), np.full((304, 304), 255, dtype=np.uint8)):
        table = measure_biomarkers(mask, mask, PIXEL_MM, "OS")
        for row in table.table:
            assert row.value is None or np.isfinite(row.value)
            assert (row.value is None) == bool(row.note), row
        assert table.value("vessel_area_density") == float(mask.any())
        assert table.value("faz_area_mm2") is None
        assert table.value("intercapillary_distance_um") is None
    empty = measure_biomarkers(np.zeros((304, 304)), None, PIXEL_MM)
    assert empty.value("skeleton_density_mm_per_mm2") == 0.0
    assert empty.value("branch_count") == 0.0
    assert empty.value("mean_calibre_um") is None


def test_table_has_flat_rows_and_a_wide_line() -> None:
    table = measure_biomarkers(random_vessels(128), None, (0.02, 0.025), "OD")
    assert set(table.rows()[0]) == {"region", "radius_class", "name", "value", "unit", "note"}
    wide = table.wide()
    assert len(wide) == len(table.table), "every row has its own column"
    assert {"faz_area_mm2", "vessel_area_density[inner_nasal]", "tortuosity[radius < 10 um]"} <= set(wide)
    assert all(row.unit for row in table.table)
    with pytest.raises(KeyError, match="no biomarker 'colour'"):
        table.value("colour")


def test_bad_masks_are_refused_with_a_remedy() -> None:
    mask = random_vessels(64)
    with pytest.raises(ValueError, match="JPEG"):
        measure_biomarkers(np.arange(4096).reshape(64, 64) % 256, None, PIXEL_MM)
    with pytest.raises(ValueError, match=r"larger_mask has shape \(32, 64\) but vessel_mask has \(64, 64\)"):
        measure_biomarkers(mask, mask[:32], PIXEL_MM)
    with pytest.raises(ValueError, match="one channel"):
        measure_biomarkers(mask[None], None, PIXEL_MM)
    with pytest.raises(ValueError, match="NaN"):
        measure_biomarkers(np.full((64, 64), np.nan), None, PIXEL_MM)
    for spacing in (0.0, -1.0, np.nan, (0.01, 0.01, 0.01)):
        with pytest.raises(ValueError, match="mm per pixel"):
            measure_biomarkers(mask, None, spacing)
    with pytest.raises(ValueError, match="resample"):
        measure_biomarkers(mask, None, (0.01, 0.03))


def test_an_image_takes_far_less_than_a_second() -> None:
    mask = random_vessels(304)
    start = time.process_time()
    measure_biomarkers(mask, mask, PIXEL_MM)
    assert time.process_time() - start < 1.0
