from __future__ import annotations

import pytest
import torch

from clinbundles.mcmr.noise_whitening import mix_coils, noise_covariance, whiten, whitening_matrix

COILS = 6


@pytest.fixture
def mixing() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(COILS, COILS, dtype=torch.complex128, generator=generator) + 2 * torch.eye(COILS)


def noise(samples: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(COILS, samples, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def test_the_whitening_matrix_makes_the_covariance_the_identity(mixing):
    covariance = mixing @ mixing.mH
    matrix = whitening_matrix(covariance)
    torch.testing.assert_close(matrix @ covariance @ matrix.mH, torch.eye(COILS, dtype=torch.complex128))
    assert not torch.triu(matrix, diagonal=1).abs().any()


def test_whitened_noise_has_unit_variance_and_no_correlation(mixing):
    covariance = noise_covariance(mixing @ noise(200_000))
    torch.testing.assert_close(covariance, mixing @ mixing.mH, rtol=0.02, atol=0.1)
    fresh = (mixing @ noise(50_000, seed=2)).reshape(COILS, 250, 200)[None]
    white = whiten(fresh, covariance)[0].reshape(COILS, -1)
    torch.testing.assert_close(
        white @ white.mH / white.shape[1], torch.eye(COILS, dtype=torch.complex128), rtol=0, atol=0.02
    )


def test_a_slower_noise_scan_is_corrected_by_the_bandwidth(mixing):
    # the noise scan has half the noise power of the image
    matrix = whitening_matrix(noise_covariance(0.5**0.5 * mixing @ noise(100_000)), bandwidth_ratio=2.0)
    white = matrix @ mixing @ noise(100_000, seed=3)
    torch.testing.assert_close(
        white.abs().square().mean(dim=1), torch.ones(COILS, dtype=torch.float64), rtol=0.02, atol=0
    )


def test_whitening_keeps_precision_and_zeros_of_the_data(mixing):
    kspace = torch.zeros(3, COILS, 5, 4, dtype=torch.complex64)
    kspace[..., 1] = 1
    white = whiten(kspace, mixing @ mixing.mH)
    assert white.dtype == torch.complex64
    assert not white[..., [0, 2, 3]].any()


def test_noise_that_cannot_be_used_is_refused(mixing):
    with pytest.raises(ValueError, match="noise has 11 samples of 6 coils, expected at least 12"):
        noise_covariance(noise(11))
    with pytest.raises(ValueError, match=r"noise is torch.float64, expected complex"):
        noise_covariance(noise(100).real)
    with pytest.raises(ValueError, match="not finite"):
        noise_covariance(noise(100) * float("nan"))
    covariance = mixing @ mixing.mH
    dead = covariance.clone()
    dead[2], dead[:, 2] = 0, 0
    with pytest.raises(ValueError, match=r"coils \[2\] have no noise"):
        whitening_matrix(dead)
    copied = mixing.clone()
    copied[4] = copied[1]
    with pytest.raises(ValueError, match="singular at coil 4"):
        whitening_matrix(copied @ copied.mH)
    with pytest.raises(ValueError, match="not Hermitian"):
        whitening_matrix(mixing)
    with pytest.raises(ValueError, match=r"shape \(6, 5\), expected \(coils, coils\)"):
        whitening_matrix(covariance[:, :5])
    with pytest.raises(ValueError, match="the data have 3 coils, the matrix that mixes them takes 6"):
        mix_coils(torch.zeros(2, 3, 4, 4, dtype=torch.complex64), mixing)
