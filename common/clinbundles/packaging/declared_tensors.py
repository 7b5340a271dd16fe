"""The tensors that metadata declare for a network: example inputs, and outputs that are not as declared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

_EXPRESSION = re.compile(r"[\dpn\s*+()-]+")
_ANY = 32  # pixels of an axis that may have any size, times n


@dataclass(frozen=True)
class DeclaredTensor:
    """An entry of `network_data_format#inputs` or `#outputs`: a tensor (B, C, *spatial).

    Attributes:
        name: key of the entry, such as "image".
        channels: C.
        spatial_shape: a number, or an expression of n and p such as "32*n", or "*" (any size), for each axis.
        dtype: as declared.
        value_range: least and greatest value; None if not declared.
    """

    name: str
    channels: int
    spatial_shape: tuple[int | str, ...]
    dtype: torch.dtype
    value_range: tuple[float, float] | None

    def shape(self, batch: int, n: int) -> tuple[int, ...]:
        """The shape for n (and p) of the first axis; each further axis has one more, so that no two are mistaken."""
        return (batch, self.channels, *(_size(axis, n + index) for index, axis in enumerate(self.spatial_shape)))

    def example(self, batch: int, n: int) -> torch.Tensor:
        """Values of the declared range (-1 to 1 if there is none), the same in every call."""
        shape = self.shape(batch, n)
        generator = torch.Generator().manual_seed(n)
        low, high = self.value_range or (-1.0, 1.0)
        if self.dtype.is_complex:
            return torch.randn(shape, dtype=self.dtype, generator=generator)
        values = torch.rand(shape, generator=generator) * (high - low) + low
        return values.to(self.dtype)

    def free_axes(self) -> list[int]:
        """Axes of any size: the batch and every spatial axis that is not declared as a number."""
        return [0, *(2 + index for index, axis in enumerate(self.spatial_shape) if isinstance(axis, str))]

    def multiple(self, axis: int) -> int:
        """The 32 of an axis declared as "32*n"; 1 for any other."""
        match = re.fullmatch(r"\s*(\d+)\s*\*\s*n\s*", str(self.spatial_shape[axis - 2])) if axis >= 2 else None
        return int(match[1]) if match else 1


def declared_inputs(metadata: Mapping[str, Any]) -> list[DeclaredTensor | Any]:
    """Inputs of the network in their order; an entry that is a plain value is given as it is."""
    return [_declared(name, entry) for name, entry in metadata["network_data_format"]["inputs"].items()]


def declared_outputs(metadata: Mapping[str, Any]) -> list[DeclaredTensor | Any]:
    """Outputs of the network in their order."""
    return [_declared(name, entry) for name, entry in metadata["network_data_format"]["outputs"].items()]


def example_inputs(metadata: Mapping[str, Any], batch: int, n: int) -> list[Any]:
    """One value for each argument of the network."""
    return [
        entry.example(batch, n) if isinstance(entry, DeclaredTensor) else entry for entry in declared_inputs(metadata)
    ]


def tensors_of(output: Any) -> list[torch.Tensor]:
    """A network's output, whether a tensor, a sequence or a dictionary, as a list in its order."""
    if isinstance(output, torch.Tensor):
        return [output]
    return list(output.values()) if isinstance(output, Mapping) else list(output)


@torch.no_grad()
def undeclared_outputs(
    network: torch.nn.Module, metadata: Mapping[str, Any], sizes: Sequence[int] = (1, 2)
) -> list[str]:
    """What the network gives otherwise than metadata say, one sentence each; [] if all is as declared.

    Args:
        network: in evaluation mode.
        metadata: content of metadata.json.
        sizes: values of n to try, with a batch of the same number.
    """
    problems: list[str] = []
    for n in sizes:
        try:
            outputs = tensors_of(network(*example_inputs(metadata, n, n)))
        except (RuntimeError, ValueError, TypeError) as error:
            inputs = [entry.shape(n, n) for entry in declared_inputs(metadata) if isinstance(entry, DeclaredTensor)]
            return [f"the network refuses inputs that metadata declare, {inputs}: {error}"]
        declared = [entry for entry in declared_outputs(metadata) if isinstance(entry, DeclaredTensor)]
        if len(outputs) != len(declared):
            return [f"the network has {len(outputs)} outputs, metadata declare {len(declared)}"]
        for entry, output in zip(declared, outputs, strict=True):
            if tuple(output.shape) != entry.shape(n, n) or output.dtype != entry.dtype:
                problems.append(
                    f"output {entry.name} is {tuple(output.shape)} {output.dtype}, "
                    f"metadata declare {entry.shape(n, n)} {entry.dtype}"
                )
    return problems


def _declared(name: str, entry: Any) -> DeclaredTensor | Any:
    if not isinstance(entry, Mapping):
        return entry
    dtype = getattr(torch, str(entry["dtype"]), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"metadata: dtype of {name} is {entry['dtype']!r}, which PyTorch does not know")
    limits = entry.get("value_range") or []
    value_range = (float(limits[0]), float(limits[1])) if len(limits) == 2 else None
    return DeclaredTensor(name, int(entry["num_channels"]), tuple(entry["spatial_shape"]), dtype, value_range)


def _size(axis: int | str, n: int) -> int:
    if isinstance(axis, int):
        return axis
    if axis.strip() == "*":
        return _ANY * n
    if not _EXPRESSION.fullmatch(axis):
        raise ValueError(f"metadata: size {axis!r} of an axis; expected a number, '*', or an expression of n and p")
    return int(eval(axis, {"__builtins__": {}}, {"n": n, "p": n}))  # numbers, n, p and + - * ( ) alone
