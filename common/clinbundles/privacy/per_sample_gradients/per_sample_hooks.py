"""Attach per-sample gradients to a network, and take them off again."""

from __future__ import annotations

import warnings
from collections import ChainMap
from types import TracebackType
from typing import ClassVar

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.utils.module_utils import trainable_modules
from torch import nn

from clinbundles.privacy.per_sample_gradients import steerable_conv_sampler  # noqa: F401  registers itself
from clinbundles.privacy.per_sample_gradients.conv_sampler import conv_gradients
from clinbundles.privacy.steerable.steerable_conv import SteerableConv2d


class _Hooks(GradSampleHooks):
    """Opacus' hooks with this project's sampler for ordinary convolutions; Opacus' own registry stays as it is."""

    GRAD_SAMPLERS: ClassVar = ChainMap(
        dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), conv_gradients), GradSampleHooks.GRAD_SAMPLERS
    )


class PerSampleGradients:
    """While attached, each backward pass leaves `p.grad_sample` (B, *p.shape) on every trainable parameter p.

    The loss must be the sum of the samples' own losses. The network keeps its class and the names of its state; it
    must be in training mode. Set `p.grad_sample = None` before the next backward pass (`clear`). `p.grad` is not
    meaningful meanwhile: steerable convolutions leave the sum over samples out.

    Args:
        network: takes and gives tensors whose first axis is the sample.
        chunk: samples whose filter gradients of a steerable convolution are held in memory at a time.

    Raises:
        ValueError: a trainable layer has buffers, such as the running means of batch normalisation (names them);
            hooks are attached already; a chunk below 1.
    """

    def __init__(self, network: nn.Module, chunk: int = 16) -> None:
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}: at least one sample is needed at a time")
        if hasattr(network, "autograd_grad_sample_hooks"):
            raise ValueError("the network has per-sample gradients attached already: call remove() on them first")
        stateful = [
            f"{name or 'the network itself'} ({type(layer).__name__}: {', '.join(dict(layer.named_buffers()))})"
            for name, layer in trainable_modules(network)
            if any(True for _ in layer.buffers())
        ]
        if stateful:
            raise ValueError(
                "these trainable layers keep buffers, which would carry data from one sample to the others: "
                + "; ".join(stateful)
                + ". Replace batch normalisation by group normalisation; hold constants in plain attributes."
            )
        self.network = network
        self._hooks = _Hooks(network, loss_reduction="sum")
        self._refusal = network.register_forward_pre_hook(_refuse_left_over_gradients)
        # true of the first layer of any network, and as it should be
        warnings.filterwarnings("ignore", "Full backward hook is firing when gradients are computed", UserWarning)
        # only where the sampler of this project is called: a subclass gets its gradient from autograd
        self._layers = [layer for layer in self._hooks.iterate_submodules(network) if type(layer) is SteerableConv2d]
        for layer in self._layers:
            layer.sample_chunk = chunk

    def clear(self) -> None:
        """Forget the gradients of the last backward pass."""
        self._hooks.set_grad_sample_to_none()

    def remove(self) -> None:
        """Detach: the network is as before."""
        self._hooks.cleanup()
        self._refusal.remove()
        for layer in self._layers:
            layer.sample_chunk = 0

    def __enter__(self) -> PerSampleGradients:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def _refuse_left_over_gradients(network: nn.Module, _: object) -> None:
    if network.training and torch.is_grad_enabled():
        left = [name for name, p in network.named_parameters() if getattr(p, "grad_sample", None) is not None]
        if left:
            raise ValueError(
                f"per-sample gradients of the last backward pass are still there ({left[0]} and {len(left) - 1} more): "
                "use them and call clear() before the next forward pass"
            )
