"""Per-sample gradients of the steerable convolution, registered with Opacus."""

from __future__ import annotations

import torch
from opacus.grad_sample import register_grad_sampler
from torch import nn

from clinbundles.privacy.per_sample_gradients.sample_filter_gradient import sample_filter_gradient
from clinbundles.privacy.steerable.steerable_conv import SteerableConv2d


@register_grad_sampler(SteerableConv2d)
def steerable_conv_gradients(
    layer: SteerableConv2d, activations: list[torch.Tensor], backprops: torch.Tensor
) -> dict[nn.Parameter, torch.Tensor]:
    """Gradients (B, *shape) of weight and bias for each sample.

    The coefficient of basis filter k has the gradient <basis[k], G>, with G the gradient of the expanded filter. G is
    G^2 k^2 / K times larger than the coefficients, so only `layer.sample_chunk` samples at a time have theirs.

    Args:
        layer: the convolution.
        activations: its input (B, in_channels, H, W), in a list.
        backprops: gradient of the loss by its output, (B, out_channels, H, W).
    """
    x = activations[0].to(backprops.dtype)
    gradients: dict[nn.Parameter, torch.Tensor] = {}
    if layer.weight.requires_grad:
        gradient = layer.weight.new_empty(len(x), *layer.weight.shape)
        chunk = layer.sample_chunk or len(x)
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            gradient[part] = _coefficient_gradients(layer, x[part], backprops[part])
        gradients[layer.weight] = gradient
    if layer.bias is not None and layer.bias.requires_grad:
        of_channels = backprops.sum((2, 3)).unflatten(1, (layer.out_fields, layer.group_order))
        gradients[layer.bias] = of_channels.sum(2) * layer.bias_scale
    return gradients


def _coefficient_gradients(layer: SteerableConv2d, x: torch.Tensor, backprops: torch.Tensor) -> torch.Tensor:
    """Gradients (B, out_fields, in_fields, K)."""
    size, half = layer.kernel_size, layer.kernel_size // 2
    shape = (layer.out_channels, layer.in_channels, size, size)
    of_filter = sample_filter_gradient(x, backprops, shape, stride=(1, 1), padding=(half, half), dilation=(1, 1))
    fields = of_filter.reshape(len(x), layer.out_fields, layer.group_order, layer.in_fields, -1)
    basis = layer.basis.to(fields.dtype).flatten(1)
    return fields.transpose(2, 3).flatten(3) @ basis.mT
