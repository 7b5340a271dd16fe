"""Compressed sensing over time: temporal total variation, and low rank plus sparse."""

from __future__ import annotations

import torch
from framewise_encoding import Case, FramewiseNormal, adjoint_images, encoding_of

from clinbundles.mcmr.initial_image import view_shared

START_SIGMA, START_REGULARISATION = 1.0, 0.01  # of the view-shared images that give start and scale; sigma in frames


def _problem(case: Case) -> tuple[FramewiseNormal, torch.Tensor, torch.Tensor, float]:
    """A^H A, A^H y, the view-shared start, and its 99th percentile, to which thresholds are relative."""
    encoding, right_side = encoding_of(case), adjoint_images(case)
    start, _ = view_shared(encoding, right_side, START_SIGMA, START_REGULARISATION, bool(case.get("cyclic", True)))
    return FramewiseNormal(encoding), right_side, start, float(start.abs().flatten().quantile(0.99))


def temporal_tv(case: Case, weight: float, iterations: int = 200) -> torch.Tensor:
    """min 1/2 ||A x - y||^2 + weight * scale * sum_t |x_(t+1) - x_t| (modulus of complex differences).

    Primal-dual with a gradient step for the data (Condat, JOTA 2013, algorithm 3.1; Vu 2013), whose step lengths are
    safe since ||A|| <= 1 and ||D|| <= 2. Over the end of the cycle if it is closed.

    Args:
        case: with kspace, mask, sensitivity_maps.
        weight: relative to the 99th percentile of the view-shared magnitudes.
        iterations: from the view-shared images.
    """
    normal, right_side, images, scale = _problem(case)
    cyclic = bool(case.get("cyclic", True))

    def difference(values: torch.Tensor) -> torch.Tensor:
        step = values.roll(-1, 0) - values
        if not cyclic:
            step[-1] = 0
        return step

    def transposed(values: torch.Tensor) -> torch.Tensor:  # of `difference`, whose last row is zero if not cyclic
        return values.roll(1, 0) - values

    dual_step = 0.25
    step = 1 / (0.5 + 4 * dual_step)
    dual = torch.zeros_like(images)
    for _ in range(iterations):
        before = images
        images = before - step * (normal(before) - right_side + transposed(dual))
        dual = dual + dual_step * difference(2 * images - before)
        dual = dual / (dual.abs() / (weight * scale)).clamp(min=1)
    return images


def low_rank_plus_sparse(
    case: Case, low_rank: float, sparse: float, start: str = "view_shared", iterations: int = 60
) -> torch.Tensor:
    """L+S (Otazo, Candes and Sodickson, MRM 2015): a low-rank background and what is sparse in temporal frequency.

    Soft thresholding of the singular values of M - S and of the temporal Fourier transform of M - L, then a gradient
    step of the data on M = L + S.

    Args:
        case: with kspace, mask, sensitivity_maps.
        low_rank: threshold of singular values, relative to the largest.
        sparse: threshold of temporal frequencies, relative to the 99th percentile of the view-shared magnitudes.
        start: "adjoint" (the paper's) or "view_shared".
        iterations: at most; ends when the images change by less than 1e-4.
    """
    normal, right_side, shared, scale = _problem(case)
    images = {"adjoint": right_side, "view_shared": shared}[start]
    sparse_part = torch.zeros_like(images)
    for _ in range(iterations):
        before = images
        background = _shrink_singular_values(images - sparse_part, low_rank)
        frequencies = torch.fft.fft(images - background, dim=0, norm="ortho")
        sparse_part = torch.fft.ifft(_shrink(frequencies, sparse * scale), dim=0, norm="ortho")
        images = background + sparse_part
        images = images - (normal(images) - right_side)
        if (images - before).norm() < 1e-4 * before.norm():
            break
    return images


def _shrink(values: torch.Tensor, threshold: float) -> torch.Tensor:
    return values * (1 - threshold / values.abs().clamp(min=threshold))


def _shrink_singular_values(images: torch.Tensor, share: float) -> torch.Tensor:
    """Soft thresholding at a share of the largest singular value of the (T, pixels) matrix."""
    frames = images.flatten(1)
    energies, vectors = torch.linalg.eigh((frames @ frames.mH).to(torch.complex128))
    singular = energies.clamp(min=0).sqrt()
    kept = (singular - share * singular[-1]).clamp(min=0) / singular.clamp(min=1e-30)
    projection = (vectors * kept) @ vectors.mH
    return (projection.to(frames.dtype) @ frames).reshape(images.shape)
