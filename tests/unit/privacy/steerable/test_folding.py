"""Folded networks, and the error of symmetry of a classifier."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clinbundles.privacy.steerable.equivariance_error import equivariance_errors, turned
from clinbundles.privacy.steerable.field_norm import FieldNorm
from clinbundles.privacy.steerable.folding import folded
from clinbundles.privacy.steerable.group_pooling import GroupPooling
from clinbundles.privacy.steerable.steerable_conv import SteerableConv2d


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(SteerableConv2d(1, 2, input_type="trivial"), nn.Mish(), FieldNorm(2)),
        nn.Sequential(SteerableConv2d(2, 2, bias=False), nn.Mish()),
        GroupPooling(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    )


def test_folded_network_gives_the_same_bits_without_steerable_layers() -> None:
    network = classifier().eval()
    x = torch.randn(2, 1, 12, 12)
    plain = folded(network)
    assert torch.equal(plain(x), network(x))
    assert not any(isinstance(layer, SteerableConv2d) for layer in plain.modules())
    assert isinstance(network[0][0], SteerableConv2d)
    assert not plain[0][0].training
    with torch.no_grad():
        plain[0][0].weight.zero_()
    assert network[0][0].weight.any()
    one = SteerableConv2d(2, 1, group="C4", frequency_cutoff=3.0)
    x = torch.randn(1, 8, 5, 5)
    assert torch.equal(folded(one)(x), one(x))


def test_right_angles_change_no_logit_and_others_do() -> None:
    network = classifier()
    images = torch.randn(2, 1, 16, 16)
    for mirrored in (False, True):
        errors = equivariance_errors(network, images, [0, 90, 180, 270, 30], mirrored=mirrored)
        assert max(errors[angle] for angle in (0.0, 90.0, 180.0, 270.0)) < 1e-6
        assert errors[30.0] > 1e-4
    assert network.training
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Mish(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert equivariance_errors(plain, images, [90])[90.0] > 1e-4
    with pytest.raises(ValueError, match="images are 16 x 12: a turned image has the same size only when it is square"):
        equivariance_errors(network, images[..., :12], [90])


def test_images_turn_counter_clockwise_about_their_centre() -> None:
    axis = torch.linspace(-1, 1, 64)
    image = torch.exp(-((axis[:, None] + 0.1) ** 2 + (axis - 0.4) ** 2) / 0.05)[None, None]
    assert torch.equal(turned(image, 90), image.rot90(1, (-2, -1)))
    assert torch.allclose(turned(turned(image, 30), 60), turned(image, 90), atol=0.02)
    assert torch.allclose(turned(image, 89.99), turned(image, 90), atol=0.01)
