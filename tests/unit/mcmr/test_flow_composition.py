"""Inverse, composition and pair flows, against their defining equations and finite differences."""

from __future__ import annotations

import pytest
import torch

from clinbundles.mcmr.flow_composition import (
    compose_flow,
    invert_flow,
    jacobian_determinant,
    pair_flows,
    pixel_places,
    remove_mean,
)


def smooth_flows(frames: int, size: tuple[int, int], amplitude: float, seed: int = 0) -> torch.Tensor:
    """(T, 2, X, Y) float64: a few random waves, slope well below one."""
    draw = torch.Generator().manual_seed(seed)
    places = pixel_places(torch.zeros(2, *size, dtype=torch.float64))
    flow = torch.zeros(frames, 2, *size, dtype=torch.float64)
    for frame in range(frames):
        for part in range(2):
            for _ in range(3):
                wave = 1.5 * torch.rand(2, generator=draw, dtype=torch.float64) / torch.tensor(size)
                phase = 6 * torch.rand(1, generator=draw, dtype=torch.float64)
                flow[frame, part] += amplitude / 3 * torch.sin(6.28 * torch.einsum("a,axy->xy", wave, places) + phase)
    return flow


def difference_quotient(function, flow: torch.Tensor, along: torch.Tensor, step: float = 1e-6) -> torch.Tensor:
    return (function(flow + step * along) - function(flow - step * along)) / (2 * step)


def test_inverse_meets_its_equation_to_a_thousandth_of_a_pixel() -> None:
    v = smooth_flows(4, (40, 33), 1.5)
    assert compose_flow(invert_flow(v), v).abs().max() < 1e-3
    assert compose_flow(invert_flow(v.float()), v.float()).abs().max() < 1e-3


def test_inverse_undoes_the_flow_inside() -> None:
    v = smooth_flows(2, (40, 33), 1.5)
    assert compose_flow(v, invert_flow(v))[..., 4:-4, 4:-4].abs().max() < 0.05


def test_inverse_of_a_shift_is_the_shift_back_up_to_the_border() -> None:
    v = torch.tensor([1.3, -2.4]).reshape(2, 1, 1).expand(2, 12, 10)
    assert torch.allclose(invert_flow(v), -v)


def test_inverse_of_an_affine_flow_is_exact_inside() -> None:
    places = pixel_places(torch.zeros(2, 30, 30, dtype=torch.float64)) - 14.5
    matrix = torch.tensor([[0.1, 0.05], [-0.08, -0.06]], dtype=torch.float64)
    v = torch.einsum("ab,bxy->axy", matrix, places)
    exact = torch.einsum("ab,bxy->axy", torch.linalg.inv(torch.eye(2) + matrix) - torch.eye(2), places)
    assert torch.allclose(invert_flow(v, 60, 0.0)[:, 5:-5, 5:-5], exact[:, 5:-5, 5:-5], atol=1e-12)


