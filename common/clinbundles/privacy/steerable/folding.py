"""Steerable networks as ordinary convolutions, for export."""

from __future__ import annotations

import copy

import torch
from torch import nn

from clinbundles.privacy.steerable.steerable_conv import SteerableConv2d


def folded(network: nn.Module) -> nn.Module:
    """A copy of `network` whose steerable convolutions are `Conv2d` with the expanded filters.

    Its outputs are the same to the last bit; the filters no longer need to be expanded at each call, and no basis
    is stored.
    """
    if isinstance(network, SteerableConv2d):
        return _plain(network)
    result = copy.deepcopy(network)
    for name, layer in list(result.named_modules()):
        if isinstance(layer, SteerableConv2d):
            parent, _, child = name.rpartition(".")
            setattr(result.get_submodule(parent), child, _plain(layer))
    return result


def _plain(layer: SteerableConv2d) -> nn.Conv2d:
    size = layer.kernel_size
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        size,
        padding=size // 2,
        bias=layer.bias is not None,
        device=layer.weight.device,
        dtype=layer.weight.dtype,
    )
    with torch.no_grad():
        plain.weight.copy_(layer.expanded_filter())
        bias = layer.expanded_bias()
        if bias is not None and plain.bias is not None:
            plain.bias.copy_(bias)
    return plain.train(layer.training)
