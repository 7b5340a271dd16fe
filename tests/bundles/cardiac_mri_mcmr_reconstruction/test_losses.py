"""Losses of the three ways of training."""

from __future__ import annotations

import pytest
import torch
from moving_disc_case import SETTINGS, beating_flow, disc_sample, moving_disc

from cardiac_mri_mcmr_reconstruction.brightness import brightness
from cardiac_mri_mcmr_reconstruction.losses import (
    McmrLoss,
    charbonnier,
    photometric,
    spatial_difference,
    temporal_difference,
)
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import Iterate, reconstruct
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.flow_composition import pair_flows


def test_residuals_enter_by_the_power_of_the_papers() -> None:
    assert float(charbonnier(torch.tensor([2.0]))) == pytest.approx((4 + 1e-6) ** 0.45)
    assert float(charbonnier(torch.tensor([3 + 4j]))) == pytest.approx((25 + 1e-6) ** 0.45)


def test_a_ramp_of_one_pixel_per_pixel_along_rows_costs_an_eighth() -> None:
    flow = torch.zeros(2, 2, 5, 6)
    flow[:, 0] = torch.arange(5.0)[:, None]
    assert float(spatial_difference(flow)) == pytest.approx(0.5 / 4)  # one of the two components changes, one way


def test_the_temporal_difference_is_cyclic_and_blind_to_steady_motion_of_pairs() -> None:
    flow = torch.zeros(4, 2, 3, 3)
    flow[1] = 1.0
    assert float(temporal_difference(flow)) == pytest.approx(0.25, abs=2e-3)
    steady = torch.zeros(4, 4, 2, 3, 3)
    for t in range(4):
        steady[t, (t + 1) % 4] = 1.0
    assert float(temporal_difference(steady)) == pytest.approx(0.5e-3, abs=1e-6)


def test_true_motion_has_a_smaller_photometric_loss_than_none_by_template_and_by_pairs() -> None:
    reference = moving_disc()
    iterate = disc_sample()["pred"][0]
    flow = beating_flow()

    def loss(template: torch.Tensor | None, pairs: torch.Tensor | None) -> float:
        return float(photometric(Iterate(iterate.images, template, iterate.report, pairs), reference))

    assert loss(flow, None) < 0.5 * loss(torch.zeros_like(flow), None)
    pairs = pair_flows(flow)
    assert loss(None, pairs) < 0.5 * loss(None, pairs * 1e-6)


def test_the_loss_without_references_needs_none_and_teaches() -> None:
    sample = disc_sample()
    held_mask = torch.zeros_like(sample["mask"])
    for frame, lines in enumerate(sample["mask"]):
        held_mask[frame, torch.nonzero(lines)[::3, 0]] = 1
    kept = sample["mask"] - held_mask
    encoding = CoilFourierEncoding(sample["sensitivity_maps"], kept)
    adjoint = encoding.adjoint(sample["kspace"] * kept[:, None, None])
    target = {
        "held_out": (sample["kspace"] * held_mask[:, None, None])[None],
        "held_out_mask": held_mask[None],
        "sensitivity_maps": sample["sensitivity_maps"][None],
    }
    loss = McmrLoss("kspace", smoothness=0.0, temporal=0.0)
    values = {}
    for share in (0.0, 1.0):
        told = (share * beating_flow()).flatten(0, 1)[None].requires_grad_()
        value = loss([reconstruct(encoding, adjoint, lambda _, told=told: told, SETTINGS)], target)
        (gradient,) = torch.autograd.grad(value, told)
        assert float(gradient.abs().max()) > 0
        values[share] = float(value.detach())
    assert values[1.0] < values[0.0]


def test_later_iterations_count_more() -> None:
    sample = disc_sample()
    first, last = sample["pred"]
    twice = [first, last, last]
    target = {"reference": sample["reference"][None]}
    loss = McmrLoss("recon_driven", smoothness=0.0, temporal=0.0, decay=0.5)
    assert float(loss([twice], target)) == pytest.approx(1.5 * float(loss([[first, last]], target)))


def test_a_mode_without_its_target_is_refused() -> None:
    sample = disc_sample()
    with pytest.raises(ValueError, match="mode 'recon_driven' needs 'reference', which these cases lack"):
        McmrLoss("recon_driven")([sample["pred"]], {})
    with pytest.raises(ValueError, match="mode is 'guess': expected one of photometric, recon_driven, kspace"):
        McmrLoss("guess")


def test_brightness_is_exceeded_by_half_a_percent() -> None:
    assert float(brightness(torch.arange(1001.0))) == pytest.approx(995)
