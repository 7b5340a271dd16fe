from __future__ import annotations

import pytest
import torch
from motion_compensation_step_by_step import motion_compensated_normal
from random_cine import complex_normal, line_encoding, line_mask, random_flow, unit_maps

from clinbundles.mcmr.bilinear_warp import warp
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.motion_compensated_solve import (
    MotionCompensatedNormal,
    SolveSettings,
    distance_weights,
    solve_motion_compensated,
)

T, N, X, Y = 4, 3, 7, 8
EXACT = SolveSettings(tolerance=1e-12, max_iterations=400)


def zero_flow(targets: int = T, sources: int = T) -> torch.Tensor:
    return torch.zeros(targets, sources, 2, X, Y, dtype=torch.float64)


def positive_weights(targets: int = T, sources: int = T) -> torch.Tensor:
    return 0.2 + torch.rand(targets, sources, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("path", ["gram", "fft"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.complex128, 1e-12), (torch.complex64, 2e-6)])
def test_normal_is_that_of_the_way_step_by_step(path, dtype, tolerance):
    maps, mask = unit_maps(N, X, Y), line_mask(T, Y)
    flow, weights, images = random_flow(T, T, rows=X, columns=Y), positive_weights(), complex_normal(T, X, Y)
    expected = motion_compensated_normal(maps, mask, flow, weights, 0.1, images)
    encoding = CoilFourierEncoding(maps.to(dtype), mask, path)
    normal = MotionCompensatedNormal(encoding, flow.to(encoding.mask.dtype), weights, 0.1)
    result = normal(images.to(dtype))
    assert result.dtype == dtype
    assert (result - expected).norm() < tolerance * expected.norm()


def test_fewer_targets_than_sources_and_point_masks_work():
    maps = unit_maps(N, X, Y)
    mask = (torch.rand(T, X, Y, generator=torch.Generator().manual_seed(1)) < 0.5).double()
    flow, weights = random_flow(2, T, rows=X, columns=Y), positive_weights(2)
    images = complex_normal(2, X, Y)
    expected = motion_compensated_normal(maps, mask, flow, weights, 0.1, images)
    normal = MotionCompensatedNormal(CoilFourierEncoding(maps, mask), flow, weights, 0.1)
    assert torch.allclose(normal(images), expected, atol=1e-12)


def test_normal_is_hermitian_with_eigenvalues_of_at_least_the_regularisation():
    normal = MotionCompensatedNormal(line_encoding(), random_flow(1, T, rows=X, columns=Y), positive_weights(1), 0.3)
    basis = torch.eye(X * Y, dtype=torch.complex128).reshape(X * Y, 1, X, Y)
    matrix = torch.stack([normal(image).flatten() for image in basis], dim=1)
    assert torch.allclose(matrix, matrix.mH, atol=1e-13)
    assert torch.linalg.eigvalsh(matrix).min() > 0.3 - 1e-12


def test_full_sampling_of_what_does_not_move_needs_one_iteration():
    """H = (sum of weights + regularisation) I."""
    encoding = CoilFourierEncoding(unit_maps(N, X, Y), torch.ones(T, Y))
    weights, images = positive_weights(), complex_normal(T, X, Y)
    result = MotionCompensatedNormal(encoding, zero_flow(), weights, 0.1)(images)
    assert torch.allclose(result, (weights.sum(1) + 0.1)[:, None, None] * images, atol=1e-12)
    _, report = solve_motion_compensated(encoding, images, zero_flow(), weights, 0 * images, 0.1)
    assert report.iterations == 1
    assert report.converged


def test_complementary_masks_of_a_static_object_give_the_fully_sampled_image():
    image = complex_normal(X, Y)
    mask = torch.zeros(T, Y)
    mask[torch.arange(Y) % T, torch.arange(Y)] = 1
    encoding = CoilFourierEncoding(unit_maps(N, X, Y), mask)
    a = encoding.adjoint(encoding.forward(image.expand(T, X, Y)))
    solution, _ = solve_motion_compensated(
        encoding, a, zero_flow(), torch.ones(T, T).double(), torch.zeros_like(a), 0.0, settings=EXACT
    )
    assert torch.allclose(solution, image.expand(T, X, Y), atol=1e-10)
    once = CoilFourierEncoding(unit_maps(N, X, Y), torch.ones(1, Y))
    assert torch.allclose(a.sum(0), once.adjoint(once.forward(image[None]))[0], atol=1e-12)


def test_data_made_with_the_warp_itself_are_recovered():
    encoding, truth = line_encoding(6), complex_normal(1, X, Y)
    flow = random_flow(1, 6, rows=X, columns=Y, pixels=0.3)
    flow[0, 0] = 0
    full = CoilFourierEncoding(encoding.sensitivity_maps, torch.cat([torch.ones(1, Y), encoding.mask[1:]]))
    a = full.adjoint(full.forward(warp(truth, flow[0])))
    solution, _ = solve_motion_compensated(
        full, a, flow, torch.ones(1, 6).double(), torch.zeros_like(truth), 0.0, settings=EXACT
    )
    assert (solution - truth).norm() < 1e-6 * truth.norm()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_solution_scales_with_kspace(scale):
    encoding, flow = line_encoding(), random_flow(T, T, rows=X, columns=Y)
    a, prior = encoding.adjoint(complex_normal(T, N, X, Y)), complex_normal(T, X, Y, seed=4)
    one, report = solve_motion_compensated(encoding, a, flow, positive_weights(), prior, 0.1)
    other, scaled = solve_motion_compensated(encoding, scale * a, flow, positive_weights(), scale * prior, 0.1)
    assert report.iterations == scaled.iterations
    assert torch.allclose(other, scale * one, rtol=1e-9, atol=0)


