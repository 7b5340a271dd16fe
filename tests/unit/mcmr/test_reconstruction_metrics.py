"""Image metrics against their formulas, scikit-image, and what must be true of identical images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_laplace
from skimage.metrics import structural_similarity

from clinbundles.mcmr.reconstruction_metrics import (
    complex_scale,
    crop,
    hfen,
    laplacian_of_gaussian,
    magnitude_scale,
    middle_line,
    nrmse,
    psnr,
    reconstruction_scores,
    ssim,
    xt_profile,
    xt_profile_nrmse,
)

REGION = (3, 5, 27, 25)


def cine(seed: int = 0, noise: float = 0.0) -> torch.Tensor:
    """(4, 32, 30) complex: a disc that moves, under a phase, with noise of another seed."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(30.0), indexing="ij")
    frames = [torch.sigmoid(8 - torch.hypot(rows - 15 - frame, columns - 15)) for frame in range(4)]
    images = torch.stack(frames) * torch.exp(1j * 0.1 * rows)
    draw = torch.Generator().manual_seed(seed)
    return images + noise * torch.randn(images.shape, generator=draw, dtype=torch.complex64)


def test_identical_images_have_infinite_psnr_and_no_error() -> None:
    scores = reconstruction_scores(cine(), cine(), REGION, rescale=False)
    assert scores["psnr"] == math.inf
    assert scores["ssim"] == pytest.approx(1)
    assert scores["hfen"] == scores["nrmse"] == scores["xt_nrmse"] == 0


def test_psnr_is_peak_over_root_mean_square_of_magnitudes_in_the_region() -> None:
    images, reference = cine(1, 0.1), cine()
    ours, theirs = (np.abs(values.numpy().astype(complex))[:, 3:27, 5:25] for values in (images, reference))
    expected = 20 * np.log10(theirs.max() / np.sqrt(np.mean((ours - theirs) ** 2)))
    assert psnr(images, reference, REGION) == pytest.approx(expected, rel=1e-6)


def test_ssim_equals_that_of_scikit_image_with_a_gaussian_window() -> None:
    images, reference = cine(1, 0.1), cine()
    expected = [
        structural_similarity(
            ours.abs().double().numpy(), theirs.abs().double().numpy(), gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, data_range=float(reference.abs().max()),
        )
        for ours, theirs in zip(images, reference, strict=True)
    ]  # fmt: skip
    assert ssim(images, reference) == pytest.approx(np.mean(expected), abs=1e-5)  # MONAI works in float32


def test_laplacian_of_gaussian_is_blind_to_constants_and_like_that_of_scipy() -> None:
    kernel = laplacian_of_gaussian().numpy()
    assert kernel.shape == (13, 13)
    assert abs(kernel.sum()) < 1e-15
    point = np.zeros((13, 13))
    point[6, 6] = 1
    smooth = gaussian_laplace(point, 1.5, truncate=4.0)
    assert np.abs(kernel - smooth).max() < 0.05 * np.abs(smooth).max()


def test_hfen_is_normalised_by_the_reference() -> None:
    images, reference = 2 * cine(), cine()
    assert hfen(images, reference) == pytest.approx(1)
    assert hfen(reference, images) == pytest.approx(0.5)


def test_nrmse_sees_the_phase_and_psnr_does_not() -> None:
    images = cine() * 1j
    assert nrmse(images, cine()) == pytest.approx(math.sqrt(2), rel=1e-5)
    assert psnr(images, cine()) > 120


def test_one_scalar_per_cine_takes_scale_and_phase_away() -> None:
    images = cine() * (0.3 - 2j)
    assert complex_scale(images, cine()) == pytest.approx(1 / (0.3 - 2j), rel=1e-5)
    assert magnitude_scale(images, cine()) == pytest.approx(1 / abs(0.3 - 2j), rel=1e-5)
    scores = reconstruction_scores(images, cine(), REGION)
    assert scores["nrmse"] < 1e-5
    assert scores["psnr"] > 100
    assert complex_scale(0 * images, cine()) == magnitude_scale(0 * images, cine()) == 1


def test_scale_of_magnitudes_does_not_shrink_under_a_smooth_phase() -> None:
    turn = torch.exp(2j * torch.linspace(-1, 1, 32))[:, None]
    assert magnitude_scale(cine() * turn, cine()) == pytest.approx(1, rel=1e-5)
    assert abs(complex_scale(cine() * turn, cine())) < 0.9


def test_profile_of_an_oblique_line_is_bilinear() -> None:
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(7.0), indexing="ij")
    profile = xt_profile((2 * rows + 3 * columns)[None].expand(3, -1, -1), ((1.0, 2.0), (7.0, 5.0)))
    count = round(math.hypot(6, 3)) + 1
    assert profile.shape == (3, count)
    assert torch.allclose(profile[0], torch.linspace(8, 29, count, dtype=torch.float64))


def test_profile_error_of_a_still_image_of_a_moving_disc_is_large() -> None:
    along = ((0.0, 15.0), (31.0, 15.0))
    still = cine().mean(0, keepdim=True).expand(4, -1, -1)
    assert xt_profile_nrmse(cine(1, 0.01), cine(), along) < 0.05 < xt_profile_nrmse(still, cine(), along)


def test_middle_line_lies_in_the_region() -> None:
    assert middle_line((32, 30), REGION) == ((14.5, 5.0), (14.5, 24.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: crop(torch.zeros(3, 8, 8), (0, 0, 9, 8)), "does not lie in an image of 8 x 8"),
        (lambda: psnr(torch.zeros(3, 8, 8), torch.ones(3, 8, 9)), "expected the same \\(T, X, Y\\)"),
        (lambda: psnr(torch.full((3, 8, 8), torch.nan), torch.ones(3, 8, 8)), "the reconstruction diverged"),
        (lambda: psnr(torch.ones(3, 8, 8), torch.zeros(3, 8, 8)), "reference is zero"),
        (lambda: ssim(torch.ones(3, 8, 8), torch.ones(3, 8, 8)), "SSIM needs 11 x 11"),
        (lambda: hfen(torch.ones(3, 12, 12), torch.ones(3, 12, 12)), "HFEN needs 13 x 13"),
        (lambda: xt_profile(torch.ones(3, 8, 8), ((0.0, 0.0), (8.0, 0.0))), "leaves the image"),
    ],
)
def test_what_cannot_be_compared_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
