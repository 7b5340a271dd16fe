"""Maps of simulated coils, and of the one real acquisition with several coils."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from clinbundles.kspace import CompressCoilsd, KspaceError, LoadKspaced, SampleLinesd
from clinbundles.mcmr.coil_compression import compression_matrix
from clinbundles.mcmr.fourier import fft2c, ifft2c
from clinbundles.mcmr.noise_whitening import noise_covariance, whiten
from clinbundles.mcmr.sampling_masks import variable_density_lines
from clinbundles.mcmr.sensitivity_estimation import (
    espirit_maps,
    missing_centre_lines,
    time_average,
    time_average_maps,
)

FRAMES, COILS, READOUT, LINES = 20, 6, 64, 60


@pytest.fixture(scope="module")
def truth() -> tuple[torch.Tensor, torch.Tensor]:
    """Images (T, X, Y) of a beating disc in a body, and maps (N, X, Y)."""
    x, y = torch.linspace(-1, 1, READOUT)[:, None], torch.linspace(-1, 1, LINES)[None, :]
    body = torch.sigmoid(30 * (0.8 - (x**2 + y**2).sqrt()))
    radii = 0.3 + 0.1 * torch.cos(2 * torch.pi * torch.arange(FRAMES) / FRAMES)
    images = torch.stack([body + torch.sigmoid(30 * (r - (x**2 + y**2).sqrt())) for r in radii])
    angles = 2 * math.pi * torch.arange(COILS) / COILS
    maps = torch.stack(
        [
            torch.exp(-((x - 1.3 * a.cos()) ** 2 + (y - 1.3 * a.sin()) ** 2))
            * torch.exp(1j * (a + x * a.sin() - y * a.cos()))
            for a in angles
        ]
    )
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    return (images * torch.exp(0.4j * (x + y))).to(torch.complex64), maps.to(torch.complex64)


@pytest.fixture(scope="module")
def sampled(truth) -> tuple[torch.Tensor, torch.Tensor]:
    """16-fold undersampled k-space with noise, and its mask."""
    images, maps = truth
    generator = torch.Generator().manual_seed(0)
    kspace = fft2c(images[:, None] * maps)
    kspace += 0.03 * torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    mask = variable_density_lines(FRAMES, LINES, 10, seed=0)
    return kspace * mask[:, None, None], mask


@pytest.mark.parametrize("estimate, least", [(espirit_maps, 0.999), (time_average_maps, 0.99)])
def test_estimated_maps_are_those_that_were_simulated(truth, sampled, estimate, least):
    images, maps = truth
    kspace, mask = sampled
    found = estimate(kspace, mask, calibration_width=20)
    size = torch.linalg.vector_norm(found, dim=0)
    body = images[0].abs() > 0.5
    assert float((size > 0)[body].float().mean()) > 0.99
    torch.testing.assert_close(size[size > 0], torch.ones_like(size[size > 0]))
    alike = (found.conj() * maps).sum(dim=0).abs()[body & (size > 0)]
    assert float(alike.mean()) > least
    assert float(torch.quantile(alike, 0.05)) > least - 0.01


def test_the_phase_of_the_maps_has_no_jumps(truth, sampled):
    found = espirit_maps(*sampled, calibration_width=20)
    body = truth[0][0].abs() > 0.9
    turned = (found.conj() * truth[1]).sum(dim=0)
    steps = torch.angle(turned[1:] * turned[:-1].conj())[body[1:] & body[:-1]]
    assert float(steps.abs().max()) < 0.3


def test_the_average_counts_the_frames_that_sampled_a_line(truth):
    images, maps = truth
    still = fft2c(images[:1, None] * maps).expand(FRAMES, -1, -1, -1)
    mask = variable_density_lines(FRAMES, LINES, 8, seed=1)
    average = time_average(still * mask[:, None, None], mask)
    covered = mask.any(dim=0)
    torch.testing.assert_close(average[..., covered], still[0][..., covered])
    assert not average[..., ~covered].any()
    general = mask[:, None, :].expand(-1, READOUT, -1)
    torch.testing.assert_close(time_average(still * general[:, None], general), average)


def test_missing_lines_of_the_centre_are_named(sampled):
    kspace, mask = (array.clone() for array in sampled)
    for array in (kspace, mask):
        array[..., [25, 33]] = 0
    assert missing_centre_lines(mask, 12) == [25, 33]
    assert missing_centre_lines(mask, 4) == []
    for estimate in (espirit_maps, time_average_maps):
        with pytest.raises(
            ValueError, match=r"of the lines 24 ... 35 no frame has 25, 33, expected every line in at least"
        ):
            estimate(kspace, mask, calibration_width=12)
    part = torch.ones(3, READOUT, LINES)
    part[:, 30, 28] = 0
    assert missing_centre_lines(part, 12) == [28]
    part[:, 30, 28], part[:, 2, 28] = 1, 0  # beyond the centre of the readout
    assert missing_centre_lines(part, 12) == []


def test_kspace_without_signal_and_wrong_kernels_are_refused(sampled):
    kspace, mask = sampled
    with pytest.raises(ValueError, match="kspace is zero everywhere"):
        espirit_maps(0 * kspace, mask, calibration_width=12)
    with pytest.raises(ValueError, match="kernel_width is 30, expected 2 to 11"):
        espirit_maps(kspace, mask, calibration_width=12, kernel_width=30)


# --- the real head ---


@pytest.fixture(scope="module")
def head(real_data) -> dict:
    path = real_data / "mri_kspace" / "brain8ch_cartesian_ksp.npy"
    if not path.is_file():
        pytest.skip("the head k-space is not among the real data")
    return LoadKspaced(axes="NYX", spacing_mm=(1, 1))({"kspace": path, "case": "head"})


def test_the_real_kspace_follows_the_convention(head):
    """Its peak is at n // 2, its calibration block is around n // 2, and its image is in the middle."""
    kspace, mask = head["kspace"], head["mask"][0]
    assert kspace.shape == (1, 8, 180, 230)
    energy = kspace.abs().square().sum(dim=(0, 1))
    peak = np.unravel_index(int(energy.argmax()), energy.shape)
    assert abs(int(peak[0]) - 90) <= 1
    assert abs(int(peak[1]) - 115) <= 1
    # the file is sampled at random (12 % of all places) but for 24 x 24 samples
    assert float(mask.mean()) == pytest.approx(0.1243, abs=1e-4)
    assert bool(mask[90 - 12 : 90 + 12, 115 - 12 : 115 + 12].all())
    assert not mask[90 - 13, 103:127].all()
    assert not mask[90 + 12, 103:127].all()
    image = ifft2c(kspace[0]).abs().square().sum(dim=0)
    border = torch.ones(180, 230, dtype=torch.bool)
    border[8:-8, 8:-8] = False
    assert float(image[border].mean() / image[~border].mean()) < 0.03
    torch.testing.assert_close(fft2c(ifft2c(kspace)), kspace, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def head_maps(head) -> torch.Tensor:
    return espirit_maps(head["kspace"], head["mask"])


def test_real_maps_explain_the_real_coil_images(head, head_maps):
    images = ifft2c(head["kspace"][0])
    size = torch.linalg.vector_norm(images, dim=0)
    tissue = size > 0.1 * size.max()
    support = torch.linalg.vector_norm(head_maps, dim=0)
    assert float((support > 0)[tissue].float().mean()) > 0.99
    torch.testing.assert_close(support[support > 0], torch.ones_like(support[support > 0]))
    explained = head_maps * (head_maps.conj() * images).sum(dim=0)
    inside = tissue & (support > 0)
    left = torch.linalg.vector_norm((images - explained)[:, inside]) / torch.linalg.vector_norm(images[:, inside])
    assert float(left) < 0.15
    # maps from the time average are another method with nearly the same result
    other = time_average_maps(head["kspace"], head["mask"])
    alike = (other.conj() * head_maps).sum(dim=0).abs()
    assert float(alike[inside & (torch.linalg.vector_norm(other, dim=0) > 0)].mean()) > 0.995


def test_real_noise_is_white_after_whitening(head):
    """The outermost samples are noise; one half of them gives the covariance, the other half tries it."""
    x, y = torch.meshgrid((torch.arange(180) - 90) / 90, (torch.arange(230) - 115) / 115, indexing="ij")
    outer = (head["mask"][0] > 0) & ((x**2 + y**2).sqrt() > 0.75)
    samples = head["kspace"][0][:, outer]
    order = torch.randperm(samples.shape[1], generator=torch.Generator().manual_seed(0))
    known, fresh = samples[:, order[::2]], samples[:, order[1::2]]

    def distance(covariance: torch.Tensor) -> float:
        return float(torch.linalg.matrix_norm(covariance / covariance.diagonal().real.mean() - torch.eye(8)))

    white = noise_covariance(whiten(fresh[None, :, :, None], noise_covariance(known))[0])
    assert distance(noise_covariance(fresh)) > 1.5
    # two covariances of a finite number of samples differ by this much by chance
    by_chance = 8 * (1 / known.shape[1] + 1 / fresh.shape[1]) ** 0.5
    assert distance(white) < 1.3 * by_chance
    torch.testing.assert_close(white.diagonal().real, torch.ones(8, dtype=torch.float64), rtol=0, atol=0.12)


def test_the_real_head_is_not_taken_for_fully_sampled(head):
    with pytest.raises(KspaceError, match=r"case 'head': .* single samples .* expected fully sampled k-space"):
        SampleLinesd(4, seed=0)(head)


def test_few_combinations_hold_the_real_heads_energy(head):
    assert compression_matrix(head["kspace"], coils=5)[1] > 0.99
    assert CompressCoilsd(coils=None, energy=0.98)(head)["kspace"].shape[1] == 4
