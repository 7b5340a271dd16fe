"""ONNX of a bundle: models/model.onnx with free batch and free sizes where metadata leave them free."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clinbundles.packaging.declared_tensors import DeclaredTensor, declared_inputs, declared_outputs, example_inputs
from clinbundles.packaging.packaging_error import PackagingError


class NoOnnxError(PackagingError):
    """The network has no ONNX form; the package is complete without it."""


def need_onnx_packages() -> None:
    """Refuse to start without the packages.

    Raises:
        PackagingError: says how to install them, and how to do without.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise PackagingError(
            f"models/model.onnx needs the package {error.name}: pip install 'clinbundles[onnx]', "
            "or leave it out with --without-onnx"
        ) from error


def export_onnx(network: torch.nn.Module, metadata: Mapping[str, Any], target: Path) -> Path:
    """Write a network as ONNX; inputs and outputs bear the names of metadata.

    An axis that metadata declare as "32*n" becomes a free axis of multiples of 32.

    Args:
        network: in evaluation mode, on the CPU.
        metadata: content of metadata.json.
        target: file to write.

    Raises:
        NoOnnxError: an operation or a type that ONNX does not have.
    """
    import onnx

    inputs = declared_inputs(metadata)
    names = [entry.name for entry in inputs if isinstance(entry, DeclaredTensor)]
    examples = example_inputs(metadata, batch=2, n=2)
    batch = torch.export.Dim("batch")
    shapes = tuple(_free_axes(entry, batch) if isinstance(entry, DeclaredTensor) else None for entry in inputs)
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)  # it warns of torchvision, which no bundle needs
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                network,
                tuple(examples),
                dynamo=True,
                input_names=names,
                output_names=[entry.name for entry in declared_outputs(metadata) if isinstance(entry, DeclaredTensor)],
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises its own errors, PyTorch's and Python's
        reason = str(error).strip().splitlines()
        raise NoOnnxError(f"{type(error).__name__}: {reason[0] if reason else 'no message'}") from error
    finally:
        chatter.setLevel(level)
    assert program is not None
    model = program.model_proto
    _remove_traces(model)
    properties = {key: str(metadata.get(key, "")) for key in ("name", "version", "intended_use", "copyright")}
    onnx.helper.set_model_props(model, properties)
    target.write_bytes(model.SerializeToString(deterministic=True))
    return target


@torch.no_grad()
def run_onnx(path: Path, names: list[str], inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Outputs of an ONNX file on the CPU, by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    values = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return [torch.from_numpy(output) for output in session.run(None, values)]


def _free_axes(entry: DeclaredTensor, batch: Any) -> dict[int, Any]:
    axes = {0: batch}
    for axis in entry.free_axes()[1:]:
        multiple, name = entry.multiple(axis), f"{entry.name}_{axis - 2}"
        dimension = torch.export.Dim(name if multiple == 1 else f"{name}_{multiple}th")
        axes[axis] = dimension if multiple == 1 else multiple * dimension
    return axes


def _remove_traces(model: Any) -> None:
    """Take out the exporter's notes on each node: they hold the paths of source files on this machine."""
    model.graph.ClearField("metadata_props")
    for graph in [model.graph, *model.functions]:
        _remove_traces_of(graph)


def _remove_traces_of(graph: Any) -> None:
    values = [*graph.value_info, *graph.input, *graph.output, *getattr(graph, "initializer", ())]
    for part in [*graph.node, *values]:
        if not isinstance(part, str):  # inputs of a function are names
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                _remove_traces_of(inner)
