"""The ids that MONAI's tools look for, and the network's real inputs and outputs against the declared ones."""

from __future__ import annotations

import sys

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out
from monai.utils import set_determinism

WORKFLOWS = {"train": ["train"], "evaluate": ["train", "evaluate"], "inference": ["inference"]}


def workflow_of(bundle, names, kind, **values):
    files = [str(bundle.root / "configs" / f"{name}.yaml") for name in names]
    return ConfigWorkflow(
        config_file=files, workflow_type=kind, logging_file=False, bundle_root=str(bundle.root), **values
    )


@pytest.mark.parametrize("name", WORKFLOWS)
def test_initialize_needs_no_data_and_monai_finds_every_property(bundle, small_data, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind = "infer" if name == "inference" else "train"
    nowhere = {"dataset_dir": str(tmp_path / "nowhere"), "output_dir": str(tmp_path / "results")}
    workflow = workflow_of(bundle, WORKFLOWS[name], kind, **bundle.settings[name], **nowhere)
    workflow.initialize()
    assert list(tmp_path.iterdir()) == [], "initialize wrote something"
    workflow.parser["dataset_dir"] = str(small_data.inputs if name == "inference" else small_data.sets)
    workflow.initialize()
    missing = workflow.check_properties()
    set_determinism(seed=None)
    assert missing == []
    assert list(tmp_path.iterdir()) == [], "a look at the properties wrote something"


@pytest.mark.parametrize("name", ["train", "inference"])
def test_config_is_complete_in_one_file(bundle, name):
    text = (bundle.root / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    assert '"%' not in text
    assert "'%" not in text, "MONAI Label and Deploy read this file alone"


@pytest.mark.parametrize("name", ["train", "validate"])
def test_handlers_are_literal_lists(bundle, name):
    """MONAI Label inserts a loader, `--tracking` appends a handler."""
    handlers = ConfigParser.load_config_file(str(bundle.root / "configs" / "train.yaml"))[name]["handlers"]
    assert isinstance(handlers, list)
    assert all(isinstance(handler, dict) and "_target_" in handler for handler in handlers)
    assert handlers[-1]["_target_"] == "clinbundles.handlers.RunRecorder"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_wrong_overrides_are_refused_first_of_all(bundle, name):
    files = [str(bundle.root / "configs" / f"{part}.yaml") for part in WORKFLOWS[name]]
    first = ConfigParser.load_config_files(files)["initialize"][0]
    assert first == {"_target_": "clinbundles.command_line_overrides.refuse_wrong_overrides"}


def test_verify_net_in_out(bundle):
    network = bundle.metadata["network_data_format"]
    if list(network["inputs"]) != ["image"] or list(network["outputs"]) != ["pred"]:
        pytest.skip("MONAI checks only networks from image to pred; the next test checks this one")
    verify_net_in_out(
        "network_def",
        meta_file=str(bundle.root / "configs" / "metadata.json"),
        config_file=str(bundle.root / "configs" / "inference.yaml"),
        bundle_root=str(bundle.root),
        device="cpu",
    )


def size(expression, n):
    return int(eval(str(expression).replace("*n", f"*{n}").replace("**p", f"**{n}")) if expression != "*" else 32 * n)


@pytest.mark.parametrize("n", [1, 3])
def test_declared_inputs_give_the_declared_outputs(bundle, n):
    declared = bundle.metadata["network_data_format"]
    inputs = [
        torch.zeros(2, entry["num_channels"], *(size(part, n) for part in entry["spatial_shape"]))
        .uniform_(*(entry["value_range"] or (-1, 1)))
        .to(getattr(torch, entry["dtype"]))
        if isinstance(entry, dict)
        else entry
        for entry in declared["inputs"].values()
    ]
    parser = ConfigParser()
    parser.read_config(str(bundle.root / "configs" / "inference.yaml"))
    parser["bundle_root"] = str(bundle.root)
    network = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        outputs = network(*inputs)
    if isinstance(outputs, torch.Tensor):
        outputs = [outputs]
    outputs = list(outputs.values()) if isinstance(outputs, dict) else list(outputs)
    assert len(outputs) == len(declared["outputs"])
    for (name, entry), output in zip(declared["outputs"].items(), outputs, strict=True):
        expected = (2, entry["num_channels"], *(size(part, n) for part in entry["spatial_shape"]))
        assert tuple(output.shape) == expected, name
        assert output.dtype == getattr(torch, entry["dtype"]), name


def test_network_of_inference_is_the_network_of_training(bundle):
    networks = []
    for name in ("train", "inference"):
        parser = ConfigParser()
        parser.read_config(str(bundle.root / "configs" / f"{name}.yaml"))
        parser["bundle_root"] = str(bundle.root)
        networks.append(parser.get_parsed_content("network_def"))
    first, second = ({key: value.shape for key, value in network.state_dict().items()} for network in networks)
    assert first == second


def test_shipped_weights_fit_the_network(bundle):
    file = bundle.root / "models" / "model.pt"
    parser = ConfigParser()
    parser.read_config(str(bundle.root / "configs" / "inference.yaml"))
    parser["bundle_root"] = str(bundle.root)
    weights = torch.load(file, map_location="cpu", weights_only=True)
    parser.get_parsed_content("network_def").load_state_dict(weights)  # bare, as ckpt_export reads it


def test_evaluation_prepares_images_as_inference_does(bundle, small_data):
    """No drift: the same file, or the same files of an exam, give the network the same tensors."""
    values = {**bundle.settings["evaluate"], "dataset_dir": str(small_data.sets)}
    evaluate = workflow_of(bundle, WORKFLOWS["evaluate"], "train", **values)
    infer = workflow_of(bundle, WORKFLOWS["inference"], "infer", **bundle.settings["inference"])
    for workflow in (evaluate, infer):
        workflow.parser.parse(reset=True)
    case = evaluate.parser.get_parsed_content("validate#dataset#data")[0]
    for_evaluation = evaluate.parser.get_parsed_content("validate#preprocessing")(dict(case))
    key = bundle.settings["inference_input"]["key"]
    image = case[key] if isinstance(key, str) else sorted(str(case[name]) for name in key if name in case)
    for_inference = infer.parser.get_parsed_content("preprocessing")({"image": image})
    for name in bundle.metadata["network_data_format"]["inputs"]:
        assert torch.equal(torch.as_tensor(for_evaluation[name]), torch.as_tensor(for_inference[name])), name


def test_no_test_left_another_config_folder_on_the_path(bundle):
    assert str(bundle.root / "configs") not in sys.path
