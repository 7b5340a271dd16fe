"""What a package holds: all of the bundle, twins, exports that compute the same, sums; nothing of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from monai.data import load_net_with_metadata

from clinbundles.packaging.bundle_package import TOLERANCE
from clinbundles.packaging.declared_tensors import example_inputs, tensors_of
from clinbundles.packaging.model_zoo_rules import broken_rules


@pytest.mark.host("Model Zoo package", "zip and rules")
def test_package_holds_all_files_of_the_bundle_and_keeps_every_rule(hosted, packages, unpacked):
    root = unpacked(hosted)
    assert packages(hosted).path.name == f"{hosted.name}_v{hosted.version}.zip"
    for path in hosted.root.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (root / path.relative_to(hosted.root)).read_bytes() == path.read_bytes()
    assert broken_rules(root) == []
    assert not list(root.rglob("__pycache__"))
    assert not (root / "large_files.yml").exists()


def test_twins_say_what_the_yaml_says(hosted, unpacked):
    configs = unpacked(hosted) / "configs"
    sources = [path for path in configs.glob("*.yaml") if path.name != "dicom.yaml"]
    assert sources
    for source in sources:
        twin = json.loads(source.with_suffix(".json").read_text())
        assert twin == yaml.safe_load(source.read_text()), source.name
        assert json.dumps(twin) == json.dumps(yaml.safe_load(source.read_text())), f"{source.name}: order of keys"
    assert not (configs / "dicom.json").exists(), "its integer keys are no JSON, and MONAI does not read it"


@pytest.mark.host("Model Zoo package", "TorchScript")
def test_torchscript_computes_what_the_network_does_and_carries_the_configs(hosted, unpacked):
    root = unpacked(hosted)
    script, metadata, extra = load_net_with_metadata(
        str(root / "models" / "model.ts"), more_extra_files=["inference.json"]
    )
    assert metadata == hosted.metadata
    assert json.loads(extra["inference.json"]) == json.loads((root / "configs" / "inference.json").read_text())
    network = hosted.predictor().network
    for batch, n in ((1, 2), (4, 1)):
        inputs = example_inputs(hosted.metadata, batch, n)
        with torch.no_grad():
            for expected, found in zip(tensors_of(network(*inputs)), tensors_of(script(*inputs)), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.host("Model Zoo package", "ONNX")
def test_onnx_computes_what_the_network_does_at_any_declared_size(hosted, packages, unpacked):
    assert packages(hosted).without_onnx is None
    session = onnxruntime.InferenceSession(str(unpacked(hosted) / "models" / "model.onnx"))
    network = hosted.predictor().network
    names = list(hosted.metadata["network_data_format"]["inputs"])
    assert [entry.name for entry in session.get_inputs()] == names
    assert [entry.name for entry in session.get_outputs()] == list(hosted.metadata["network_data_format"]["outputs"])
    for batch, n in ((1, 1), (2, 4)):
        inputs = example_inputs(hosted.metadata, batch, n)
        with torch.no_grad():
            expected = tensors_of(network(*inputs))
        values = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        for one, other in zip(expected, session.run(None, values), strict=True):
            largest = float(one.abs().max())
            np.testing.assert_allclose(other, one.numpy(), rtol=1e-3, atol=max(1e-4, TOLERANCE * largest))


def test_no_path_of_this_machine_is_in_the_package(hosted, packages):
    places = [str(hosted.root.parent), str(Path(torch.__file__).parents[1]), sys.prefix, "/package_"]
    with zipfile.ZipFile(packages(hosted).path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            found = [place for place in places if place.encode() in content]
            assert not found, f"{name} holds {found}"


@pytest.mark.skipif(os.name != "posix", reason="sha256sum is a command of Unix")
def test_sums_are_those_that_sha256sum_checks(hosted, unpacked):
    root = unpacked(hosted)
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) == len([path for path in root.rglob("*") if path.is_file()]) - 1
