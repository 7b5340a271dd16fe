"""Per-sample gradients of ordinary convolutions, by the grouped convolution that steerable ones use."""

from __future__ import annotations

import torch
from torch import nn

from clinbundles.privacy.per_sample_gradients.sample_filter_gradient import sample_filter_gradient


def conv_gradients(
    layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, activations: list[torch.Tensor], backprops: torch.Tensor
) -> dict[nn.Parameter, torch.Tensor]:
    """Gradients (B, *shape) of weight and bias for each sample.

    Opacus' own sampler for these layers copies out every patch of the input, k^n times the input's memory.

    Args:
        layer: the convolution, any stride, dilation, groups and padding.
        activations: its input (B, C, ...), in a list.
        backprops: gradient of the loss by its output.
    """
    gradients: dict[nn.Parameter, torch.Tensor] = {}
    if layer.weight.requires_grad:
        x, padding = activations[0].to(backprops.dtype), layer.padding
        if isinstance(padding, str) or layer.padding_mode != "zeros":
            mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
            x, padding = nn.functional.pad(x, layer._reversed_padding_repeated_twice, mode), (0,) * (x.ndim - 2)
        gradients[layer.weight] = sample_filter_gradient(
            x,
            backprops,
            layer.weight.shape,
            stride=layer.stride,
            padding=padding,
            dilation=layer.dilation,
            groups=layer.groups,
        )
    if layer.bias is not None and layer.bias.requires_grad:
        gradients[layer.bias] = backprops.flatten(2).sum(2)
    return gradients
