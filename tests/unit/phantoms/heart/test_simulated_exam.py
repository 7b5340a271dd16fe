"""The files of a simulated examination: geometry, labels, truth, reproducibility."""

from __future__ import annotations

import filecmp
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from clinbundles.data import read_manifest
from clinbundles.data.simulated_set import generate_case
from clinbundles.phantoms.heart import draw_heart, exam_heart, simulate_heart_exam
from clinbundles.phantoms.heart.cine_image import draw_cine, draw_scan
from clinbundles.phantoms.heart.scanner_planes import View, plan_views
from clinbundles.phantoms.heart.tissue import Tissue
from clinbundles.phantoms.heart.tissue_signal import bssfp_signal, draw_signals

VIEWS = ("sax", "lax_2ch", "lax_3ch", "lax_4ch")
KEYS = {
    *VIEWS, *(f"{view}_label" for view in VIEWS), "truth", "ed_frame", "es_frame", "edv_ml", "esv_ml", "ef", "mass_g",
    "sex", "shift_mm", "slice_spacing_mm",
}  # fmt: skip
SEED = 21
ARGUMENTS: dict[str, Any] = {"frames": [0.0, 0.2, 0.36], "slice_spacing_mm": 12.0, "pixels": 48, "pixel_mm": 2.5}


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("exam")
    return folder, simulate_heart_exam(folder, SEED, **ARGUMENTS)


def centres(affine: NDArray[np.float64], size: tuple[int, ...]) -> NDArray[np.float64]:
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), -1).reshape(-1, 3)
    return grid @ affine[:3, :3].T + affine[:3, 3]


def thin(view: View) -> View:
    return View(view.name, view.affine, view.size, 1e-6, view.shifts)


def nothing_but_tissue(seed: int = 0):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    return draw_scan(rng, draw_signals(rng), noise=(1e-9, 1e-9), texture=(0.0, 0.0))


def test_a_case_has_every_key_and_file(exam: tuple[Path, dict[str, Any]]) -> None:
    folder, case = exam
    assert set(case) == KEYS
    assert {path.name for path in folder.iterdir()} == {value for value in case.values() if isinstance(value, str)} - {
        case["sex"]
    }
    for view in VIEWS:
        image, label = (nib.load(folder / case[key]) for key in (view, f"{view}_label"))
        assert image.shape == label.shape
        assert image.shape[:2] == (48, 48)
        assert image.shape[3] == 3
        assert image.get_data_dtype() == np.int16
        assert label.get_data_dtype() == np.uint8
        assert np.array_equal(image.affine, label.affine)
        assert image.header.get_xyzt_units() == ("mm", "sec")
        assert 0.2 < image.header.get_zooms()[3] < 0.4  # a third of 0.70-1.15 s
        assert np.allclose(np.linalg.norm(image.affine[:3, :2], axis=0), 2.5)
        assert 200 < np.percentile(image.dataobj, 95) < 3000
        assert {0, 1, 2} <= set(np.unique(label.dataobj)) <= {0, 1, 2, 3}
    assert nib.load(folder / case["sax"]).shape[2] > 6


def test_truth_is_complete_and_consistent(exam: tuple[Path, dict[str, Any]]) -> None:
    folder, case = exam
    truth = np.load(folder / case["truth"])
    heart, sex = exam_heart(SEED)
    assert sex == case["sex"]
    assert truth["vertices"].shape[0] == 3
    assert truth["vertices"].shape[1] == len(truth["surface"])
    assert truth["faces"].dtype == np.int32
    assert truth["wall_displacements"].shape == (3, 1500, 3)
    assert truth["wall_axes"].shape == (1500, 3, 3)
    assert np.abs(truth["wall_displacements"][0]).max() < 1e-5
    start = truth["wall_points"].astype(float)
    assert np.mean(heart.labels(start, 0.0) == 2) > 0.999
    for t, time in enumerate(ARGUMENTS["frames"]):
        assert np.abs(heart.displacement(start, time) - truth["wall_displacements"][t]).max() < 2e-3
        assert heart.volumes(time)[0] == pytest.approx(truth["lv_volume_ml"][t], rel=1e-6)
    assert case["ed_frame"] == 0
    assert case["es_frame"] == int(np.argmin(truth["lv_volume_ml"]))
    assert case["ef"] == pytest.approx(1.0 - case["esv_ml"] / case["edv_ml"])
    assert case["edv_ml"] == pytest.approx(heart.edv_ml, rel=1e-6)
    axis = truth["base_centre"] - truth["apex"]
    assert np.linalg.norm(axis) == pytest.approx(heart.anatomy.length, rel=1e-5)


