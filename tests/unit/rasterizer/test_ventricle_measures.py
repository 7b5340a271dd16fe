"""Peaks of strain and the rows of tables and reports, on numbers that can be read off."""

from __future__ import annotations

import numpy as np
import pytest

from clinbundles.rasterizer.aha_segments import SEGMENTS
from clinbundles.rasterizer.ventricle_measures import VentricleMeasures, report_measurements, results_row
from clinbundles.rasterizer.ventricular_function import ventricular_function, volume_curve_figure


@pytest.fixture
def measures():
    strain = np.zeros((3, 17, 3))
    strain[1], strain[2] = [0.3, -0.1, -0.2], [0.1, -0.2, -0.1]
    strain[:, 16] = np.nan  # no wall at the apex
    function = ventricular_function([100.0, 40.0, 60.0], [80.0] * 3, ed_frame=0)
    return VentricleMeasures(np.array([0.0, 300.0, np.nan]), function, strain, strain[:, 0])


def test_peaks_are_the_greatest_thickening_and_the_greatest_shortening(measures):
    np.testing.assert_allclose(measures.peak_strain()[:16], [[0.3, -0.2, -0.2]] * 16)
    np.testing.assert_array_equal(measures.time_to_peak()[:16], [[1, 2, 1]] * 16)
    assert np.isnan(measures.peak_strain()[16]).all()
    assert measures.global_peak()["global_circumferential_strain"] == -0.2


def test_what_is_not_known_is_left_out_of_report_and_tables(measures):
    rows = report_measurements(measures, {"wall thickness": (np.full(17, 8.0), "mm")})
    assert {row["name"] for row in rows if row["region"] == SEGMENTS[16]} == {"wall thickness"}
    assert {row["value"] for row in rows if row["region"] == SEGMENTS[0]} == {30.0, -20.0, 8.0}
    assert measures.time_cells() == ["0.0", "300.0", ""]


def test_row_and_report_give_the_function(measures):
    row = results_row(measures)
    assert (row["edv_ml"], row["esv_ml"], row["stroke_volume_ml"]) == (100.0, 40.0, 60.0)
    assert (row["ejection_fraction"], row["mass_g"], row["frames"], row["es_frame"]) == (0.6, 84.0, 3, 1)
    values = {one["name"]: one["value"] for one in report_measurements(measures) if one["region"] == "left ventricle"}
    assert (values["ejection fraction"], values["myocardial mass"]) == (60.0, 84.0)
    assert values["global radial strain"] == 30.0


def test_volume_curve_counts_frames_where_times_are_unknown():
    axes = volume_curve_figure(np.array([100.0, 40.0]), np.array([0.0, np.nan])).axes[0]
    assert axes.get_xlabel() == "frame"
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0, 1])
