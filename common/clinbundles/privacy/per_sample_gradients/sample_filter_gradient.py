"""Gradient of a convolution's filter for each sample of a batch, in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def sample_filter_gradient(
    inputs: torch.Tensor,
    output_gradient: torch.Tensor,
    filter_shape: Sequence[int],
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> torch.Tensor:
    """Filter gradients (B, O, I / groups, ...) of `inputs` (B, I, ...) and `output_gradient` (B, O, ...).

    The samples become groups of one convolution (Rochette, Manoel and Tramel 2019), and it is the library's own
    gradient of its filter that is asked for: no patch is copied out, and the cost is about that of the ordinary
    gradient of the whole batch.
    """
    samples = len(inputs)
    if samples == 0:
        return inputs.new_zeros(0, *filter_shape)
    all_filters = inputs.new_empty(1).expand(samples * filter_shape[0], *filter_shape[1:])  # only its shape is read
    gradient = torch.ops.aten.convolution_backward(
        output_gradient.reshape(1, -1, *output_gradient.shape[2:]),
        inputs.reshape(1, -1, *inputs.shape[2:]),
        all_filters,
        None,
        stride,
        padding,
        dilation,
        False,
        [0] * len(padding),
        samples * groups,
        (False, True, False),
    )[1]
    return gradient.view(samples, *filter_shape)