def test_strain_of_the_truth_is_that_of_its_displacements_at_the_axes(exam: tuple[Path, dict[str, Any]]) -> None:
    truth = np.load(exam[0] / "truth.npz")
    heart, _ = exam_heart(SEED)
    start, axes, step = truth["wall_points"].astype(float), truth["wall_axes"].astype(float), 1e-3
    for n in range(3):
        ahead = heart.displacement(start + step * axes[:, n], 0.36) - heart.displacement(start, 0.36)
        strain = 0.5 * (np.linalg.norm(axes[:, n] + ahead / step, axis=-1) ** 2 - 1.0)
        assert np.quantile(np.abs(strain - truth["wall_strain"][2, :, n]), 0.98) < 2e-3


def test_labels_are_the_heart_at_the_voxels_world_points() -> None:
    heart = draw_heart(3)
    views = plan_views(
        heart, np.random.default_rng(0), pixels=48, pixel_mm=2.5, slice_spacing_mm=12.0, slab_mm=8.0, lax_slab_mm=6.0,
        shift_mm=0.0,
    )  # fmt: skip
    for view in views:
        times = np.array([0.0, 0.36])
        _, labels = draw_cine(heart, thin(view), times, nothing_but_tissue(), np.random.default_rng(0))
        for t, time in enumerate(times):
            exact = heart.labels(centres(view.affine, view.size), time).reshape(view.size)
            # the samples spread over a pixel: only voxels on an edge may differ
            assert np.mean(labels[..., t] != exact) < 0.015


def test_a_breath_hold_shift_is_in_the_content_and_not_in_the_affine(tmp_path: Path) -> None:
    cases = {}
    for shift in (0.0, 4.0):
        folder = tmp_path / str(shift)
        folder.mkdir()
        cases[shift] = simulate_heart_exam(folder, SEED, **ARGUMENTS, shift_mm=shift)
    still, shifted = (
        {key: nib.load(tmp_path / str(shift) / case[key]) for key in (*VIEWS, "sax_label")}
        for shift, case in cases.items()
    )
    for key in still:
        assert np.array_equal(still[key].affine, shifted[key].affine)
    assert not np.array_equal(still["sax_label"].dataobj, shifted["sax_label"].dataobj)
    assert filecmp.cmp(tmp_path / "0.0" / "truth.npz", tmp_path / "4.0" / "truth.npz", shallow=False)
    assert cases[4.0]["shift_mm"] == 4.0
    assert cases[4.0]["edv_ml"] == cases[0.0]["edv_ml"]


def test_the_shifted_content_is_the_heart_at_the_shifted_points() -> None:
    heart = draw_heart(3)
    sax = plan_views(
        heart, np.random.default_rng(0), pixels=48, pixel_mm=2.5, slice_spacing_mm=12.0, slab_mm=8.0, lax_slab_mm=6.0,
        shift_mm=5.0,
    )[0]  # fmt: skip
    _, labels = draw_cine(heart, thin(sax), np.array([0.3]), nothing_but_tissue(), np.random.default_rng(0))
    points = centres(sax.affine, sax.size).reshape(*sax.size, 3) + sax.shifts
    exact = heart.labels(points.reshape(-1, 3), 0.3).reshape(sax.size)
    nominal = heart.labels(centres(sax.affine, sax.size), 0.3).reshape(sax.size)
    assert np.mean(labels[..., 0] != exact) < 0.015 < np.mean(labels[..., 0] != nominal)


