"""metadata.json: the schema of the MONAI Model Zoo, checked offline, and the truths that no schema checks."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import re
from pathlib import Path

import jsonschema
import pytest
import torch
from monai.bundle import verify_metadata
from packaging.version import Version

import clinbundles.packaging

SCHEMA_FILE = Path(clinbundles.packaging.__path__[0]) / "metadata_schema.json"
SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
SCHEMA_NAME = "meta_schema_20240725.json"


def formats(metadata):
    return {key: value for key, value in metadata.items() if key.endswith("_data_format")}


def test_metadata_pass_monai_verify_metadata_offline(bundle):
    verify_metadata(meta_file=str(bundle.root / "configs" / "metadata.json"), filepath=str(SCHEMA_FILE))
    assert bundle.metadata["schema"].endswith(SCHEMA_NAME)


def test_name_intended_use_and_sources_are_given(bundle):
    for key in ("name", "intended_use", "data_source", "data_type", "image_classes", "label_classes", "pred_classes"):
        assert bundle.metadata[key].strip(), key
    assert bundle.metadata["references"]
    assert "simulated" in bundle.metadata["intended_use"].lower()


def test_version_is_semantic_and_the_newest_of_the_changelog(bundle):
    version = bundle.metadata["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert version == max(bundle.metadata["changelog"], key=Version)


def test_versions_are_those_of_an_environment_like_this_one(bundle):
    given = {
        "monai": bundle.metadata["monai_version"],
        "torch": bundle.metadata["pytorch_version"],
        "numpy": bundle.metadata["numpy_version"],
        **bundle.metadata["required_packages_version"],
    }
    for name, version in given.items():
        installed = Version(importlib.metadata.version(name))
        assert installed.major == Version(version).major, f"{name}: metadata say {version}, installed is {installed}"


def test_channels_and_labels_are_named(bundle):
    for network in formats(bundle.metadata).values():
        for part in ("inputs", "outputs", "post_processed_outputs"):
            for name, entry in network.get(part, {}).items():
                if not isinstance(entry, dict):
                    continue
                assert getattr(torch, entry["dtype"], None) is not None, f"{name}: no dtype {entry['dtype']}"
                names = entry.get("channel_def", {})
                assert list(names) == [str(index) for index in range(len(names))], f"{part} {name}: {names}"
                final = network.get("post_processed_outputs", {}).get(name, {})
                is_label_map = bool(names) and final.get("format") == "labels" and names == final.get("channel_def")
                if is_label_map:  # what MONAI Label shows: the names of the labels, not of the network's channels
                    assert names["0"] == "background"
                    assert final["value_range"] == [0, len(names) - 1]
                elif names:
                    assert len(names) == entry["num_channels"], f"{part} {name}: {names}"


# --- the schema itself: these cases tell a schema that checks from one that does not ---------------------------------

TENSOR = {
    "type": "image",
    "format": "kspace",
    "num_channels": 1,
    "spatial_shape": ["16*n", 32],
    "dtype": "complex64",
    "value_range": [0, 1.5],
}
VALID = {
    **dict.fromkeys(
        ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description"), "text"
    ),
    "authors": "text",
    "copyright": "text",
    "required_packages_version": {},
    "network_data_format": {"inputs": {"image": TENSOR, "time": 3}, "outputs": {"pred": TENSOR}},
    "motion_network_data_format": {"inputs": {}, "outputs": {}},
    "references": ["text"],
    "unknown": 1,
}


def change(path, value):
    metadata = copy.deepcopy(VALID)
    *parents, last = path.split("/")
    node = metadata
    for key in parents:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return metadata


def test_schema_accepts_all_that_the_zoo_accepts():
    jsonschema.validate(VALID, SCHEMA)
    jsonschema.validate(change("network_data_format/post_processed_outputs", {"pred": True}), SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *[(key, None) for key in VALID if key not in ("references", "unknown", "motion_network_data_format")],
        ("version", 1),
        ("required_packages_version", []),
        ("references", "text"),
        ("references", [1]),
        ("eval_metrics", 0.8),
        ("supported_apps", []),
        ("intended_use", {}),
        ("network_data_format/inputs", None),
        ("network_data_format/outputs", None),
        ("motion_network_data_format/outputs", None),
        *[(f"network_data_format/inputs/image/{key}", None) for key in TENSOR],
        ("network_data_format/inputs/image/num_channels", "1"),
        ("network_data_format/inputs/image/spatial_shape", "16*n"),
        ("network_data_format/inputs/image/spatial_shape", [1.5]),
        ("network_data_format/inputs/image/value_range", ["0"]),
        ("network_data_format/inputs/image/is_patch_data", "yes"),
        ("network_data_format/outputs/pred/channel_def", ["a"]),
        ("network_data_format/outputs/pred", ["a"]),
        ("network_data_format/post_processed_outputs", {"pred": []}),
    ],
)
def test_schema_refuses_what_the_zoo_refuses(path, value):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(change(path, value), SCHEMA)
