"""Per-sample gradients against separate backward passes, layer by layer and for whole networks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from opacus import GradSampleModule
from torch import nn

from clinbundles.privacy.per_sample_gradients.per_sample_hooks import PerSampleGradients
from clinbundles.privacy.steerable.field_norm import FieldNorm
from clinbundles.privacy.steerable.group_pooling import GroupPooling
from clinbundles.privacy.steerable.steerable_basis import steerable_basis
from clinbundles.privacy.steerable.steerable_conv import SteerableConv2d
from clinbundles.privacy.steerable.symmetry_group import GROUPS

EXACT = 1e-12


def separate(network: nn.Module, x: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    """Per parameter (B, *shape): one backward pass for each sample."""
    passes = []
    for sample in x.split(1):
        passes.append(torch.autograd.grad(loss(network(sample)), list(network.parameters())))
    return [torch.stack(gradients) for gradients in zip(*passes, strict=True)]


def at_once(
    network: nn.Module, x: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor], chunk: int = 2
) -> list[torch.Tensor]:
    with PerSampleGradients(network, chunk):
        loss(network(x)).backward()
        return [p.grad_sample for p in network.parameters()]  # type: ignore[attr-defined]


def assert_same(a: list[torch.Tensor], b: list[torch.Tensor]) -> None:
    assert len(a) == len(b) > 0
    for one, other in zip(a, b, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= EXACT


def curved(y: torch.Tensor) -> torch.Tensor:
    return (y * y.sin()).sum()


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        SteerableConv2d(3, 2, input_type="trivial"),
        nn.MaxPool2d(2),
        nn.Mish(),
        FieldNorm(2),
        SteerableConv2d(2, 3, bias=False),
        nn.Mish(),
        FieldNorm(3),
        SteerableConv2d(3, 2, 5, frequency_cutoff=3.0),
        GroupPooling(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 4),
    ).double()


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("input_type", ["regular", "trivial"])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("deep", [False, True])
def test_steerable_convolution(group: str, input_type: str, size: int, deep: bool) -> None:
    layer = SteerableConv2d(2, 3, size, group=group, input_type=input_type, bias=size != 5).double()
    x = torch.randn(5, layer.in_channels, 6, 7, dtype=torch.float64, requires_grad=deep)
    assert_same(at_once(layer, x, curved), separate(layer, x, curved))


def test_coefficient_gradient_is_the_product_of_basis_and_filter_gradient() -> None:
    layer = SteerableConv2d(2, 2).double()
    x = torch.randn(1, 16, 6, 6, dtype=torch.float64)
    filters = layer.expanded_filter().detach().requires_grad_()
    curved(nn.functional.conv2d(x, filters, layer.expanded_bias(), padding=1)).backward()
    blocks = filters.grad.view(2, 8, 2, 8, 9)
    expected = torch.einsum("kgjs,ogijs->oik", steerable_basis("D4", 3).filters.double(), blocks)
    assert (at_once(layer, x, curved)[0][0] - expected).abs().max() <= EXACT


@pytest.mark.parametrize("chunk", [1, 2, 16])
def test_whole_network_in_chunks_of_any_size(chunk: int) -> None:
    network, x = small_network(), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    assert_same(at_once(network, x, curved, chunk), separate(network, x, curved))


def test_sum_of_per_sample_gradients_is_the_ordinary_gradient() -> None:
    network, x = small_network(), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    ordinary = torch.autograd.grad(curved(network(x)), list(network.parameters()))
    for gradients, total in zip(at_once(network, x, curved), ordinary, strict=True):
        assert (gradients.sum(0) - total).abs().max() <= EXACT


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, (3, 2), stride=2, padding=(2, 1), dilation=(2, 1), groups=2),
        nn.Conv2d(4, 6, 4, padding="same", bias=False),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv1d(4, 3, 3, padding="valid"),
        nn.Conv3d(4, 3, 2, stride=2, padding=1),
        nn.ConvTranspose2d(4, 3, 2, stride=2),
        nn.GroupNorm(2, 4),
        nn.PReLU(4),
    ],
)
def test_ordinary_layers(layer: nn.Module) -> None:
    size = {nn.Conv1d: (9,), nn.Conv3d: (5, 4, 6)}.get(type(layer), (7, 8))
    layer = nn.Sequential(nn.Identity(), layer.double())
    x = torch.randn(3, 4, *size, dtype=torch.float64)
    assert_same(at_once(layer, x, curved), separate(layer, x, curved))


class Subclass(SteerableConv2d):
    pass


class Holder(nn.Module):
    """Its own parameter makes Opacus differentiate it as a whole, with what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.conv = SteerableConv2d(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * self.scale


@pytest.mark.parametrize("layer", [Subclass(1, 1), Holder()])
def test_a_steerable_layer_that_autograd_handles_gets_its_gradient_too(layer: nn.Module) -> None:
    network = nn.Sequential(SteerableConv2d(1, 1, input_type="trivial"), layer).double()
    x = torch.randn(3, 1, 5, 5, dtype=torch.float64)
    assert_same(at_once(network, x, curved), separate(network, x, curved))


def test_a_layer_used_twice_gets_the_sum_of_both_uses() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SteerableConv2d(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.conv(x).sin())

    network, x = Twice().double(), torch.randn(3, 16, 5, 5, dtype=torch.float64)
    assert_same(at_once(network, x, curved), separate(network, x, curved))


def test_frozen_parameters_get_none() -> None:
    network, x = small_network(), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    expected = separate(network, x, curved)
    network[0].requires_grad_(False)
    network[7].bias.requires_grad_(False)
    with PerSampleGradients(network):
        curved(network(x)).backward()
        for p, gradient in zip(network.parameters(), expected, strict=True):
            if p.requires_grad:
                assert (p.grad_sample - gradient).abs().max() <= EXACT
            else:
                assert not hasattr(p, "grad_sample")


def test_an_empty_batch_gives_gradients_of_no_sample() -> None:
    network = small_network()
    with PerSampleGradients(network):
        curved(network(torch.zeros(0, 3, 8, 8, dtype=torch.float64))).backward()
        assert all(p.grad_sample.shape == (0, *p.shape) for p in network.parameters())


def test_opacus_own_wrapper_finds_the_sampler() -> None:
    network, x = small_network(), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    expected = separate(network, x, curved)
    wrapped = GradSampleModule(network, loss_reduction="sum")
    curved(wrapped(x)).backward()
    assert_same([p.grad_sample for p in network.parameters()], expected)  # type: ignore[attr-defined]


def test_useless_sum_over_samples_is_left_out() -> None:
    network, x = small_network(), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    with PerSampleGradients(network):
        curved(network(x)).backward()
        assert network[4].weight.grad is None
        assert network[7].weight.grad is None
        assert network[7].bias.grad is None


def test_network_is_as_before_once_the_hooks_are_removed() -> None:
    network, x = small_network(), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    names, kind = list(network.state_dict()), type(network)
    handle = PerSampleGradients(network)
    assert type(network) is kind
    assert list(network.state_dict()) == names
    copied = copy.deepcopy(network).eval()
    assert torch.equal(copied(x), network(x))
    handle.remove()
    assert not network._forward_hooks
    assert not network._forward_pre_hooks
    assert not any(hasattr(p, "grad_sample") for p in network.parameters())
    assert not hasattr(network, "autograd_grad_sample_hooks")
    curved(network(x)).backward()
    assert all(p.grad is not None for p in network.parameters())
    PerSampleGradients(network).remove()


def test_evaluation_mode_with_hooks_gives_the_ordinary_output() -> None:
    network, x = small_network(), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    expected = network(x)
    with PerSampleGradients(network), torch.no_grad():
        assert torch.equal(network.eval()(x), expected)


def test_misuse_is_refused() -> None:
    network, x = small_network(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match="chunk is 0: at least one sample"):
        PerSampleGradients(network, 0)
    with PerSampleGradients(network) as gradients:
        with pytest.raises(ValueError, match=r"attached already: call remove\(\)"):
            PerSampleGradients(network)
        curved(network(x)).backward()
        with pytest.raises(ValueError, match=r"still there \(0.weight and 6 more\): use them and call clear\(\)"):
            network(x)
        gradients.clear()
        curved(network(x)).backward()
    normalised = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=r"1 \(BatchNorm2d: running_mean, .*Replace batch normalisation by group"):
        PerSampleGradients(normalised)
