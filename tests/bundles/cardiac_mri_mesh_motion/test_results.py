"""Files of an exam: meshes where the heart is, tables and reports that agree with each other."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from exact_heart_case import exact_mesh, exact_vertices

from cardiac_mri_mesh_motion.results.pipeline import postprocessing
from cardiac_mri_mesh_motion.results.save_mesh_motion import in_world
from cardiac_mri_mesh_motion.ventricle.measure_mesh import MEASURES_KEY, MeasureMeshd
from cardiac_mri_mesh_motion.ventricle.move_mesh import MESH_KEY, VERTICES_KEY
from clinbundles.motion.motion_grid import GRID_SIZE, grid_points
from clinbundles.rasterizer.mesh_file import read_mesh, write_mesh
from clinbundles.rasterizer.mesh_series import read_mesh_series
from clinbundles.rasterizer.surface_mesh import SurfaceMesh


@pytest.fixture(scope="module")
def squeezed():
    """Fields that shrink the heart by 10 % across and along at frame 2, by half of that at frame 1."""
    fields = torch.zeros(3, 6, *GRID_SIZE)
    for frame, share in ((1, 0.05), (2, 0.10)):
        fields[frame, :3] = -share * grid_points().movedim(-1, 0)
    return fields


@pytest.fixture(scope="module")
def written(sample, squeezed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    points = np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]])
    marker = in_world(points, np.asarray(sample["frame_to_world"]))
    write_mesh(folder / "marker.vtp", SurfaceMesh(marker, np.array([[0, 1, 2]])), "RAS")
    steps = postprocessing(folder / "out", track=[str(folder / "marker.vtp")], film=True, version="9.9")
    return steps(sample | {"pred": squeezed, "study": "P1"}), folder / "out" / "P1"


def test_all_files_are_there(written):
    _, folder = written
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {f"mesh/P1_00{n}.vtp" for n in range(3)} | {"mesh/P1.pvd", "P1_ed_mesh.vtp", "P1_report.json"} <= names
    assert {"P1_volumes.csv", "P1_segments.csv", "P1_bulls_eye.png", "P1_volume_curve.png", "P1_contours.png"} <= names
    assert {"P1_contours.gif", "tracked/marker.pvd", "tracked/marker_002.vtp"} <= names
    assert all(
        (folder / path).is_file() for path in json.loads((folder / "P1_report.json").read_text())["files"].values()
    )


def test_meshes_lie_in_the_scanners_space_and_move_as_the_field_says(written, sample):
    result, folder = written
    meshes, _ = read_mesh_series(folder / "mesh" / "P1.pvd")
    expected = in_world(result[VERTICES_KEY].numpy(), np.asarray(sample["frame_to_world"]))
    for frame, mesh in enumerate(meshes):
        np.testing.assert_allclose(mesh.vertices, expected[frame], atol=1e-3)
        np.testing.assert_allclose(mesh.point_data["displacement"], expected[frame] - expected[0], atol=1e-3)
    assert b"76 80 83 0" in (folder / "mesh" / "P1_000.vtp").read_bytes()  # LPS is declared
    assert np.array_equal(read_mesh(folder / "P1_ed_mesh.vtp").faces, result[MESH_KEY].faces.numpy())


def test_strain_of_a_uniform_squeeze_is_the_same_everywhere(written):
    """Lengths become 0.9: E = (0.81 - 1) / 2, engineering -10 %."""
    result, folder = written
    mesh = read_mesh(folder / "mesh" / "P1_002.vtp")
    for name in ("E_cc", "E_ll"):
        values = mesh.point_data[name]
        np.testing.assert_allclose(values[np.isfinite(values)], (0.81 - 1) / 2, atol=1e-3)
    inner = mesh.point_data["E_rr"][np.isfinite(mesh.point_data["E_rr"])]
    np.testing.assert_allclose(inner, (0.81 - 1) / 2, atol=1e-3)
    measures = result[MEASURES_KEY]
    np.testing.assert_allclose(measures.global_strain[2], -0.1, atol=1e-3)
    np.testing.assert_allclose(measures.cavity_ml[2] / measures.cavity_ml[0], 0.9**3, rtol=1e-4)


def test_every_segment_has_vertices_and_rows(written):
    result, folder = written
    assert set(result[MEASURES_KEY].segments) == set(range(1, 18))
    with (folder / "P1_segments.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["segment"]) for row in rows] == list(range(1, 18))
    assert float(rows[0]["peak_circumferential_strain_%"]) == pytest.approx(-10, abs=0.1)


def test_report_table_and_row_say_the_same(written):
    result, folder = written
    report = json.loads((folder / "P1_report.json").read_text())
    function = result[MEASURES_KEY].function
    assert report["results"]["ejection_fraction"] == pytest.approx(1 - 0.9**3, abs=0.001)
    named = {(row["name"], row["region"]): row["value"] for row in report["measurements"]}
    assert named["end-diastolic volume", "left ventricle"] == pytest.approx(function.edv_ml, abs=0.01)
    assert report["results"]["es_frame"] == function.es_frame == 2
    with (folder / "P1_volumes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["cavity_ml"]) for row in rows] == pytest.approx(list(report["cavity_ml"]), abs=0.01)
    assert "Research use only" in report["caution"]


def test_tracked_points_move_with_the_heart(written, sample):
    _, folder = written
    meshes, _ = read_mesh_series(folder / "tracked" / "marker.pvd")
    to_world = np.asarray(sample["frame_to_world"])
    expected = in_world(0.9 * np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]]), to_world)
    np.testing.assert_allclose(meshes[2].vertices, expected, atol=2e-3)


def test_measures_of_the_exact_mesh_are_those_of_the_heart(case, sample):
    vertices = exact_vertices(case, sample["frame_to_world"])
    mesh = exact_mesh(case, sample["frame_to_world"])
    held = sample | {MESH_KEY: mesh, VERTICES_KEY: vertices, "pred": torch.zeros(1)}
    measures = MeasureMeshd("pred")(held)[MEASURES_KEY]
    assert measures.function.ejection_fraction == pytest.approx(case["ef"], abs=0.015)
    assert measures.function.mass_g == pytest.approx(case["mass_g"], rel=0.02)
    assert measures.volume_drift < 0.01
    assert measures.inverted.max() == 0
    with np.load(case["truth"]) as truth:
        true = truth["wall_strain"][2]
    engineering = np.sqrt(1 + 2 * true.mean(0)) - 1
    # mean over both surfaces against mean over the wall's volume
    assert measures.global_strain[2, 1] == pytest.approx(engineering[1], abs=0.05)
    assert measures.global_strain[2, 2] == pytest.approx(engineering[2], abs=0.05)
    assert measures.global_strain[2, 0] > 0.1


def test_refinement_that_sees_a_still_heart_keeps_it_still(sample):
    """The same picture at all frames and no motion from the network: nothing moves much."""
    still = dict(sample)
    still["image"] = sample["image"][:1].repeat(3, 1, 1, 1)
    still["planes"] = sample["planes"][:1].repeat(3, 1, 1, 1)
    moved = postprocessing(refine_steps=10)(still | {"pred": torch.zeros(3, 6, *GRID_SIZE)})
    assert float((moved[VERTICES_KEY] - moved[MESH_KEY].vertices).norm(dim=-1).mean()) < 0.3
