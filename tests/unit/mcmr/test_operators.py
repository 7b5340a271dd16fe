"""Every linear operator against its adjoint, in one test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from random_cine import complex_normal, line_encoding, line_mask, random_flow, unit_maps

from clinbundles.mcmr.bilinear_warp import warp, warp_adjoint
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.fourier import fft2c, ifft2c
from clinbundles.mcmr.motion_compensated_solve import MotionCompensatedNormal

T, N, X, Y = 4, 3, 7, 8


@dataclass
class Operator:
    forward: Callable[[torch.Tensor], torch.Tensor]
    adjoint: Callable[[torch.Tensor], torch.Tensor]
    domain: tuple[int, ...] = (T, X, Y)
    range: tuple[int, ...] = (T, X, Y)


def warps(pixels: float, leading: tuple[int, ...] = (T,)) -> Operator:
    flow = random_flow(*leading, rows=X, columns=Y, pixels=pixels)
    shape = (*leading, X, Y)
    return Operator(lambda a: warp(a, flow), lambda b: warp_adjoint(b, flow), shape, shape)


def encoding(mask: torch.Tensor, coils: int = N, path: str = "auto") -> Operator:
    operator = CoilFourierEncoding(unit_maps(coils, X, Y), mask, path)
    return Operator(operator.forward, operator.adjoint, range=(T, coils, X, Y))


def encoding_of_warped() -> Operator:
    flow, inner = random_flow(T, rows=X, columns=Y), line_encoding(T, N, X, Y)
    return Operator(
        lambda x: inner.forward(warp(x, flow)), lambda y: warp_adjoint(inner.adjoint(y), flow), range=(T, N, X, Y)
    )


def encoding_normal(path: str) -> Operator:
    operator = line_encoding(T, N, X, Y, path)
    return Operator(lambda x: operator.normal(x, 1), lambda x: operator.normal(x, 1))


def motion_compensated_normal(path: str, weights: torch.Tensor) -> Operator:
    flow = random_flow(T, T, rows=X, columns=Y)
    operator = MotionCompensatedNormal(line_encoding(T, N, X, Y, path), flow, weights, 0.1)
    return Operator(operator, operator)


general_mask = (torch.rand(T, X, Y, generator=torch.Generator().manual_seed(5)) < 0.4).double()

OPERATORS = {
    "Fourier transform": Operator(fft2c, ifft2c),
    "warp by less than a pixel": warps(0.3),
    "warp that leaves the image": warps(6.0),
    "warp of all pairs": warps(1.5, (2, 3)),
    "encoding with lines": encoding(line_mask(T, Y)),
    "encoding with points": encoding(general_mask),
    "encoding with one coil": encoding(line_mask(T, Y), coils=1),
    "encoding without samples": encoding(torch.zeros(T, Y)),
    "encoding of warped images": encoding_of_warped(),
    "A^H A by Gram matrices": encoding_normal("gram"),
    "A^H A by FFT": encoding_normal("fft"),
    "motion-compensated normal, Gram": motion_compensated_normal("gram", torch.ones(T, T).double()),
    "motion-compensated normal, FFT": motion_compensated_normal("fft", torch.eye(T).double() + 0.2),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoint_is_exact(name):
    """<A x, y> = <x, A^H y>."""
    operator = OPERATORS[name]
    x, y = complex_normal(*operator.domain, seed=11), complex_normal(*operator.range, seed=12)
    image, back = operator.forward(x), operator.adjoint(y)
    assert image.shape == y.shape
    assert back.shape == x.shape
    scale = image.norm() * y.norm() + x.norm() * back.norm() + 1e-300
    assert abs(torch.vdot(image.flatten(), y.flatten()) - torch.vdot(x.flatten(), back.flatten())) < 1e-12 * scale


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_is_linear_over_complex_numbers(name):
    operator = OPERATORS[name]
    x, other = complex_normal(*operator.domain, seed=11), complex_normal(*operator.domain, seed=13)
    together = operator.forward((2 - 3j) * x + other)
    assert torch.allclose(together, (2 - 3j) * operator.forward(x) + operator.forward(other), rtol=1e-12, atol=1e-12)


def test_fourier_transform_is_centred_and_keeps_the_norm():
    image = complex_normal(3, 7, 8)
    kspace = fft2c(image)
    assert torch.allclose(kspace.norm(), image.norm(), rtol=1e-13)  # Parseval
    assert torch.allclose(ifft2c(kspace), image, atol=1e-13)
    flat = fft2c(torch.ones(5, 6, dtype=torch.complex128))
    assert flat.abs().argmax() == 2 * 6 + 3
    assert torch.allclose(flat[2, 3], torch.tensor(30**0.5, dtype=torch.complex128))


def test_white_noise_keeps_its_variance_through_the_transform():
    noise = complex_normal(4, 160, 160)
    variance = ifft2c(noise).abs().square().mean((1, 2))
    assert ((variance - 1).abs() < 0.02).all()


@pytest.mark.parametrize("rows, columns", [(8, 8), (7, 9)])
def test_a_phase_ramp_in_kspace_rolls_the_image(rows, columns):
    image = complex_normal(rows, columns)
    ramp = torch.exp(-2j * torch.pi * 3 * (torch.arange(columns) - columns // 2) / columns)
    assert torch.allclose(ifft2c(fft2c(image) * ramp), image.roll(3, dims=1), atol=1e-12)