def test_gradient_of_the_inverse_equals_finite_differences() -> None:
    v = smooth_flows(3, (14, 11), 1.2).requires_grad_()
    cotangent, along = torch.randn(2, *v.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def value(flow: torch.Tensor) -> torch.Tensor:
        return (invert_flow(flow, 200, 1e-14) * cotangent).sum()

    (gradient,) = torch.autograd.grad(value(v), v)
    slope = difference_quotient(value, v.detach(), along)
    assert float((gradient * along).sum()) == pytest.approx(float(slope), rel=1e-6)


def test_gradient_of_the_inverse_stays_finite_where_the_flow_folds() -> None:
    v = (3 * smooth_flows(2, (16, 16), 4.0)).requires_grad_()
    assert jacobian_determinant(v).min() < 0
    (gradient,) = torch.autograd.grad(invert_flow(v).square().sum(), v)
    assert gradient.isfinite().all()


def test_composition_is_first_then_second_at_the_place_reached() -> None:
    first = torch.zeros(2, 6, 6)
    first[0] = 1
    second = torch.zeros(2, 6, 6)
    second[1] = torch.arange(6.0)[:, None]
    composed = compose_flow(first, second)
    assert torch.allclose(composed[1, :, 0], torch.tensor([1.0, 2, 3, 4, 5, 5]))  # constant beyond the border
    assert torch.equal(composed[0], first[0])


def test_composition_broadcasts_its_leading_axes() -> None:
    first, second = smooth_flows(3, (9, 8), 1.0), smooth_flows(4, (9, 8), 1.0, seed=1)
    both = compose_flow(first[:, None], second[None])
    assert both.shape == (3, 4, 2, 9, 8)
    assert torch.allclose(both[2, 1], compose_flow(first[2], second[1]))


def test_pair_flows_are_compositions_with_the_inverse() -> None:
    v = smooth_flows(4, (17, 20), 1.2)
    w, flow = invert_flow(v), pair_flows(v)
    for target in range(4):
        for source in range(4):
            expected = compose_flow(w[source], v[target]) if target != source else torch.zeros_like(w[0])
            assert torch.allclose(flow[target, source], expected, atol=1e-12)


def test_a_frame_does_not_move_to_itself() -> None:
    flow = pair_flows(smooth_flows(3, (8, 8), 1.0).float())
    assert torch.count_nonzero(flow.diagonal(dim1=0, dim2=1)) == 0
    assert flow.dtype == torch.float32


def test_pairs_of_weight_zero_stay_zero_and_the_others_are_as_before() -> None:
    v = smooth_flows(4, (10, 9), 1.0)
    weights = torch.tensor([[1.0, 0.5, 0, 0], [0.5, 1, 0.5, 0], [0, 0.5, 1, 0.5], [0, 0, 0, 1]])
    kept = weights[..., None, None, None] != 0
    assert torch.equal(pair_flows(v, weights), pair_flows(v) * kept)


@pytest.mark.parametrize("neighbours", [False, True])
def test_gradient_of_pair_flows_equals_finite_differences(neighbours: bool) -> None:
    v = smooth_flows(4, (11, 14), 1.2).requires_grad_()
    weights = torch.ones(4, 4).tril(1) if neighbours else None
    draw = torch.Generator().manual_seed(2)
    cotangent = torch.randn(4, 4, 2, 11, 14, dtype=torch.float64, generator=draw)
    along = torch.randn(v.shape, dtype=torch.float64, generator=draw)

    def value(flow: torch.Tensor) -> torch.Tensor:
        return (pair_flows(flow, weights, 100) * cotangent).sum()

    (gradient,) = torch.autograd.grad(value(v), v)
    slope = difference_quotient(value, v.detach(), along)
    assert float((gradient * along).sum()) == pytest.approx(float(slope), rel=1e-4)


def test_gradient_of_pair_flows_equals_that_of_plain_compositions() -> None:
    v = smooth_flows(3, (12, 12), 1.2).requires_grad_()
    cotangent = torch.randn(3, 3, 2, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    off_diagonal = ~torch.eye(3, dtype=torch.bool)[..., None, None, None]
    w = invert_flow(v)
    plain = compose_flow(w[None], v[:, None]) * off_diagonal
    (expected,) = torch.autograd.grad((plain * cotangent).sum(), v)
    (gradient,) = torch.autograd.grad((pair_flows(v) * cotangent).sum(), v)
    assert torch.allclose(gradient, expected, rtol=1e-10, atol=1e-10)


def test_mean_over_frames_is_removed() -> None:
    v = smooth_flows(5, (8, 9), 1.0) + 2
    assert remove_mean(v).mean(0).abs().max() < 1e-12
    assert torch.allclose(remove_mean(torch.stack([v, 2 * v]))[1], 2 * remove_mean(v))


def test_determinant_of_an_affine_flow_is_that_of_its_matrix() -> None:
    places = pixel_places(torch.zeros(2, 7, 6, dtype=torch.float64))
    matrix = torch.tensor([[0.2, -0.3], [0.4, -0.1]], dtype=torch.float64)
    determinant = jacobian_determinant(torch.einsum("ab,bxy->axy", matrix, places))
    assert torch.allclose(determinant, torch.linalg.det(torch.eye(2) + matrix) * torch.ones(7, 6, dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: invert_flow(torch.zeros(3, 8, 8)), "expected \\(..., 2, X, Y\\)"),
        (lambda: invert_flow(torch.zeros(2, 8, 8, dtype=torch.int64)), "expected float32 or float64"),
        (lambda: pair_flows(torch.zeros(2, 8, 8)), "expected \\(T, 2, X, Y\\)"),
        (lambda: pair_flows(torch.zeros(3, 2, 8, 8), torch.ones(3, 4)), "expected \\(3, 3\\)"),
        (lambda: compose_flow(torch.zeros(2, 8, 8), torch.zeros(2, 8, 7)), "must have one grid"),
        (lambda: remove_mean(torch.zeros(2, 8, 8)), "expected \\(..., T, 2, X, Y\\)"),
    ],
)
def test_a_wrong_shape_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
