"""The package where a user unpacks it: another folder, and only the wheel of this project with what it requires."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from bundle_images import BUNDLES, ROOT, bundle_images, bundle_settings
from fresh_environment import output_of, run_python
from PIL import Image
from python_fork_server import SERVER

from clinbundles.hosts.hosted_bundle import HostedBundle

LOAD = """
import json, sys
import clinbundles, torch
from monai.bundle import load
found = {"clinbundles": clinbundles.__file__}
for name, folder, kind in json.loads(sys.argv[1]):
    module = load(name, bundle_dir=folder, source="github", workflow_type=kind, device="cpu")
    weights = torch.load(f"{folder}/{name}/models/model.pt", weights_only=True)
    state = module.state_dict()
    same = state.keys() == weights.keys() and all(torch.equal(state[key], weights[key]) for key in weights)
    found[name] = [isinstance(module, torch.nn.Module), same, sys.modules[type(module).__module__].__file__]
print("found:" + json.dumps(found))
"""
"""Gives for each bundle whether a network came back, with the weights of the file, and where its class comes from."""


@pytest.fixture(scope="session")
def loaded(fresh_python, unpacked, all_bundles, tmp_path_factory):
    bundles = []
    for bundle in all_bundles:
        root = unpacked(bundle)
        kind = "train" if (root / "configs" / "train.json").is_file() else "inference"
        bundles.append([bundle.name, str(root.parent), kind])
    text = output_of(
        run_python(fresh_python, "-c", LOAD, json.dumps(bundles), folder=tmp_path_factory.mktemp("elsewhere"))
    )
    return json.loads(text.rpartition("found:")[2])


@pytest.mark.host("Model Zoo package", "monai.bundle.load")
def test_monai_loads_the_network_with_its_weights(hosted, loaded):
    is_module, is_same, origin = loaded[hosted.name]
    assert is_module, "a state dict came back: MONAI did not find the config"
    assert is_same
    assert not origin.startswith(str(ROOT)), f"the class comes from the checkout: {origin}"


def test_environment_has_the_wheel_and_not_the_checkout(loaded, fresh_python):
    assert loaded["clinbundles"].startswith(str(fresh_python.parents[1]))


def test_what_the_wheel_does_not_require_is_not_there(fresh_python, tmp_path):
    for module in ("pytest", "onnxscript", "nox"):
        text = output_of(run_python(fresh_python, "-c", f"import {module}", folder=tmp_path), code=1)
        assert "ModuleNotFoundError" in text


@pytest.mark.parametrize("name", BUNDLES)
def test_json_configs_give_the_files_that_yaml_gives(name, fresh_python, unpacked, tmp_path):
    bundle = HostedBundle(ROOT / "bundles" / name)
    bundle_images(name, tmp_path / "images", tmp_path / "simulated")
    settings = bundle_settings(name)["inference"]
    places = {"json": (fresh_python, unpacked(bundle)), "yaml": (SERVER.python(), bundle.root)}
    processes = []
    for form, (python, root) in places.items():
        words = ["-m", "monai.bundle", "run", "--bundle_root", str(root)]
        words += [
            "--config_file",
            str(root / "configs" / f"inference.{form}"),
            "--dataset_dir",
            str(tmp_path / "images"),
        ]
        words += ["--output_dir", str(tmp_path / form)]
        words += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        processes.append(run_python(python, *words, folder=tmp_path / f"{form} elsewhere"))
    for process in processes:
        output_of(process)
    results = {form: files_of(tmp_path / form) for form in places}
    assert results["json"]
    assert results["json"].keys() == results["yaml"].keys()
    for file, content in results["yaml"].items():
        np.testing.assert_array_equal(results["json"][file], content, err_msg=file)


def files_of(folder):
    """Content of the images and tables of a folder of results; figures and times of day may differ."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".png" and "overlay" not in name:
            found[name] = np.asarray(Image.open(path))
        elif name.endswith(".nii.gz"):
            found[name] = np.asarray(nibabel.load(path).dataobj)
        elif path.suffix == ".csv":
            found[name] = np.array(path.read_text().splitlines())
    return found
