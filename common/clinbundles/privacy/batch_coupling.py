"""Find, by experiment, the layer through which one sample of a batch changes what the network gives for the others.

The proof of differential privacy adds up gradients that each depend on one person. A layer that mixes the samples of a
batch, such as batch normalisation, breaks it silently. No list of layer types is complete, and layers without trainable
parameters escape checks that look for these, so the experiment replaces one sample and looks at all the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_ROUND_OFF = 1e-5  # relative to the largest value; above what another order of sums changes in float32


class BatchCouplingError(ValueError):
    """Samples of a batch influence each other."""


class _Records:
    """What the modules received and gave during one forward pass, in the order in which they finished."""

    def __init__(self, network: nn.Module) -> None:
        self.calls: list[tuple[str, list[torch.Tensor], list[torch.Tensor]]] = []
        self._open: list[list[torch.Tensor]] = []
        self._handles = []
        for name, module in network.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave(name)))

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        # copies: a later layer may work in place
        self._open.append([tensor.clone() for tensor in _tensors((args, kwargs))])

    def _leave(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self.calls.append((name, self._open.pop(), [tensor.clone() for tensor in _tensors(output)]))

        return hook

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


@torch.no_grad()
def find_batch_coupling(network: nn.Module, example: torch.Tensor) -> str | None:
    """Name of the first module, in order of computation, that lets one sample influence another; None if there is none.

    In training mode, as it is there that the gradients are taken. Randomness is the same in each pass, so dropout is
    no influence. A module whose buffers depend on the data counts as well: they carry it to later batches. State, mode
    and random generators are as before at the end.

    Args:
        network: takes `example`.
        example: (B, ...), at least 2 samples, floating point; the values matter little.

    Returns:
        The name in `network.named_modules()`; "(network)" for the network's own `forward`.

    Raises:
        ValueError: fewer than two samples, or integers.
    """
    if len(example) < 2 or not example.is_floating_point():
        raise ValueError(
            f"example has shape {tuple(example.shape)} and type {example.dtype}: "
            "at least 2 samples of floating-point numbers are needed to see whether one changes the other"
        )
    noise = torch.Generator().manual_seed(0)
    strange = torch.randn(example.shape, generator=noise).to(example) * (example.std() + 1)
    # the first sample much larger, the last one much smaller: a maximum over the batch shows one, a minimum the other
    first, last = example.clone(), example.clone()
    first[0], last[-1] = 10 * strange[0], strange[-1] / 10
    with _training_mode(network):
        reference, buffers = _forward(network, example)
        passes = [(0, *_forward(network, first)), (len(example) - 1, *_forward(network, last))]
    stateful = {
        name.rpartition(".")[0]
        for _, _, others in passes
        for name, buffer in others.items()
        if name in buffers and _differs(buffers[name], buffer).any()
    }
    for index, (name, inputs, outputs) in enumerate(reference):
        changed = [(sample, *records[index][1:]) for sample, records, _ in passes if index < len(records)]
        received = _coupled(inputs, [(sample, before) for sample, before, _ in changed], len(example))
        gave = _coupled(outputs, [(sample, after) for sample, _, after in changed], len(example))
        if name in stateful or (gave and not received):
            return name or "(network)"
    return None


def refuse_batch_coupling(network: nn.Module, example: torch.Tensor) -> None:
    """Raise when one sample of a batch influences another.

    Raises:
        BatchCouplingError: names the first module that does so, and what to use instead.
    """
    name = find_batch_coupling(network, example)
    if name is not None:
        layer = network if name == "(network)" else network.get_submodule(name)
        raise BatchCouplingError(
            f"{name} ({type(layer).__name__}) lets samples of a batch influence each other in training, so that no "
            "gradient belongs to one person alone and the privacy guarantee is void: replace batch normalisation by "
            "group, instance or layer normalisation, and statistics over the batch by statistics of each sample"
        )


def _forward(
    network: nn.Module, batch: torch.Tensor
) -> tuple[list[tuple[str, list[torch.Tensor], list[torch.Tensor]]], dict[str, torch.Tensor]]:
    """Records of one pass and the buffers after it; the buffers themselves are put back."""
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    records = _Records(network)
    devices = [batch.device] if batch.is_cuda else []
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(0)
            network(batch.clone())
        after = {name: buffer.clone() for name, buffer in network.named_buffers()}
    finally:
        records.close()
        for name, buffer in network.named_buffers():
            if name in kept and buffer.shape == kept[name].shape:
                buffer.copy_(kept[name])
    return records.calls, after


@contextmanager
def _training_mode(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    for module, _ in modes:
        module.training = True  # not by train(), which some layers use to throw state away
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _coupled(reference: list[torch.Tensor], changed: list[tuple[int, list[torch.Tensor]]], samples: int) -> bool:
    """Whether the change of a sample reached elements that are not its own, in any of the tensors."""
    for position, tensor in enumerate(reference):
        masks = [
            (sample, _differs(tensor, tensors[position])) for sample, tensors in changed if position < len(tensors)
        ]
        if any(mask.any() for _, mask in masks) and not _confined(masks, samples):
            return True
    return False


def _confined(masks: list[tuple[int, torch.Tensor]], samples: int) -> bool:
    """Whether an axis holds the samples, alone or folded with others, and each change stays in its sample's part."""
    shape = masks[0][1].shape
    for axis, length in enumerate(shape):
        if length % samples or length == 0:
            continue
        for split in ((samples, length // samples), (length // samples, samples)):
            unfolded = axis if split[0] == samples else axis + 1
            if all(_only(mask.unflatten(axis, split), unfolded, sample) for sample, mask in masks):
                return True
    return False


def _only(mask: torch.Tensor, axis: int, index: int) -> bool:
    touched = mask.movedim(axis, 0).flatten(1).any(1)
    touched[index] = False
    return not bool(touched.any())


def _differs(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.shape != b.shape:
        return torch.ones(a.shape, dtype=torch.bool, device=a.device)
    if not a.is_floating_point():
        return a != b
    difference = (a - b).abs()
    scale = a.abs().nan_to_num(0, 0, 0).max() if a.numel() else a.new_zeros(())
    return ~(difference <= _ROUND_OFF * scale) & ~(a.isnan() & b.isnan())


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """Tensors in nested containers, and those that e2cnn and others carry as `.tensor`."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)
    elif isinstance(getattr(values, "tensor", None), torch.Tensor):
        yield values.tensor
