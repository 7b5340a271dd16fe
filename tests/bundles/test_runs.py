"""A bundle's runs as users start them: subprocesses, other working directories, blanks in paths, a read-only bundle."""

from __future__ import annotations

import csv
import math

import pytest
import torch
from monai.bundle import ConfigParser

from clinbundles.packaging.declared_tensors import example_inputs


def history(folder):
    with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def steps_of(state):
    """Steps of the optimizer; of a private training those that its ledger has recorded."""
    if "privacy" in state:
        return sum(steps for _, _, steps in state["privacy"]["ledger"]["segments"])
    return float(next(iter(state["optimizer"]["state"].values()))["step"])


def test_training_writes_weights_state_and_history_into_output_dir(bundle, chain):
    first = chain.folder / "first training"
    statement = ["privacy_statement.json"] if bundle.is_private else []
    assert sorted(path.name for path in (first / "models").iterdir()) == ["last.pt", "model.pt", *statement]
    row = history(first)[0]
    assert math.isfinite(float(row[bundle.progress]))
    assert ("train_loss" in row) is not bundle.is_private
    assert math.isfinite(float(row[f"val_{bundle.settings['metric']}"]))


def test_training_prints_one_line_per_epoch_and_where_the_results_are(chain):
    lines = [line for line in chain.log["train"].splitlines() if "INFO epoch " in line]
    assert len(lines) == 1
    assert str(chain.trained) in chain.log["train"].split("Done. Results in")[1]


def test_checkpoint_holds_what_resuming_needs(bundle, chain):
    state = torch.load(chain.folder / "first training" / "models" / "last.pt", weights_only=True)
    privacy = {"privacy"} if bundle.is_private else set()
    assert set(state) == {"model", "optimizer", "lr_scheduler", "trainer", "best"} | privacy
    assert state["trainer"]["epoch"] == 1


@pytest.mark.host("command line", "training, and going on after a break")
def test_resumed_training_goes_on_at_the_next_epoch(chain):
    assert "Resume after epoch 1" in chain.log["resume"]
    assert [row["epoch"] for row in history(chain.trained)] == ["1", "2"]
    assert history(chain.trained)[0] == history(chain.folder / "first training")[0]
    first = torch.load(chain.folder / "first training" / "models" / "last.pt", weights_only=True)
    second = torch.load(chain.trained / "models" / "last.pt", weights_only=True)
    assert second["trainer"]["epoch"] == 2
    assert steps_of(second) == 2 * steps_of(first)


@pytest.mark.host("command line", "evaluation")
def test_evaluation_writes_a_table_of_all_cases(bundle, chain):
    with (chain.folder / "evaluation results" / "case_metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    values = [float(row["value"]) for row in rows if row["metric"] == bundle.settings["metric"]]
    assert len(values) == len(list(chain.data.inputs.iterdir()))
    assert all(math.isfinite(value) for value in values)


@pytest.mark.host("command line", "inference over a folder")
def test_inference_writes_all_results_below_output_dir(bundle, chain):
    results = chain.folder / "inference results"
    for pattern in bundle.settings["inference_results"]:
        assert list(results.glob(pattern)), f"no {pattern} among {[str(path.name) for path in results.rglob('*')]}"


def test_no_run_wrote_into_its_working_directory(chain):
    written = [str(path) for path in (chain.folder / "elsewhere").rglob("*") if path.is_file()]
    assert written == []


@pytest.mark.host("command line", "the bundle's folder stays as it was")
def test_no_run_wrote_into_the_bundle(chain):
    assert chain.hash_now() == chain.hash_before


def test_bundle_was_really_read_only(chain):
    if not chain.can_lock():
        pytest.skip("this is root without the right to mount: only the hash of the folder speaks")
    assert "ead-only file system" in (message := chain.write_into_bundle().fail()) or "denied" in message


def test_no_run_made_a_folder_beside_its_own(chain):
    """MLflow's SQLite address writes a blank as %20."""
    assert [path.name for path in chain.folder.parent.rglob("*%20*")] == []


@pytest.mark.host("command line", "TorchScript equals the network")
def test_exported_model_equals_the_trained_one(bundle, chain):
    exported = torch.jit.load(chain.folder / "exported" / "model.ts", map_location="cpu")
    parser = ConfigParser()
    parser.read_config(str(bundle.root / "configs" / "inference.yaml"))
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(chain.weights, weights_only=True))
    inputs = example_inputs(bundle.metadata, batch=1, n=2)
    with torch.no_grad():
        torch.testing.assert_close(exported(*inputs), network(*inputs))


def test_exported_model_carries_config_and_metadata(bundle, chain):
    extra = {"inference.json": "", "metadata.json": ""}
    torch.jit.load(chain.folder / "exported" / "model.ts", map_location="cpu", _extra_files=extra)
    assert b"network_def" in extra["inference.json"]
    assert bundle.metadata["version"].encode() in extra["metadata.json"]


@pytest.mark.host("torchrun", "two processes train one network")
def test_two_processes_train_one_network(chain):
    folder = chain.folder / "two processes"
    assert [row["epoch"] for row in history(folder)] == ["1"]
    weights = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in weights)
    assert chain.log["torchrun"].count("INFO epoch 1/1") == 1


@pytest.mark.host("torchrun", "folder inference divided among processes")
def test_two_processes_give_the_table_that_one_gives(chain):
    tables = [
        (chain.folder / name / "results.csv").read_text(encoding="utf-8")
        for name in ("inference results", "divided inference")
    ]
    assert tables[0].count("\n") > 2, "two studies at least"
    assert tables[0] == tables[1]


@pytest.mark.host("command line", "misspelt options are refused")
def test_misspelt_override_is_refused_before_anything_happens(chain):
    assert "Did you mean --epochs?" in chain.log["misspelt"]
    assert not (chain.folder / "misspelt").exists()


@pytest.mark.host("command line", "missing data are refused by name")
def test_missing_data_folder_is_refused_by_name(chain):
    assert str(chain.folder / "nowhere") in chain.log["missing"]
    assert "does not exist" in chain.log["missing"]
