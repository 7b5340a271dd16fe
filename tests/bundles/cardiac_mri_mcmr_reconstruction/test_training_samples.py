"""Strips of readout rows and lines that are held out."""

from __future__ import annotations

import pytest
import torch
from moving_disc_case import disc_sample

from cardiac_mri_mcmr_reconstruction.training_samples import (
    CineTrainingTensorsd,
    RandHoldOutLinesd,
    RandReadoutStripd,
)
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.fourier import PHASE_ENCODING, READOUT, fftc, ifft2c, ifftc


def _whole() -> dict:
    sample = disc_sample(noise_sd=0.0)
    sample["mask"] = torch.ones_like(sample["mask"])
    sample["kspace"] = CoilFourierEncoding(sample["sensitivity_maps"], sample["mask"]).forward(sample["reference"])
    return sample


def test_the_readout_goes_to_image_space_and_back() -> None:
    kspace = torch.randn(2, 3, 9, 8, dtype=torch.complex64)
    torch.testing.assert_close(fftc(ifftc(kspace, READOUT), READOUT), kspace)


def test_the_plane_is_the_readout_and_then_the_phase_encoding() -> None:
    kspace = torch.randn(2, 3, 9, 8, dtype=torch.complex64)
    torch.testing.assert_close(ifftc(ifftc(kspace, READOUT), PHASE_ENCODING), ifft2c(kspace))


def test_a_strip_is_a_smaller_examination_of_the_same_rows() -> None:
    sample = RandReadoutStripd(rows=16, jitter=3).set_random_state(0)(CineTrainingTensorsd()(_whole()))
    encoding = CoilFourierEncoding(sample["sensitivity_maps"].contiguous(), sample["mask"])
    assert encoding.plane == (16, 48)
    torch.testing.assert_close(encoding.forward(sample["reference"]), sample["kspace"], atol=1e-5, rtol=0)


def test_the_reference_keeps_its_magnitude_and_takes_the_phase_of_the_maps() -> None:
    whole = _whole()
    turned = whole | {"sensitivity_maps": whole["sensitivity_maps"] * torch.polar(torch.tensor(1.0), torch.tensor(0.7))}
    reference = CineTrainingTensorsd()(turned)["reference"]
    torch.testing.assert_close(reference.abs(), whole["reference"].abs())
    bright = whole["reference"].abs() > 0.1
    torch.testing.assert_close(
        reference[bright], (whole["reference"] * torch.polar(torch.tensor(1.0), torch.tensor(-0.7)))[bright]
    )


def test_undersampled_cases_have_no_reference() -> None:
    assert "reference" not in CineTrainingTensorsd()(disc_sample())


def test_held_out_lines_are_a_share_of_the_acquired_ones_and_never_the_middle() -> None:
    sample = disc_sample(acceleration=2.0)
    split = RandHoldOutLinesd(share=0.25).set_random_state(0)({key: sample[key] for key in ("kspace", "mask")})
    torch.testing.assert_close(split["mask"] + split["held_out_mask"], sample["mask"])
    torch.testing.assert_close(split["kspace"] + split["held_out"], sample["kspace"])
    assert not split["held_out_mask"][:, 23:26].any()
    share = split["held_out_mask"].sum(1) / sample["mask"].sum(1)
    assert float((share - 0.25).abs().max()) < 0.1


def test_without_probability_nothing_is_held_out() -> None:
    sample = disc_sample()
    assert "held_out" not in RandHoldOutLinesd(prob=0.0)({key: sample[key] for key in ("kspace", "mask")})


def test_holding_out_needs_whole_lines() -> None:
    sample = disc_sample()
    points = sample["mask"][:, None].expand(-1, 40, -1)
    with pytest.raises(ValueError, match="holding out lines needs line sampling"):
        RandHoldOutLinesd()({"kspace": sample["kspace"], "mask": points})
    with pytest.raises(ValueError, match=r"share of lines held out is 1\.5"):
        RandHoldOutLinesd(share=1.5)
