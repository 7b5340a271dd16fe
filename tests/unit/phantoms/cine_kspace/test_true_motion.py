"""The true flow: exact, consistent with itself, and what the picture does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clinbundles.mcmr.bilinear_warp import warp
from clinbundles.phantoms.cine_kspace import simulate_cine_kspace, true_pair_flows
from clinbundles.phantoms.cine_kspace.acquisition import Acquisition, draw_acquisition
from clinbundles.phantoms.cine_kspace.true_motion import heart_tissues, true_flow

SEED = 20000
FRAMES = 10
ARGUMENTS: dict[str, Any] = {"frames": FRAMES, "long_axis_share": 0.0, "coils": 4}
SYSTOLE = 4


@pytest.fixture(scope="module")
def case() -> Acquisition:
    return draw_acquisition(SEED, **ARGUMENTS)


@pytest.fixture(scope="module")
def flat() -> Acquisition:
    return draw_acquisition(SEED, **ARGUMENTS, long_axis_motion=False)


@pytest.fixture(scope="module")
def cine(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray, Any]:
    folder = tmp_path_factory.mktemp("cine")
    made = simulate_cine_kspace(folder, SEED, **ARGUMENTS)
    return np.load(folder / made["reference"]), np.load(folder / made["truth"])


def in_heart(case: Acquisition, frame: int) -> NDArray[np.bool_]:
    return (heart_tissues(case.heart, case.plan.centres(), case.times[frame]) > 0).reshape(case.plan.size)


def in_muscle(case: Acquisition, frame: int) -> NDArray[np.bool_]:
    return (heart_tissues(case.heart, case.plan.centres(), case.times[frame]) == 2).reshape(case.plan.size)


def psnr(image: NDArray, truth: NDArray, where: NDArray[np.bool_], peak: float) -> float:
    error = (np.abs(image) - np.abs(truth))[where]
    return float(20.0 * np.log10(peak / np.sqrt((error**2).mean())))


def test_a_frame_does_not_move_against_itself(case: Acquisition) -> None:
    flow = true_flow(case.chest, case.plan, case.times, targets=[0, 3], sources=[0, 3])
    assert not flow[0, 0].any()
    assert not flow[1, 1].any()
    assert np.abs(flow[0, 1]).max() > 1.0


def test_the_flow_of_all_pairs_is_that_of_the_case(cine: tuple[NDArray, Any]) -> None:
    flow = true_pair_flows(SEED, **ARGUMENTS)
    assert flow.shape == (FRAMES, FRAMES, 2, 128, 128)
    assert np.array_equal(flow[0], cine[1]["flow_from_ed"])
    assert np.array_equal(flow[:, 0], cine[1]["flow_to_ed"])


def test_the_flow_is_the_displacement_of_the_hearts_tissue_in_pixels(case: Acquisition) -> None:
    """From end-diastole: against `Heart.displacement`, world mm along the rows and columns of the affine."""
    flow = true_flow(case.chest, case.plan, case.times, targets=[SYSTOLE], sources=[0])[0, 0]
    inside = in_heart(case, 0)
    points = case.plan.centres().reshape(*case.plan.size, 3)[inside]
    moved = case.heart.displacement(points, float(case.times[SYSTOLE]))
    for component in (0, 1):
        direction = case.plan.affine[:3, component] / case.plan.spacing_mm
        assert np.allclose(flow[component][inside], moved @ direction / case.plan.spacing_mm, atol=1e-5)


def test_the_chests_map_is_inverted(case: Acquisition) -> None:
    points = case.plan.centres()[::7]
    for time in (0.2, 0.4, 0.7):
        outside = points[heart_tissues(case.heart, points, time) == 0]
        start = case.chest.pull_back(outside, time)
        back = case.chest.push(start, time)
        assert np.linalg.norm(back - outside, axis=1).max() < 1e-3
        assert np.linalg.norm(start - outside, axis=1).max() > 1.0  # it does follow
    assert np.allclose(case.chest.pull_back(points, 0.0), points, atol=1e-9)


def test_the_chest_moves_with_the_hearts_surface_and_is_still_far_from_it(case: Acquisition) -> None:
    flow = true_flow(case.chest, case.plan, case.times, targets=[0], sources=[SYSTOLE])[0, 0]
    inside = in_heart(case, SYSTOLE)
    points = case.plan.centres().reshape(*case.plan.size, 3)
    centre = points[inside].mean(0)
    far = np.linalg.norm(points - centre, axis=-1) > 130.0
    assert np.abs(flow[:, far]).max() < 1e-6
    # across the heart's surface most of the flow is continuous: only where the chest wall is near it slides
    edge = inside[1:] != inside[:-1]
    jumps = np.linalg.norm(np.diff(flow, axis=1), axis=0)[edge]
    assert np.median(jumps) < 0.35


def test_flow_composes_to_interpolation_error_without_through_plane_motion(flat: Acquisition) -> None:
    """flow[t, n](p) = f + flow[t, s](p + f), f = flow[s, n](p), inside the muscle."""
    t, s, n = 0, 2, SYSTOLE
    flow = torch.from_numpy(true_flow(flat.chest, flat.plan, flat.times)).double()
    first = flow[s, n]
    composed = first + warp(flow[t, s], first)
    error = (composed - flow[t, n]).norm(dim=0)[torch.from_numpy(in_muscle(flat, n))]
    assert error.max() < 0.12
    assert error.mean() < 0.02
    assert flow[t, n].norm(dim=0).max() > 2.0


def test_through_plane_motion_breaks_composition_by_less_than_a_pixel(case: Acquisition) -> None:
    t, s, n = 0, 2, SYSTOLE
    flow = torch.from_numpy(true_flow(case.chest, case.plan, case.times)).double()
    composed = flow[s, n] + warp(flow[t, s], flow[s, n])
    error = (composed - flow[t, n]).norm(dim=0)[torch.from_numpy(in_muscle(case, n))]
    assert 0.02 < error.mean() < 0.7


def test_the_flow_is_cyclic_and_continuous_in_time(case: Acquisition) -> None:
    """The step from the last frame to the first is as small as any other; a whole cycle later nothing has moved."""
    times = np.append(np.arange(50) / 50, 1.0)
    flow = true_flow(case.chest, case.plan, times, targets=range(51), sources=[0])[:, 0]
    steps = np.abs(np.diff(flow, axis=0)).max((1, 2, 3))
    assert steps[-1] <= steps.max()
    assert np.abs(flow[-1]).max() < 1e-4
    assert steps.max() < 0.2 * np.abs(flow).max()


def test_the_flow_does_not_fold_inside_the_heart(case: Acquisition) -> None:
    flow = true_flow(case.chest, case.plan, case.times, targets=[0], sources=[SYSTOLE])[0, 0].astype(float)
    rows, columns = np.gradient(flow, axis=1), np.gradient(flow, axis=2)
    determinant = (1.0 + rows[0]) * (1.0 + columns[1]) - rows[1] * columns[0]
    muscle = in_muscle(case, SYSTOLE)
    assert determinant[muscle].min() > 0.0
    # pulled back to end-diastole the muscle's section grows or shrinks with its shortening along the axis
    assert 0.5 < np.median(determinant[muscle]) < 1.5


def test_area_of_the_muscle_stays_without_long_axis_motion(flat: Acquisition) -> None:
    areas = np.array([in_muscle(flat, frame).sum() for frame in range(FRAMES)], float)
    assert np.ptp(areas) / areas.mean() < 0.04  # pixels are counted


def test_warping_by_the_true_flow_explains_the_muscle_and_no_inverse_crime(
    case: Acquisition, cine: tuple[NDArray, Any]
) -> None:
    """Warped frames are far nearer in the muscle, and in the region of interest never as near as 35 dB."""
    reference, truth = cine
    x0, y0, x1, y1 = truth["roi"]
    roi = np.zeros(reference.shape[1:], bool)
    roi[x0:x1, y0:y1] = True
    peak = float(np.abs(reference)[:, roi].max())
    flow = true_pair_flows(SEED, **ARGUMENTS)
    for source in (0, SYSTOLE):
        muscle = in_muscle(case, source)
        for target in range(FRAMES):
            distance = min((target - source) % FRAMES, (source - target) % FRAMES)
            if distance == 0:
                continue
            warped = warp(torch.from_numpy(reference[target]), torch.from_numpy(flow[target, source])).numpy()
            assert psnr(warped, reference[source], roi, peak) < 35.0
            if {source, target} == {0, SYSTOLE}:
                gain = psnr(warped, reference[source], muscle, peak)
                gain -= psnr(reference[target], reference[source], muscle, peak)
                assert gain > 6.0
                assert (
                    psnr(warped, reference[source], roi, peak)
                    > psnr(reference[target], reference[source], roi, peak) + 3.0
                )


def test_the_opposite_sign_and_order_of_components_explain_less(case: Acquisition, cine: tuple[NDArray, Any]) -> None:
    reference, truth = cine
    flow, frame = truth["flow_from_ed"][SYSTOLE], torch.from_numpy(reference[0])
    muscle = in_muscle(case, SYSTOLE)
    scores = [
        psnr(warp(frame, torch.from_numpy(np.ascontiguousarray(tried))).numpy(), reference[SYSTOLE], muscle, 1.0)
        for tried in (flow, -flow, flow[::-1])
    ]
    assert scores[0] > max(scores[1:]) + 5.0


def test_a_long_axis_plane_is_imaged_too(tmp_path: Path) -> None:
    made = simulate_cine_kspace(tmp_path, 5, frames=3, matrix=64, spacing_mm=4.5, coils=2, long_axis_share=1.0)
    assert made["view"] in {"lax_2ch", "lax_3ch", "lax_4ch"}
    assert made["level"] is None
    assert np.load(tmp_path / "truth.npz")["myocardium"].sum() > 20
