"""Encoding paths and CG-SENSE on the real 8-channel head: single samples, 12 % of all places (R = 8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from random_cine import complex_normal

from clinbundles.kspace import LoadKspaced
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.conjugate_gradient import conjugate_gradient
from clinbundles.mcmr.fourier import fft2c
from clinbundles.mcmr.initial_image import sense
from clinbundles.mcmr.motion_compensated_solve import SolveSettings
from clinbundles.mcmr.noise_whitening import noise_covariance, whiten
from clinbundles.mcmr.sampling_masks import variable_density_lines
from clinbundles.mcmr.sensitivity_estimation import espirit_maps


@pytest.fixture(scope="module")
def head(real_data: Path) -> dict[str, Any]:
    """kspace (1, 8, 180, 230) whose noise has variance 1 in every coil and no covariance, mask, maps."""
    path = real_data / "mri_kspace" / "brain8ch_cartesian_ksp.npy"
    if not path.is_file():
        pytest.skip("the head k-space is not among the real data")
    loaded = LoadKspaced(axes="NYX", spacing_mm=(1, 1))({"kspace": path, "case": "head"})
    kspace, mask = loaded["kspace"], loaded["mask"]
    x, y = torch.meshgrid((torch.arange(180) - 90) / 90, (torch.arange(230) - 115) / 115, indexing="ij")
    outer = (mask[0] > 0) & ((x**2 + y**2).sqrt() > 0.75)  # nearly all noise
    kspace = whiten(kspace, noise_covariance(kspace[0][:, outer]))
    return {"kspace": kspace, "mask": mask, "maps": espirit_maps(kspace, mask), "outer": outer}


@pytest.fixture(scope="module")
def encoding(head: dict[str, Any]) -> CoilFourierEncoding:
    return CoilFourierEncoding(head["maps"], head["mask"])


@pytest.fixture(scope="module")
def image(head: dict[str, Any], encoding: CoilFourierEncoding) -> torch.Tensor:
    """CG-SENSE of the samples, (1, 180, 230)."""
    found, report = sense(encoding, encoding.adjoint(head["kspace"]), 0.03, SolveSettings(1e-5, 50))
    assert report.converged
    assert report.iterations <= 40  # 23
    return found


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def rms(values: torch.Tensor) -> float:
    return float(values.abs().square().mean().sqrt())


# --- single samples: the FFT path -------------------------------------------------------------------------------------


def test_adjoint_and_normal_with_real_maps_and_samples(head):
    encoding = CoilFourierEncoding(head["maps"].to(torch.complex128), head["mask"].double())
    assert not encoding.has_line_mask
    images, samples = complex_normal(1, 180, 230), complex_normal(1, 8, 180, 230, seed=1)
    left = torch.vdot(encoding.forward(images).flatten(), samples.flatten())
    right = torch.vdot(images.flatten(), encoding.adjoint(samples).flatten())
    assert abs(left - right) < 1e-12 * abs(left)
    there_and_back = encoding.adjoint(encoding.forward(images))
    assert relative(encoding.normal(images, 0), there_and_back) < 1e-13


def test_the_real_measurement_has_the_energy_of_its_adjoint(head, encoding):
    """<A x, y> = <x, A^H y> of the data themselves, in single precision."""
    adjoint = encoding.adjoint(head["kspace"])
    samples = encoding.forward(adjoint)
    left = torch.vdot(samples.flatten(), head["kspace"].flatten()).real
    assert float(left) == pytest.approx(float(adjoint.norm().square()), rel=1e-5)


def test_cg_sense_explains_the_samples_down_to_the_noise(head, encoding, image):
    """The signal is 15 times the noise; about as many unknowns as samples leave less than the whole noise."""
    sampled = head["mask"][0] > 0
    left = (encoding.forward(image) - head["kspace"])[0][:, sampled]
    assert rms(head["kspace"][0][:, sampled]) > 14
    assert 0.6 < rms(left) < 1.1  # 0.90


def test_cg_sense_foretells_samples_that_it_did_not_get(head):
    """A tenth of the samples outside the calibration region, left out: they are met nearly to their noise."""
    mask, kspace = head["mask"], head["kspace"]
    out = (torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) < 0.1) & (mask > 0)
    out[:, 78:102, 103:127] = False
    kept = mask * ~out
    part = CoilFourierEncoding(espirit_maps(kspace * kept[:, None], kept), kept)
    found, report = sense(part, part.adjoint(kspace), 0.03, SolveSettings(1e-5, 50))
    assert report.converged
    near = out[0] & ~head["outer"]
    missed = (fft2c(part.sensitivity_maps * found[:, None]) - kspace)[0][:, near]
    known = kspace[0][:, near]
    assert rms(known) > 4  # times the noise
    assert rms(missed) < 1.6  # 1.35, of which 1 is their own noise


# --- whole lines: the Gram path ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines(head: dict[str, Any], image: torch.Tensor) -> dict[str, Any]:
    """The head measured once more in four frames, with whole lines (R = 3) and the real maps."""
    mask = variable_density_lines(4, 230, 3.0, seed=0)
    encoding = CoilFourierEncoding(head["maps"], mask)
    still = (image * (head["maps"] != 0).any(0)).expand(4, -1, -1)
    return {"mask": mask, "image": still, "kspace": encoding.forward(still)}


@pytest.mark.parametrize("kind, tolerance", [(torch.complex128, 1e-13), (torch.complex64, 2e-6)])
def test_gram_path_is_the_fft_path_with_real_maps(head, lines, kind, tolerance):
    maps, images = head["maps"].to(kind), lines["image"].to(kind)
    gram, fft = (CoilFourierEncoding(maps, lines["mask"].to(maps.real.dtype), path) for path in ("gram", "fft"))
    expected = fft.adjoint(fft.forward(images))
    for frame in range(4):
        found = gram.normal(images[frame][None], frame)
        assert relative(found, fft.normal(images[frame][None], frame)) < tolerance
        assert relative(found, expected[frame][None]) < tolerance


def test_cg_sense_through_the_gram_path_is_that_through_the_fft_path(head, lines):
    solved = {}
    for path in ("gram", "fft"):
        encoding = CoilFourierEncoding(head["maps"], lines["mask"], path)
        right_side = encoding.adjoint(lines["kspace"])

        def apply(images: torch.Tensor, encoding: CoilFourierEncoding = encoding) -> torch.Tensor:
            seen = [encoding.normal(image[None], frame) for frame, image in enumerate(images)]
            return torch.cat(seen) + 1e-3 * images

        solved[path], report = conjugate_gradient(apply, right_side, tolerance=1e-5, max_iterations=200)
        assert report.converged
        assert relative(solved[path], lines["image"]) < 0.1
    assert relative(solved["gram"], solved["fft"]) < 1e-3
