"""Handlers of the project around a private training: what they write, and what never leaves the machine."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import mlflow
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanAbsoluteError, MLFlowHandler, ValidationHandler, from_engine

from clinbundles.handlers import EpochReport, ProgressBar, RunRecord, RunRecorder, local_tracking_uri
from clinbundles.handlers.private_checkpoints import PrivateCheckpoints
from clinbundles.handlers.private_training import PrivateTraining
from clinbundles.privacy.accounting.statement import read_statement


def one_hot(output):
    label = torch.nn.functional.one_hot(output["label"], 3).to(output["pred"])
    return [output["pred"]], [label]


def train(build, folder, **options):
    """A training with all handlers and MLflow, as a bundle's train.yaml has them."""
    output = str(folder)

    def handlers(parts):
        validator = SupervisedEvaluator(
            device="cpu",
            val_data_loader=DataLoader(Dataset(parts.records[:6]), batch_size=3),
            network=parts.average.network,
            key_val_metric={"error": MeanAbsoluteError(output_transform=one_hot)},
            decollate=False,
        )
        record = RunRecord(
            "train", "toy", "1", output, parameters={"privacy": parts.plan.to_dict()}, each_iteration=True
        )
        tracking = MLFlowHandler(
            tracking_uri=local_tracking_uri(output),
            iteration_log=True,
            output_transform=from_engine(["loss"], first=True),
        )
        return [
            ProgressBar(),
            ValidationHandler(interval=1, validator=validator),
            PrivateTraining(output, output + "/models", copies=1, release_loss=options.pop("release_loss", False)),
            EpochReport(output, validator),
            PrivateCheckpoints(
                output + "/models", parts.network, parts.optimizer, "data", validator=validator, resume_from=resume
            ),
            RunRecorder(record),
            tracking,
        ]

    resume = options.pop("resume_from", None)
    parts = build(sigma=1.0, steps=8, handlers=handlers, **{k: v for k, v in options.items() if k != "release_loss"})
    parts.trainer.run()
    return parts


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def quiet(build, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quiet")
    parts = train(build, folder, max_epochs=1)
    parts = train(build, folder, resume_from=str(folder / "models" / "last.pt"))
    return folder, parts


@pytest.fixture(scope="module")
def run(quiet):
    client = mlflow.MlflowClient(local_tracking_uri(str(quiet[0])))
    (experiment,) = (one for one in client.search_experiments() if one.name != "Default")
    last, _ = client.search_runs(experiment.experiment_id, order_by=["attributes.start_time DESC"])
    return client, last


def test_history_tells_epsilon_per_epoch_and_no_training_loss(quiet):
    folder, parts = quiet
    history = rows(folder / "history.csv")
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert set(history[0]) == {"epoch", "epsilon", "learning_rate", "val_error", "seconds"}
    assert 0 < float(history[0]["epsilon"]) < float(history[1]["epsilon"])
    assert float(history[1]["epsilon"]) == pytest.approx(parts.ledger.epsilon(parts.plan.delta))


def test_the_training_loss_stays_in_a_folder_of_its_own(quiet):
    folder, _ = quiet
    private = rows(folder / "private" / "training_loss.csv")
    assert [row["epoch"] for row in private] == ["1", "2"]
    assert all(0 < float(row["train_loss_private"]) < 10 for row in private)


def test_mlflow_gets_epsilon_and_plan_and_statement_and_never_the_training_loss(quiet, run):
    client, last = run
    assert last.info.status == "FINISHED"
    assert "epsilon" in last.data.metrics
    assert not [name for name in last.data.metrics if "loss" in name]
    for name in ("epsilon", "delta", "noise_multiplier", "sample_rate", "steps", "max_grad_norm", "units", "unit"):
        assert f"privacy.{name}" in last.data.params
    uploaded, folders = [], [""]
    while folders:
        for entry in client.list_artifacts(last.info.run_id, folders.pop()):
            folders.append(entry.path) if entry.is_dir else uploaded.append(Path(entry.path).name)
    assert {"history.csv", "privacy_statement.json"} <= set(uploaded)
    assert not [name for name in uploaded if "loss" in name]


def test_the_statement_beside_the_weights_holds_for_all_steps(quiet):
    folder, parts = quiet
    statement = read_statement(folder / "models")
    assert statement.steps == 8
    assert statement.copies == 1
    assert statement.epsilon == parts.ledger.epsilon(parts.plan.delta)
    assert "loss" not in json.dumps([key for key in statement.to_dict() if key != "not_covered"])


def test_weights_hold_nothing_but_weights(quiet):
    folder, parts = quiet
    assert set(torch.load(folder / "models" / "model.pt", weights_only=True)) == set(parts.network.state_dict())


def test_the_loss_is_released_only_when_asked_and_then_says_that_it_is_private(build, tmp_path):
    train(build, tmp_path, release_loss=True, max_epochs=1)
    assert float(rows(tmp_path / "history.csv")[0]["train_loss_private"]) > 0
    client = mlflow.MlflowClient(local_tracking_uri(str(tmp_path)))
    (experiment,) = (one for one in client.search_experiments() if one.name != "Default")
    (only,) = client.search_runs(experiment.experiment_id)
    assert [name for name in only.data.metrics if "loss" in name] == ["train_loss_private"]
