"""Coupling of samples is found whatever the layer is called, and nothing else is taken for it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from e2cnn import gspaces
from e2cnn import nn as e2cnn_nn
from monai.networks.nets import AttentionUnet, BasicUNet, DynUNet, SegResNet, UNet
from torch import nn

from clinbundles.privacy.batch_coupling import BatchCouplingError, find_batch_coupling, refuse_batch_coupling
from clinbundles.privacy.steerable.field_norm import FieldNorm
from clinbundles.privacy.steerable.group_pooling import GroupPooling
from clinbundles.privacy.steerable.steerable_conv import SteerableConv2d


class Centred(nn.Module):
    """Subtracts the mean of the batch, then computes in a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x - x.mean(0))


class Zeroed(nn.Module):
    """Couples samples, but its weight is zero at first, so that the network's output does not show it yet."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.scale = nn.BatchNorm2d(4), nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale * self.norm(x)


class RunningMean(nn.Module):
    """Subtracts the mean of earlier batches."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x - self.mean
        self.mean.lerp_(x.mean(), 0.1)
        return y


class LargestOfBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.abs().max()


class SampleLast(nn.Module):
    """Works on (C, H, W, B), and on samples folded with rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Doubled()(Doubled()(x.permute(1, 2, 3, 0)).permute(3, 1, 0, 2).flatten(0, 1)).unflatten(0, (len(x), -1))


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def network_with(layer: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Mish(), layer), nn.Flatten(), nn.Linear(4 * 36, 2))


EXAMPLE = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, affine=False, track_running_stats=False),
        nn.InstanceNorm2d(4, track_running_stats=True),
        Centred(),
        LargestOfBatch(),
        RunningMean(),
    ],
)
def test_coupling_layers_are_named(layer: nn.Module) -> None:
    assert find_batch_coupling(network_with(layer), EXAMPLE) == "1.1"


@pytest.mark.parametrize(
    "layer",
    [
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.LayerNorm([4, 6, 6]),
        nn.Dropout(0.5),
        nn.Softmax(1),
        nn.ReLU(inplace=True),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)),
        SampleLast(),
    ],
)
def test_other_layers_are_not(layer: nn.Module) -> None:
    assert find_batch_coupling(network_with(layer), EXAMPLE) is None


def test_the_first_of_several_is_named_and_the_innermost() -> None:
    layer = nn.Sequential(nn.GroupNorm(2, 4), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)), nn.BatchNorm2d(4))
    assert find_batch_coupling(network_with(layer), EXAMPLE) == "1.1.1.1"
    assert find_batch_coupling(network_with(Zeroed()), EXAMPLE) == "1.1.norm"
    assert find_batch_coupling(Centred(), torch.randn(3, 4, 5, 5)) == "(network)"


class OfE2cnn(nn.Module):
    """A norm of e2cnn, between plain tensors."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        space = gspaces.Rot2dOnR2(4)
        self.norm = norm(e2cnn_nn.FieldType(space, [space.regular_repr]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(e2cnn_nn.GeometricTensor(x, self.norm.in_type)).tensor


@pytest.mark.parametrize("norm", [e2cnn_nn.InnerBatchNorm, e2cnn_nn.GNormBatchNorm])
@pytest.mark.parametrize("affine", [True, False])
def test_norms_of_e2cnn_are_found(norm: Any, affine: bool) -> None:
    name = find_batch_coupling(network_with(OfE2cnn(lambda fields: norm(fields, affine=affine))), EXAMPLE)
    assert name is not None
    assert name.startswith("1.1.norm")


@pytest.mark.parametrize(
    "network, expected",
    [
        (UNet(2, 1, 2, (4, 8), (2,), norm="batch"), "model.0.adn.N"),
        (UNet(2, 1, 2, (4, 8), (2,), norm="instance", dropout=0.2), None),
        (BasicUNet(2, 1, 2, (4, 4, 4, 4, 4, 4)), None),
        (SegResNet(2, 8, 1, 2, dropout_prob=0.1), None),
        (DynUNet(2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 4, 8]), None),
        (AttentionUnet(2, 1, 2, (4, 8), (2,)), "model.0.conv.0.adn.N"),
    ],
)
def test_networks_of_monai(network: nn.Module, expected: str | None) -> None:
    assert find_batch_coupling(network, torch.randn(2, 1, 32, 32)) == expected


def test_steerable_network_is_accepted() -> None:
    network = nn.Sequential(SteerableConv2d(3, 2, input_type="trivial"), FieldNorm(2), GroupPooling(), nn.Flatten())
    refuse_batch_coupling(network, EXAMPLE)


def test_refusal_names_the_layer_and_what_to_use() -> None:
    with pytest.raises(BatchCouplingError, match=r"1\.1 \(BatchNorm2d\) lets .* replace batch normalisation by"):
        refuse_batch_coupling(network_with(nn.BatchNorm2d(4, affine=False)), EXAMPLE)
    with pytest.raises(ValueError, match=r"shape \(1, 3, 8, 8\).*at least 2 samples"):
        find_batch_coupling(network_with(nn.Identity()), EXAMPLE[:1])
    with pytest.raises(ValueError, match=r"torch.int64: at least 2 samples of floating-point"):
        find_batch_coupling(network_with(nn.Identity()), torch.zeros(2, 3, 8, 8, dtype=torch.int64))


def test_the_experiment_leaves_no_trace() -> None:
    network = network_with(nn.Sequential(nn.BatchNorm2d(4), nn.Dropout()))
    network[0].eval()
    before, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    find_batch_coupling(network, EXAMPLE)
    assert torch.equal(torch.rand(3), expected)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
