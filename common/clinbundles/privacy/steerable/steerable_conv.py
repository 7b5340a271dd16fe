"""Convolution that commutes with rotations and mirroring, on plain tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from clinbundles.privacy.steerable.steerable_basis import SteerableBasis, steerable_basis
from clinbundles.privacy.steerable.symmetry_group import group_order


class SteerableConv2d(nn.Module):
    """Steerable convolution: when the input turns, the output turns.

    Filter W[o, i] = sum_k weight[o, i, k] basis[k], then an ordinary convolution with zero padding that keeps H and W
    (Weiler and Cesa 2019, section 2.5). The same numbers as e2cnn's `R2Conv` to the last bit, with its flat `weights`
    reshaped to (out_fields, in_fields, K). Unlike it, tensors go in and out, the state has the same names in training
    and evaluation, and the layer can be pickled, copied, scripted, exported and given per-sample gradients.

    Args:
        in_fields: number of fields of the input.
        out_fields: number of regular fields of the output.
        kernel_size: odd width of the filters in pixels.
        group: a name in `symmetry_group.GROUPS`, with G elements.
        input_type: "regular": G channels per field, as this layer gives them; "trivial": one channel, as an image.
        bias: one per output field.
        frequency_cutoff: highest angular frequency per pixel of radius; None: e2cnn's own limit.

    Shape: (B, in_fields * G, H, W), or (B, in_fields, H, W) for trivial input, to (B, out_fields * G, H, W).

    Raises:
        ValueError: an unknown group, an even kernel size, another input type; in `forward`, other channels.
    """

    def __init__(
        self,
        in_fields: int,
        out_fields: int,
        kernel_size: int = 3,
        *,
        group: str = "D4",
        input_type: Literal["regular", "trivial"] = "regular",
        bias: bool = True,
        frequency_cutoff: float | None = None,
    ) -> None:
        super().__init__()
        self.in_fields, self.out_fields, self.kernel_size = in_fields, out_fields, kernel_size
        self.group, self.input_type, self.frequency_cutoff = group, input_type, frequency_cutoff
        self.group_order = group_order(group)
        self.in_channels = in_fields * (self.group_order if input_type == "regular" else 1)
        self.out_channels = out_fields * self.group_order
        fixed = self._fixed()
        self.bias_scale = fixed.bias_scale
        self.weight = nn.Parameter(torch.empty(out_fields, in_fields, len(fixed.filters)))
        self.bias = nn.Parameter(torch.empty(out_fields)) if bias else None
        # samples at a time in the per-sample gradient, while its hooks are attached; 0: the ordinary gradient
        self.sample_chunk = 0
        self.reset_parameters()
        self._place_basis()

    def reset_parameters(self) -> None:
        """He's initialisation for steerable filters (Weiler, Hamprecht and Storath 2018), zero bias; as in e2cnn."""
        with torch.no_grad():
            self.weight.normal_().mul_(self._fixed().spread.to(self.weight) / self.in_fields**0.5)
            if self.bias is not None:
                self.bias.zero_()

    def expanded_filter(self) -> torch.Tensor:
        """Filter (out_channels, in_channels, k, k) of the ordinary convolution."""
        size = self.kernel_size
        # basis filters K, output O, input I, pixels S, pairs of fields P
        pairs = torch.einsum("kois,pk->pois", self.basis.to(self.weight), self.weight.flatten(0, 1))
        blocks = pairs.view(self.out_fields, self.in_fields, self.group_order, -1, size, size)
        return blocks.transpose(1, 2).reshape(self.out_channels, self.in_channels, size, size)

    def expanded_bias(self) -> torch.Tensor | None:
        """Bias (out_channels,) of the ordinary convolution: the same for all channels of a field."""
        if self.bias is None:
            return None
        return (self.bias * self.bias_scale).repeat_interleave(self.group_order)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve `x` (B, in_channels, H, W)."""
        if x.shape[1] != self.in_channels:
            raise ValueError(f"input has {x.shape[1]} channels: this layer expects {self.in_channels}")
        filters, bias = self.expanded_filter(), self.expanded_bias()
        if self.sample_chunk > 0 and self.training and x.requires_grad:
            # The hooks compute the gradient of each sample. Autograd need not sum them up as well; of the bias neither,
            # as the library computes both when it is asked for one. The first layer keeps the sum, which is cheap
            # there: something must require a gradient, or no hook is called.
            filters = filters.detach()
            bias = None if bias is None else bias.detach()
        return nn.functional.conv2d(x, filters, bias, padding=self.kernel_size // 2)

    def extra_repr(self) -> str:
        """Arguments, for the printed network."""
        return (
            f"{self.in_fields}, {self.out_fields}, kernel_size={self.kernel_size}, group={self.group}, "
            f"input_type={self.input_type}, bias={self.bias is not None}, frequency_cutoff={self.frequency_cutoff}"
        )

    @torch.jit.unused
    def _fixed(self) -> SteerableBasis:
        return steerable_basis(self.group, self.kernel_size, self.input_type, self.frequency_cutoff)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        self._place_basis()
        return self

    @torch.jit.unused
    def _place_basis(self) -> None:
        # (K, G, G_in, k * k); no buffer: Opacus takes no trainable layer with buffers.
        # Made anew, not moved: `to_empty` gives tensors without content, and a float16 basis could not come back.
        # Never on "meta": Opacus sends a copy there, then calls it with weights that are elsewhere.
        device = "cpu" if self.weight.is_meta else self.weight.device
        self.basis = self._fixed().filters.to(device, self.weight.dtype)