def test_a_large_regularisation_gives_the_prior_and_a_start_at_the_solution_stays():
    encoding, flow = line_encoding(), random_flow(T, T, rows=X, columns=Y)
    a, prior = encoding.adjoint(complex_normal(T, N, X, Y)), complex_normal(T, X, Y, seed=4)
    solution, _ = solve_motion_compensated(encoding, a, flow, positive_weights(), prior, 1e9)
    assert torch.allclose(solution, prior, atol=1e-6)
    _, report = solve_motion_compensated(encoding, a, flow, positive_weights(), prior, 1e9, start=solution)
    assert report.iterations == 0


def test_pairs_of_weight_zero_cost_nothing_and_their_flow_does_not_matter(monkeypatch):
    encoding, flow = line_encoding(), random_flow(T, T, rows=X, columns=Y)
    weights = positive_weights() * (1 - torch.eye(T).roll(1, 0))
    weights[:, 2] = 0
    seen = []
    normal_rows = encoding.normal_rows
    monkeypatch.setattr(
        encoding, "normal_rows", lambda rows, frame: (seen.append((frame, rows.shape[1])), normal_rows(rows, frame))[1]
    )
    images = complex_normal(T, X, Y)
    result = MotionCompensatedNormal(encoding, flow, weights, 0.1)(images)
    assert seen == [(0, T - 1), (1, T - 1), (3, T - 1)]
    spoiled = torch.where((weights > 0)[:, :, None, None, None], flow, torch.nan)
    assert torch.equal(MotionCompensatedNormal(encoding, spoiled, weights, 0.1)(images), result)


def test_a_strip_of_rows_is_solved_as_in_the_whole_if_nothing_moves_across_its_border():
    encoding, a = line_encoding(), complex_normal(T, X, Y)
    flow = random_flow(T, T, rows=X, columns=Y)
    flow[:, :, 0] = 0
    whole, _ = solve_motion_compensated(encoding, a, flow, positive_weights(), 0 * a, 0.1, settings=EXACT)
    strip, _ = solve_motion_compensated(
        encoding.rows(2, 6),
        a[:, 2:6],
        flow[:, :, :, 2:6],
        positive_weights(),
        0 * a[:, 2:6],
        0.1,
        settings=EXACT,
    )
    assert torch.allclose(strip, whole[:, 2:6], atol=1e-10)


def test_strides_of_the_input_do_not_matter():
    encoding, flow = line_encoding(), random_flow(T, T, rows=X, columns=Y)
    a, prior = complex_normal(T, X, Y), complex_normal(T, X, Y, seed=4)
    expected, _ = solve_motion_compensated(encoding, a, flow, positive_weights(), prior, 0.1, start=prior)
    turned = [values.transpose(-1, -2).contiguous().transpose(-1, -2) for values in (a, flow, prior)]
    solution, _ = solve_motion_compensated(
        encoding, turned[0], turned[1], positive_weights(), turned[2], 0.1, start=turned[2]
    )
    assert torch.allclose(solution, expected, rtol=1e-12)


def test_distance_weights_are_gaussian_cyclic_and_zero_beyond_the_neighbours():
    weights = distance_weights(7, 3.0)
    assert weights.dtype == torch.float32
    assert torch.equal(weights, weights.T)
    assert torch.allclose(weights[0, [0, 1, 3, 6]], torch.exp(-torch.tensor([0.0, 1.0, 9.0, 1.0]) / 18))
    assert torch.allclose(distance_weights(7, 3.0, cyclic=False)[0, 6], torch.exp(torch.tensor(-2.0)))
    near = distance_weights(25, 3.0, neighbours=4)
    assert torch.equal((near > 0).sum(1), torch.full((25,), 9))
    assert torch.equal(distance_weights(4, float("inf")), torch.ones(4, 4))


@pytest.mark.parametrize("arguments", [(0, 1.0), (4, 0.0), (4, float("nan")), (4, 1.0, True, -1)])
def test_distance_weights_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ValueError, match="expected at least one frame, a positive sigma and neighbours"):
        distance_weights(*arguments)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"flow": torch.zeros(T, T, X, Y, 2).double()}, r"flow: found .* expected \(T, S, 2, X, Y\) \(4, 4, 2, 7, 8\)"),
        ({"flow": zero_flow().float()}, "flow: found .* torch.float32, expected .* torch.float64"),
        ({"weights": -torch.ones(T, T).double()}, "weights: found .* from -1, expected .* at least 0"),
        ({"weights": torch.ones(T, T + 1).double()}, r"weights: found \(4, 5\) .* expected \(T, 4\)"),
        ({"regularisation": -0.1}, "regularisation is -0.1: expected at least 0"),
        ({"prior": complex_normal(T + 1, X, Y)}, r"prior: found \(5, 7, 8\)"),
        ({"adjoint_images": complex_normal(T, N, X, Y)}, r"adjoint_images: found \(4, 3, 7, 8\)"),
        ({"start": complex_normal(T, Y, X)}, r"start: found \(4, 8, 7\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {
        "encoding": line_encoding(),
        "adjoint_images": complex_normal(T, X, Y),
        "flow": zero_flow(),
        "weights": positive_weights(),
        "prior": complex_normal(T, X, Y),
        "regularisation": 0.1,
    }
    with pytest.raises(ValueError, match=message):
        solve_motion_compensated(**(arguments | change))
