"""`couplings`: does a layer of a bundle's network mix the samples of a batch?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from monai.bundle import ConfigParser

from clinbundles.privacy.batch_coupling import find_batch_coupling
from clinbundles.privacy.commands.bundle_training import add_bundle_arguments, bundle_config
from clinbundles.privacy.commands.command_result import CommandError, CommandResult

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bundle, and the size of its input."""
    add_bundle_arguments(parser)
    parser.add_argument(
        "--shape",
        type=int,
        nargs="+",
        metavar="N",
        help="channels and size of one input, e.g. 3 28 28 (default: metadata)",
    )


def run(options: argparse.Namespace, overrides: Sequence[str]) -> CommandResult:
    """Try the network on random numbers; no data are read."""
    parser = bundle_config(options, overrides)
    shape = options.shape or _input_shape(parser)
    network = parser.get_parsed_content("network_def")
    generator = torch.Generator().manual_seed(0)
    name = find_batch_coupling(network, torch.rand(3, *shape, generator=generator))
    if name is None:
        verdict = f"passed: no layer of {type(network).__name__} lets a sample influence another"
    else:
        layer = network if name == "(network)" else network.get_submodule(name)
        verdict = (
            f"FAILED: {name} ({type(layer).__name__}) lets samples influence each other in training, so that no "
            "gradient belongs to one person alone. Replace batch normalisation by group or instance normalisation"
        )
    return CommandResult(verdict, name is None, {"passed": name is None, "layer": name, "shape": list(shape)})


def _input_shape(parser: ConfigParser) -> list[int]:
    inputs = (parser.get("_meta_::network_data_format") or {}).get("inputs", {})
    first: dict[str, Any] = next(iter(inputs.values()), {})
    shape = [first.get("num_channels"), *first.get("spatial_shape", [None])]
    if not all(isinstance(size, int) for size in shape):
        raise CommandError(f"the metadata give no fixed input size ({shape}): give it, e.g. --shape 3 28 28")
    return shape
