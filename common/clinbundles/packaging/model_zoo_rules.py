"""The rules by which the MONAI Model Zoo takes a bundle, checked on an unpacked package without a network connection.

They are those of the Model Zoo's CONTRIBUTING.md and `ci/verify_bundle.py` (necessary and preferred files, at most
25 MB each, semantic version with changelog, metadata schema, ids of the configs, shapes and types of the network,
TorchScript), and those on which this project's hosts rely (twins, checksums, what `monai.bundle.load` gives).
"""

from __future__ import annotations

import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, load, verify_metadata, verify_net_in_out
from monai.data import load_net_with_metadata

from clinbundles.data.content_hash import file_hash
from clinbundles.packaging.checksums import read_checksums
from clinbundles.packaging.declared_tensors import undeclared_outputs
from clinbundles.packaging.json_twins import differences, yaml_configs

SCHEMA = Path(__file__).with_name("metadata_schema.json")
FILES = ("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md", "models/model.pt")
IDS = {
    "inference": ("bundle_root", "device", "dataset_dir", "output_dir", "network_def", "inferer", "evaluator"),
    "train": (
        *("bundle_root", "device", "dataset_dir", "output_dir", "network_def", "train#trainer"),
        *("train#trainer#max_epochs", "train#dataset", "train#dataset#data", "train#inferer", "train#handlers"),
    ),
}
_SNAKE_CASE = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")


def broken_rules(root: Path) -> list[str]:
    """What the Model Zoo or MONAI's tools would refuse, one sentence each; [] for a good package.

    Args:
        root: the unpacked folder, its large files (if any) in their places.
    """
    problems = broken_rules_of_sources(root)
    problems = problems or _checksums(root)
    if problems:
        return problems
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return [*_network(root, metadata), *_torchscript(root, metadata), *_loading(root)]


def broken_rules_of_sources(root: Path) -> list[str]:
    """Those of the rules that can be checked before anything is exported: files, metadata, configs and their twins."""
    missing = [f"{name} is missing" for name in FILES if not (root / name).is_file()]
    if missing:
        return missing
    try:
        metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except ValueError as error:
        return [f"configs/metadata.json is not JSON: {error}"]
    return [*_name(root), *_metadata(root, metadata), *_twins(root), *_configs(root)]


def _name(root: Path) -> list[str]:
    if _SNAKE_CASE.fullmatch(root.name):
        return []
    return [f"the folder is called {root.name!r}: expected organ or modality and task in snake_case"]


def _metadata(root: Path, metadata: dict[str, Any]) -> list[str]:
    try:
        verify_metadata(meta_file=str(root / "configs" / "metadata.json"), filepath=str(SCHEMA))
    except ValueError as error:
        return [f"configs/metadata.json does not follow the schema: {error.__cause__ or error}".splitlines()[0]]
    version = metadata["version"]
    problems = []
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        problems.append(f"version is {version!r}: expected three numbers such as 0.1.0")
    if version not in metadata.get("changelog", {}):
        problems.append(f"version {version} has no entry in the changelog of configs/metadata.json")
    problems += [f"metadata do not say {key}" for key in ("name", "intended_use") if not metadata.get(key)]
    return problems


def _checksums(root: Path) -> list[str]:
    written = read_checksums(root)
    here = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    problems = [f"{name} has no line in SHA256SUMS" for name in sorted(here.keys() - written - {"SHA256SUMS"})]
    for name, digest in written.items():
        if name not in here:
            problems.append(f"{name} is in SHA256SUMS and missing")
        elif file_hash(here[name]) != digest:
            problems.append(f"{name} is not the file of SHA256SUMS")
    return problems


def _twins(root: Path) -> list[str]:
    problems = []
    for source in yaml_configs(root / "configs"):
        twin = source.with_suffix(".json")
        if not twin.is_file():
            problems.append(f"configs/{source.name} has no JSON twin")
            continue
        contents = [ConfigParser.load_config_file(str(path)) for path in (source, twin)]
        problems += [f"configs/{source.name} and its JSON twin differ: {text}" for text in differences(*contents)]
    return problems


def _configs(root: Path) -> list[str]:
    problems = []
    for path in sorted((root / "configs").glob("*.json")):
        if path.name == "metadata.json":
            continue
        content = ConfigParser.load_config_file(str(path))
        wanted = IDS.get(path.stem, ())
        problems += [f"configs/{path.name} has no id {name!r}" for name in wanted if not _has(content, name)]
        problems += [
            f"configs/{path.name}: {name} is the absolute path of one machine, {text!r}"
            for name, text in _texts(content)
            if os.path.isabs(text)
        ]
    return problems


def _network(root: Path, metadata: dict[str, Any]) -> list[str]:
    declared = metadata["network_data_format"]
    try:
        problems = undeclared_outputs(_network_def(root), metadata)
    except Exception as error:  # whatever a config's components raise
        return [f"network_def of configs/inference.json cannot be built: {error}"]
    if problems or list(declared["inputs"]) != ["image"] or list(declared["outputs"]) != ["pred"]:
        return problems  # MONAI's own check knows one input `image` and one output `pred`
    try:
        verify_net_in_out(
            "network_def",
            meta_file=str(root / "configs" / "metadata.json"),
            config_file=str(root / "configs" / "inference.json"),
            bundle_root=str(root),
            device="cpu",
        )
    except (ValueError, RuntimeError, KeyError) as error:
        return [f"monai.bundle verify_net_in_out: {error}"]
    return []


def _torchscript(root: Path, metadata: dict[str, Any]) -> list[str]:
    path = root / "models" / "model.ts"
    if not path.is_file():
        return ["models/model.ts is missing"]
    try:
        _, inside, extra = load_net_with_metadata(str(path), more_extra_files=["inference.json"])
    except (RuntimeError, ValueError, KeyError) as error:
        return [f"models/model.ts cannot be loaded: {error}"]
    problems = []
    if inside != metadata:
        problems.append("models/model.ts holds other metadata than configs/metadata.json")
    if json.loads(extra["inference.json"]) != ConfigParser.load_config_file(str(root / "configs" / "inference.json")):
        problems.append("models/model.ts holds another inference config than configs/inference.json")
    return problems


def _loading(root: Path) -> list[str]:
    kind = "train" if (root / "configs" / "train.json").is_file() else "inference"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = load(root.name, bundle_dir=root.parent, source="github", workflow_type=kind, device="cpu")
    if not isinstance(module, torch.nn.Module):
        return [f"monai.bundle.load gives a {type(module).__name__}, not the network"]
    weights = torch.load(root / "models" / "model.pt", map_location="cpu", weights_only=True)
    state = module.state_dict()
    if state.keys() != weights.keys() or not all(torch.equal(state[key].cpu(), weights[key]) for key in weights):
        return ["monai.bundle.load gives a network with other weights than models/model.pt"]
    return []


def _network_def(root: Path) -> torch.nn.Module:
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    parser.read_meta(str(root / "configs" / "metadata.json"))
    parser["bundle_root"] = str(root)
    return parser.get_parsed_content("network_def").eval()


def _has(content: Any, name: str) -> bool:
    for key in name.split("#"):
        if not isinstance(content, dict) or key not in content:
            return False
        content = content[key]
    return True


def _texts(content: Any, where: str = "") -> list[tuple[str, str]]:
    if isinstance(content, str):
        return [(where, content)]
    pairs: Any = (
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    )
    return [found for key, value in pairs for found in _texts(value, f"{where}#{key}" if where else str(key))]
