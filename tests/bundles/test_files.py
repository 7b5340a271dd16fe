"""A bundle's folder holds what the MONAI Model Zoo and the hosts expect, and little else."""

from __future__ import annotations

import importlib
import os

import pytest
import yaml

FILES = [
    "LICENSE",
    "__init__.py",
    "configs/metadata.json",
    "configs/train.yaml",
    "configs/evaluate.yaml",
    "configs/multi_gpu_train.yaml",
    "configs/inference.yaml",
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
    "models/model.pt",
]
LARGEST_WEIGHTS = 3 * 2**20
LARGEST_FILE = 25 * 2**20  # of the MONAI Model Zoo


@pytest.mark.parametrize("file", FILES)
def test_file_is_there(bundle, file):
    assert (bundle.root / file).is_file()


def test_weights_and_other_files_are_small(bundle):
    files = [path for path in bundle.root.rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) <= LARGEST_FILE
    assert (bundle.root / "models" / "model.pt").stat().st_size <= LARGEST_WEIGHTS


def test_folder_is_an_importable_package_of_its_own_name(bundle):
    package = importlib.import_module(bundle.name)
    assert os.path.samefile(os.path.dirname(package.__file__), bundle.root)


def test_licence_is_that_of_the_project(bundle):
    assert "Apache License" in (bundle.root / "LICENSE").read_text(encoding="utf-8")


def test_configs_hold_no_absolute_path_and_no_number_that_yaml_reads_as_text(bundle):
    for file in (bundle.root / "configs").glob("*.yaml"):
        content = file.read_text(encoding="utf-8")
        for key, value in _leaves(yaml.safe_load(content)):
            assert not (isinstance(value, str) and os.path.isabs(value)), f"{file.name}: {key} is an absolute path"
        for value in _unquoted_texts(yaml.compose(content)):
            assert not _is_number(value), f"{file.name}: {value} is read as text: write 1.0e-3, not 1e-3"


def test_each_class_that_a_config_names_can_be_imported_from_anywhere(bundle):
    for file in (bundle.root / "configs").glob("*.yaml"):
        for key, value in _leaves(yaml.safe_load(file.read_text(encoding="utf-8"))):
            if key.endswith("_target_") and value.startswith((bundle.name, "clinbundles")):
                module, _, name = value.rpartition(".")
                assert hasattr(importlib.import_module(module), name), f"{file.name}: there is no {value}"


def test_readme_says_that_the_training_data_are_simulated(bundle):
    assert "simulat" in (bundle.root / "docs" / "README.md").read_text(encoding="utf-8").lower()


def _leaves(node, key=""):
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, f"{key}#{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _leaves(value, f"{key}#{index}")
    else:
        yield key, node


def _unquoted_texts(node):
    """What YAML takes for a text although nobody quoted it; a quoted number, such as a SNOMED code, is meant so."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag.endswith(":str") and node.style is None:
            yield node.value
        return
    for item in node.value:
        for part in item if isinstance(item, tuple) else (item,):
            yield from _unquoted_texts(part)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True
