"""The network that a federated training starts from, and the bundle's weights that it ends with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from clinbundles.data.atomic_file import atomic_path
from clinbundles.hosts.hosted_bundle import find_bundle


def training_config(bundle: str, configs: Sequence[str], settings: Mapping[str, Any]) -> ConfigParser:
    """The bundle's training config with overrides; nothing is instantiated yet.

    Args:
        bundle: name or folder.
        configs: files, relative to the bundle's root.
        settings: config ids and values.
    """
    root = find_bundle(bundle).root
    parser = ConfigParser()
    parser.read_config([str(root / name) for name in configs])
    parser.read_meta(str(root / "configs" / "metadata.json"))
    parser.update({"bundle_root": str(root), **settings})
    return parser


def initial_network(bundle: str, configs: Sequence[str], settings: Mapping[str, Any]) -> torch.nn.Module:
    """The network as the first round gets it: random weights of the config's `seed`, or those of its `ckpt`.

    FLARE's server calls it by its dotted name.
    """
    parser = training_config(bundle, configs, settings)
    set_determinism(seed=int(parser.get_parsed_content("seed")))
    network = parser.get_parsed_content("network_def")
    checkpoint = parser.get_parsed_content("ckpt")
    if checkpoint:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(state.get("model", state))
    return network


def save_weights(global_model: str | os.PathLike[str], network: torch.nn.Module, path: Path) -> None:
    """Write FLARE's shared model as the bare state dict that a bundle's `models/model.pt` is.

    Args:
        global_model: file of FLARE's persistor.
        network: what the weights must fit.
        path: where to write.

    Raises:
        RuntimeError: a weight is missing, left over or of another shape.
    """
    state = torch.load(global_model, map_location="cpu", weights_only=True)["model"]
    network.load_state_dict(state, strict=True)  # also brings averaged counters back to whole numbers
    with atomic_path(path) as draft:
        torch.save(network.state_dict(), draft)
