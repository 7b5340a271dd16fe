from __future__ import annotations

import numpy as np
import pytest
import torch
from motion_compensation_step_by_step import pull, push
from random_cine import complex_normal, random_flow

from clinbundles.mcmr import bilinear_gather, bilinear_kernels
from clinbundles.mcmr.bilinear_warp import warp, warp_adjoint, warp_flow_gradient


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.complex64, torch.complex128])
def test_zero_flow_gives_the_image_bit_by_bit(kind):
    image = torch.randn(3, 9, 6).to(kind) if not kind.is_complex else torch.randn(3, 9, 6, dtype=kind)
    flow = torch.zeros(3, 2, 9, 6, dtype=image.real.dtype)
    assert torch.equal(warp(image, flow), image)
    assert torch.equal(warp_adjoint(image, flow), image)


def test_whole_pixels_roll_the_interior_rows_first():
    image = complex_normal(9, 8)
    flow = torch.zeros(2, 9, 8, dtype=torch.float64)
    flow[0], flow[1] = 2, -1
    warped = warp(image, flow)
    assert torch.equal(warped[:7, 1:], image.roll((-2, 1), (0, 1))[:7, 1:])
    assert not warped[7:].any()
    assert not warped[:, 0].any()


def test_an_affine_image_is_sampled_exactly():
    flow = random_flow(rows=12, columns=11, pixels=0.5).clamp(-2, 2)
    i, j = torch.arange(12.0, dtype=torch.float64)[:, None], torch.arange(11.0, dtype=torch.float64)
    warped = warp(2 * i - 3 * j + 0.5, flow)
    expected = 2 * (i + flow[0]) - 3 * (j + flow[1]) + 0.5
    assert torch.allclose(warped[3:-3, 3:-3], expected[3:-3, 3:-3], atol=1e-12)


def test_splat_keeps_the_sum_if_all_places_lie_inside():
    i, j = torch.arange(10.0, dtype=torch.float64)[:, None], torch.arange(12.0, dtype=torch.float64)
    flow = random_flow(rows=10, columns=12)
    flow[0], flow[1] = (i + flow[0]).clamp(0, 9) - i, (j + flow[1]).clamp(0, 11) - j
    values = complex_normal(10, 12)
    assert torch.allclose(warp_adjoint(values, flow).sum(), values.sum(), rtol=1e-13)


def test_warp_is_that_of_grid_sample_and_splat_its_gradient():
    image, flow = complex_normal(4, 10, 12), random_flow(4, rows=10, columns=12, pixels=3)
    assert torch.allclose(warp(image, flow), pull(image, flow), atol=1e-12)
    assert torch.allclose(warp_adjoint(image, flow), push(image, flow), atol=1e-12)


@pytest.mark.parametrize("function", [warp, warp_adjoint])
@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_gradients_are_those_of_finite_differences_also_where_the_flow_leaves_the_image(function, kind):
    images = torch.randn(2, 5, 6, dtype=kind, requires_grad=True)
    flow = random_flow(2, rows=5, columns=6, pixels=2).requires_grad_()
    assert torch.autograd.gradcheck(function, (images, flow))
    assert torch.autograd.gradgradcheck(lambda a: function(a, flow.detach()), (images,))


