"""What MLflow holds after `--tracking mlflow`, on a real server and in a local store."""

from __future__ import annotations

import math

import mlflow
import pytest

KIND = "clinbundles.kind"


@pytest.fixture(scope="module")
def runs(chain):
    """Runs of the suite on the server, by kind and then in the order of their start."""
    client = mlflow.MlflowClient(chain.server_uri)
    experiment = client.get_experiment_by_name(chain.experiment)
    found = client.search_runs(experiment.experiment_id, order_by=["attributes.start_time ASC"])
    return client, found


def of_kind(runs, kind):
    return [run for run in runs[1] if run.data.tags[KIND] == kind]


def files(runs, run, folder=""):
    return sorted(entry.path for entry in runs[0].list_artifacts(run.info.run_id, folder))


@pytest.mark.host("MLflow", "one closed run for each training, evaluation, inference")
def test_each_run_is_one_closed_run_of_its_kind(bundle, runs):
    assert [run.data.tags[KIND] for run in runs[1]].count("train") == 2  # alone, and with two processes together
    assert len(of_kind(runs, "evaluate")) == 1
    assert len(of_kind(runs, "inference")) == 1
    assert {run.info.status for run in runs[1]} == {"FINISHED"}
    for run in runs[1]:
        assert run.data.tags["clinbundles.bundle"] == bundle.name
        assert run.data.tags["clinbundles.bundle_version"] == bundle.metadata["version"]


@pytest.mark.host("MLflow", "parameters, versions, hash of the data")
def test_training_logs_parameters_versions_and_the_hash_of_its_manifest(bundle, runs):
    parameters = of_kind(runs, "train")[0].data.params
    for name in [*bundle.settings["parameters"], "version.torch", "version.monai"]:
        assert name in parameters
    assert parameters["epochs"] == parameters["max_epochs"] == "1"
    hashes = [value for name, value in parameters.items() if name.startswith("manifest.")]
    assert hashes
    assert all(len(value) == 64 for value in hashes)


def test_training_logs_loss_and_metrics_once_an_epoch(bundle, runs):
    client, _ = runs
    for run in of_kind(runs, "train"):
        for name in (bundle.progress, bundle.settings["metric"], "learning_rate_0"):
            assert [point.step for point in client.get_metric_history(run.info.run_id, name)] == [1], name
        assert ("train_loss" in run.data.metrics) is not bundle.is_private


def test_executed_config_its_sources_and_packages_are_kept(runs):
    for kind in ("train", "evaluate", "inference"):
        run = of_kind(runs, kind)[0]
        configs = files(runs, run, "configs")
        assert any(name.startswith("configs/config_") and name.endswith(".json") for name in configs), configs
        assert any(name.endswith(".yaml") for name in configs), configs
        assert "packages.json" in files(runs, run)


@pytest.mark.host("MLflow", "tables and figures")
def test_tables_and_figures_are_kept(runs):
    assert files(runs, of_kind(runs, "train")[0], "tables") == ["tables/history.csv"]
    assert files(runs, of_kind(runs, "evaluate")[0], "tables")
    assert files(runs, of_kind(runs, "inference")[0], "figures")
    assert files(runs, of_kind(runs, "inference")[0], "tables")


def test_evaluation_logs_its_metrics(bundle, runs):
    assert math.isfinite(of_kind(runs, "evaluate")[0].data.metrics[bundle.settings["metric"]])


def test_local_store_lies_in_output_dir_with_its_files(bundle, chain):
    database = chain.trained / "mlruns.db"
    assert database.is_file()
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name(bundle.name)
    (run,) = client.search_runs(experiment.experiment_id)
    assert run.info.status == "FINISHED"
    assert list((chain.trained / "mlruns" / run.info.run_id / "artifacts" / "configs").glob("config_*.json"))
