"""The network and its loss: shapes, size, and the loss written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import retinal_octa_vessel_segmentation
from retinal_octa_vessel_segmentation.losses import VesselLoss
from retinal_octa_vessel_segmentation.networks import VesselUNet

WEIGHTS = Path(retinal_octa_vessel_segmentation.__file__).parent / "models" / "model.pt"


@pytest.mark.parametrize(("upscale", "side"), [(1, 48), (4, 192)])
def test_two_logits_on_the_grid_of_the_image_or_four_times_finer(upscale: int, side: int) -> None:
    assert VesselUNet(upscale=upscale)(torch.zeros(2, 1, 48, 48)).shape == (2, 2, side, side)


def test_an_unknown_upscale_is_refused() -> None:
    with pytest.raises(ValueError, match="upscale is 2; expected 1"):
        VesselUNet(upscale=2)


def test_shipped_weights_are_small_and_fit_the_network() -> None:
    assert WEIGHTS.stat().st_size <= 3_000_000
    network = VesselUNet()
    network.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_the_loss_is_half_dice_and_half_cross_entropy_per_channel() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 16, 16, generator=generator)
    label = (torch.rand(2, 2, 16, 16, generator=generator) > 0.6).float()
    p = logits.sigmoid()
    dice = []
    for channel in range(2):
        overlap = (p[:, channel] * label[:, channel]).sum()
        dice.append(1 - (2 * overlap + 1e-5) / (p[:, channel].sum() + label[:, channel].sum() + 1e-5))
    entropy = -(label * p.log() + (1 - label) * (1 - p).log()).mean()
    expected = 0.5 * torch.stack(dice).mean() + 0.5 * entropy
    assert VesselLoss()(logits, label).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_centreline_term_punishes_a_broken_vessel() -> None:
    label = torch.zeros(1, 2, 32, 32)
    label[..., 14:17, 2:30] = 1
    whole = 12.0 * label - 6.0
    broken = whole.clone()
    broken[..., 14:17] = -6.0
    plain, topological = VesselLoss(), VesselLoss(cldice=0.5)
    assert topological(broken, label) - plain(broken, label) > topological(whole, label) - plain(whole, label)


def test_other_shapes_than_the_label_are_refused() -> None:
    with pytest.raises(ValueError, match=r"logits are \(1, 2, 8, 8\) but label is \(1, 1, 8, 8\)"):
        VesselLoss()(torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 8, 8))