def test_the_same_seed_gives_the_same_bytes(exam: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    again = simulate_heart_exam(tmp_path, SEED, **ARGUMENTS)
    assert again == exam[1]
    for path in tmp_path.iterdir():
        assert filecmp.cmp(path, exam[0] / path.name, shallow=False), path.name


def test_another_seed_is_another_heart_in_another_pose(exam: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    other = simulate_heart_exam(tmp_path, SEED + 1, **ARGUMENTS)
    assert other["edv_ml"] != exam[1]["edv_ml"]
    normals = [nib.load(folder / "sax.nii.gz").affine[:3, 2] / 12.0 for folder in (tmp_path, exam[0])]
    assert abs(normals[0] @ normals[1]) < 0.9999


def test_plans_are_near_the_hearts_axes_in_every_order_and_orientation() -> None:
    seen: set[tuple[bool, bool]] = set()
    for seed in range(20):
        heart = draw_heart(2)
        views = plan_views(
            heart, np.random.default_rng(seed), pixels=64, pixel_mm=2.0, slice_spacing_mm=10.0, slab_mm=8.0,
            lax_slab_mm=6.0, shift_mm=0.0,
        )  # fmt: skip
        axis = heart.rotation[:, 2]
        sax, *long = (view.affine[:3, :3] / np.linalg.norm(view.affine[:3, :3], axis=0) for view in views)
        assert abs(sax[:, 2] @ axis) > np.cos(np.radians(11.0))
        for plane in long:
            assert abs(plane[:, 2] @ axis) < np.sin(np.radians(5.1))
        angles = [np.degrees(np.arccos(abs(a[:, 2] @ b[:, 2]))) for a, b in ((long[0], long[2]), (long[1], long[0]))]
        assert all(40.0 < angle < 80.0 for angle in angles)
        seen.add((sax[:, 2] @ axis > 0.0, np.linalg.det(sax) > 0.0))
        planes = views[0].affine
        heights = (np.array([0, views[0].size[2] - 1])[:, None] * planes[:3, 2] + planes[:3, 3]) @ axis
        centre = planes[:3, :2] @ [31.5, 31.5] @ axis
        ends = np.sort(heights + centre - heart.base @ axis)
        assert ends[0] < -heart.anatomy.length + 14.0
        assert ends[1] > 0.0
    assert len(seen) == 4


def test_a_voxel_is_the_mean_over_its_slab() -> None:
    heart = draw_heart(3)
    sax = plan_views(
        heart, np.random.default_rng(0), pixels=48, pixel_mm=2.5, slice_spacing_mm=12.0, slab_mm=8.0, lax_slab_mm=6.0,
        shift_mm=0.0,
    )[0]  # fmt: skip
    scan = nothing_but_tissue()
    thick, fine = (
        draw_cine(heart, view, np.array([0.0]), scan, np.random.default_rng(0))[0].astype(float)
        for view in (sax, thin(sax))
    )
    edges = np.abs(thick - fine) > 0.1 * scan.scale
    assert 0.01 < edges.mean() < 0.3
    assert np.median(np.abs(thick - fine)) < 0.02 * scan.scale


def test_blood_is_brighter_than_muscle_and_fat_brighter_than_lung() -> None:
    for seed in range(30):
        signals = np.abs(draw_signals(np.random.default_rng(seed)))
        assert signals[Tissue.LEFT_BLOOD] == 1.0
        assert 0.1 < signals[Tissue.LEFT_MUSCLE] < 0.6
        assert signals[Tissue.LUNG] < 0.5 * signals[Tissue.FAT]
        assert signals[Tissue.AIR] == 0.0
        assert signals[Tissue.RIGHT_WALL] == signals[Tissue.LEFT_MUSCLE]


def test_bssfp_signal_of_long_relaxation_tends_to_the_square_root_of_t2_over_t1() -> None:
    # at the best flip angle and TR << T2: S = PD / 2 sqrt(T2 / T1)
    best = max(bssfp_signal(1000.0, 250.0, 1.0, flip_degrees=angle, tr_ms=0.01) for angle in np.arange(5.0, 120.0))
    assert best == pytest.approx(0.5 * np.sqrt(0.25), rel=1e-3)


@pytest.mark.parametrize("frames, found", [(1, "frames is 1"), ([0.1, 0.4], r"\[0.1, 0.4\]"), ([0.0, 1.2], "1.2")])
def test_impossible_frames_are_refused(frames: Any, found: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=found):
        simulate_heart_exam(tmp_path, 0, frames=frames)


@pytest.mark.parametrize("name", ["heart_motion_simulated", "heart_motion_test_aligned", "heart_motion_test_shifted"])
def test_manifests_name_a_simulator_that_takes_their_arguments(name: str, tmp_path: Path) -> None:
    manifest = read_manifest(name)
    assert manifest.simulator is not None
    target, arguments = manifest.simulator
    generate_case(tmp_path, target, arguments | {"pixels": 16, "pixel_mm": 8.0, "frames": 2}, 0)


def test_both_test_sets_are_the_same_hearts() -> None:
    aligned, shifted = (read_manifest(f"heart_motion_test_{name}") for name in ("aligned", "shifted"))
    assert aligned.splits == shifted.splits
    assert aligned.simulator is not None
    assert shifted.simulator is not None
    assert aligned.simulator[1] | {"shift_mm": 2.0} == shifted.simulator[1]