def test_leading_axes_broadcast_and_gradients_sum_over_them():
    images = complex_normal(3, 1, 6, 5).requires_grad_()
    flow = random_flow(2, rows=6, columns=5).requires_grad_()
    pairs = warp(images, flow)
    assert pairs.shape == (3, 2, 6, 5)
    single = torch.stack([torch.stack([warp(images[t, 0], flow[s]) for s in range(2)]) for t in range(3)])
    assert torch.equal(pairs, single)
    weights = complex_normal(3, 2, 6, 5, seed=9)
    together = torch.autograd.grad((pairs * weights).real.sum(), (images, flow))
    apart = torch.autograd.grad((single * weights).real.sum(), (images, flow))
    for one, other in zip(together, apart, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    assert warp_adjoint(images[0], flow).shape == (2, 6, 5)


def test_flow_gradient_is_the_derivative_of_the_scalar_product():
    image, cotangent = complex_normal(6, 5), complex_normal(6, 5, seed=1)
    flow = random_flow(rows=6, columns=5).requires_grad_()
    product = (warp(image, flow).conj() * cotangent).real.sum()
    expected = torch.autograd.grad(product, flow)[0]
    assert torch.allclose(warp_flow_gradient(image, flow, cotangent), expected)


@pytest.mark.parametrize("rows_first", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.complex64, torch.complex128])
def test_compiled_loops_agree_with_pytorchs_own_functions(rows_first, kind):
    images = torch.randn(3, 9, 7, dtype=kind)
    flows = random_flow(5, rows=9, columns=7, pixels=4).to(images.real.dtype)
    image_index, flow_index = np.array([2, 0, 1]), np.array([4, 0, 3])
    values, factors = torch.randn(3, 9, 7, dtype=kind), torch.rand(3, dtype=images.real.dtype)
    stored = values.transpose(0, 1).contiguous() if rows_first else values

    def channels(tensor: torch.Tensor) -> np.ndarray:
        return (torch.view_as_real(tensor) if tensor.is_complex() else tensor[..., None]).numpy()

    out, slow = torch.empty_like(stored), torch.empty_like(values)
    bilinear_kernels.pull(channels(images), flows.numpy(), image_index, flow_index, channels(out), rows_first, 0, 3)
    bilinear_gather.pull(images, flows, image_index, flow_index, slow)
    assert torch.allclose(out.transpose(0, 1) if rows_first else out, slow, atol=1e-6)

    out, slow = images.clone(), images.clone()
    arguments = (flows.numpy(), image_index, flow_index, factors.numpy(), channels(stored), rows_first)
    bilinear_kernels.splat(channels(out), *arguments, 0, 3)
    bilinear_gather.splat(slow, flows, image_index, flow_index, factors, values)
    assert torch.allclose(out, slow, atol=1e-6)

    out, slow = torch.zeros_like(flows), torch.zeros_like(flows)
    bilinear_kernels.slope(channels(images), *arguments, out.numpy(), 0, 3)
    bilinear_gather.slope(images, flows, image_index, flow_index, factors, values, slow)
    assert torch.allclose(out, slow, atol=1e-5)


def test_result_does_not_depend_on_the_number_of_threads():
    images, flow = complex_normal(5, 9, 7), random_flow(5, rows=9, columns=7)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append((warp(images, flow), warp_adjoint(images, flow), warp_flow_gradient(images, flow, images)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_places_that_are_not_finite_or_far_away_are_outside():
    flow = torch.zeros(2, 4, 4)
    flow[0, 0, 0], flow[1, 1, 1], flow[0, 2, 2], flow[1, 3, 3] = torch.nan, torch.inf, 1e30, -1e30
    warped = warp(torch.ones(4, 4), flow)
    assert torch.equal(warped, 1 - torch.eye(4))
    gathered = torch.empty(1, 4, 4)
    bilinear_gather.pull(torch.ones(1, 4, 4), flow[None], np.zeros(1, int), np.zeros(1, int), gathered)
    assert torch.equal(gathered[0], warped)


def test_strided_and_conjugated_input_is_taken_by_its_values():
    images, flow = complex_normal(2, 6, 5), random_flow(2, rows=6, columns=5)
    turned = images.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(warp(turned, flow), warp(images, flow))
    assert torch.equal(warp(images.conj(), flow), warp(images, flow).conj())
    assert torch.equal(warp_adjoint(images.conj(), flow), warp_adjoint(images, flow).conj())


@pytest.mark.parametrize(
    "images, flow, message",
    [
        (torch.zeros(4, 5), torch.zeros(4, 5, 2), r"flow has shape \(4, 5, 2\): expected \(..., 2, X, Y\)"),
        (torch.zeros(4, 5), torch.zeros(2, 5, 4), "on one grid"),
        (torch.zeros(4, 5).double(), torch.zeros(2, 4, 5), "flow is torch.float32: expected one precision"),
    ],
)
def test_input_that_does_not_fit_is_refused(images, flow, message):
    with pytest.raises(ValueError, match=message):
        warp(images, flow)


def test_warp_agrees_with_mrpro():
    operators = pytest.importorskip("mrpro.operators", reason="mrpro is no dependency; compared if it is there")
    image, flow = complex_normal(9, 8), random_flow(rows=9, columns=8)
    peer = operators.GridSamplingOp.from_displacement(None, flow[None, None, 0], flow[None, None, 1])
    assert torch.allclose(peer(image[None, None, None])[0].squeeze(), warp(image, flow), atol=2e-6)
    assert torch.allclose(peer.adjoint(image[None, None, None])[0].squeeze(), warp_adjoint(image, flow), atol=2e-6)
