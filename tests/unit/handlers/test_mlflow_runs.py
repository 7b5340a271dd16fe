"""Runs against a local MLflow store in a folder with a blank: complete, told apart, closed in every case."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import mlflow
import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.handlers import MLFlowHandler
from python_fork_server import SERVER

from clinbundles.handlers import RunRecord, RunRecorder, local_tracking_uri, tracked_run
from clinbundles.handlers.mlflow_run import artifact_location

BATCHES = [{"image": torch.ones(2, 3), "label": torch.ones(2, 1)}] * 3


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a store")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return local_tracking_uri(str(folder))


@pytest.fixture
def experiment(request):
    return request.node.name


def runs_of(store, experiment):
    client = mlflow.MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    return client, client.search_runs(found.experiment_id, order_by=["attributes.start_time ASC"])


def trainer(store, experiment, output_dir, epochs=2, name=None, loss=None, **record):
    """A trainer as a bundle makes it with --tracking mlflow: MONAI's handler comes last."""
    network = torch.nn.Linear(3, 1)
    description = RunRecord("train", "a_bundle", "1.2.3", str(output_dir), **record)
    monai_handler = MLFlowHandler(
        tracking_uri=store,
        experiment_name=experiment,
        run_name=name,
        output_transform=lambda output: output["loss"],
        tag_name="iteration_loss",
        close_on_complete=True,
    )
    return SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=BATCHES,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=loss or torch.nn.MSELoss(),
        train_handlers=[RunRecorder(description), monai_handler],
        decollate=False,
    )


def test_training_is_one_complete_finished_run(store, experiment, tmp_path):
    (tmp_path / "old.csv").write_text("of an earlier run")
    os.utime(tmp_path / "old.csv", (0, 0))
    engine = trainer(store, experiment, tmp_path, parameters={"seed": 7, "nothing": None}, manifests=["rossa"])
    (tmp_path / "result.csv").write_text("a,b")
    engine.run()
    client, (run,) = runs_of(store, experiment)
    assert run.info.status == "FINISHED"
    assert run.data.tags["clinbundles.kind"] == "train"
    assert run.data.tags["clinbundles.bundle"] == "a_bundle"
    assert run.data.tags["clinbundles.bundle_version"] == "1.2.3"
    assert run.data.params["seed"] == "7"
    assert "nothing" not in run.data.params
    assert len(run.data.params["manifest.rossa.sha256"]) == 64
    assert run.data.params["version.torch"].startswith(torch.__version__.split("+")[0])
    assert [entry.path for entry in client.list_artifacts(run.info.run_id, "tables")] == ["tables/result.csv"]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "learning_rate_0")] == [1, 2]


def test_nothing_is_sent_in_each_iteration_unless_asked(store, experiment, tmp_path):
    trainer(store, experiment, tmp_path).run()
    trainer(store, experiment, tmp_path, each_iteration=True).run()
    client, runs = runs_of(store, experiment)
    counts = [len(client.get_metric_history(run.info.run_id, "iteration_loss")) for run in runs]
    assert counts == [0, 6]


def test_unfinished_and_failed_runs_of_the_same_name_are_not_continued(store, experiment, tmp_path):
    client = mlflow.MlflowClient(store)
    number = client.create_experiment(experiment, artifact_location=artifact_location(store))
    unfinished = client.create_run(number, run_name="same")
    failed = client.create_run(number, run_name="same")
    client.set_terminated(failed.info.run_id, "FAILED")
    trainer(store, experiment, tmp_path, name="same").run()
    _, runs = runs_of(store, experiment)
    assert len(runs) == 3
    for old in (unfinished, failed):
        assert client.get_run(old.info.run_id).data.params == {}


def test_an_error_closes_the_run_as_failed_and_goes_on(store, experiment, tmp_path):
    def broken(prediction, label):
        raise ArithmeticError("loss is broken")

    with pytest.raises(ArithmeticError, match="loss is broken"):
        trainer(store, experiment, tmp_path, loss=broken).run()
    _, (run,) = runs_of(store, experiment)
    assert run.info.status == "FAILED"
    assert "loss is broken" in run.data.tags["clinbundles.end"]


def test_without_tracking_nothing_happens(tmp_path):
    network = torch.nn.Linear(3, 1)
    record = RunRecord("train", "a_bundle", "1.2.3", str(tmp_path))
    engine = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=BATCHES,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=torch.nn.MSELoss(),
        train_handlers=[RunRecorder(record)],
        decollate=False,
    )
    engine.run()
    assert record.run is None
    assert list(tmp_path.iterdir()) == []


def test_claims_are_tracked_by_the_same_tags(store, experiment, tmp_path):
    table = tmp_path / "claim_2.csv"
    table.write_text("method,dice")
    where = {"tracking_uri": store, "experiment": experiment}
    with tracked_run("claims", "a_bundle", **where, version="1.2.3", parameters={"seeds": [0, 1]}) as run:
        run.log_metrics({"dice": torch.tensor(0.5), "text": "no number", "by": {"class": 1}})
        run.log_file(table)
    with pytest.raises(KeyError), tracked_run("claims", "a_bundle", **where):
        raise KeyError("a claim that breaks")
    client, (first, second) = runs_of(store, experiment)
    assert first.data.tags["clinbundles.kind"] == second.data.tags["clinbundles.kind"] == "claims"
    assert first.data.metrics == {"dice": 0.5, "by.class": 1.0}
    assert first.data.params["seeds"] == "[0, 1]"
    assert [entry.path for entry in client.list_artifacts(first.info.run_id, "tables")] == ["tables/claim_2.csv"]
    assert (first.info.status, second.info.status) == ("FINISHED", "FAILED")


def test_an_unknown_kind_is_refused(store):
    wrong = tracked_run("training", "a_bundle", tracking_uri=store, experiment="none")
    with pytest.raises(ValueError, match="kind is 'training': expected one of train, evaluate"), wrong:
        pass


def test_files_lie_beside_the_database_also_with_a_blank_in_its_path(store):
    folder = os.path.dirname(store.removeprefix("sqlite:///"))
    assert " " in folder
    assert artifact_location(store) == artifact_location(store.replace(" ", "%20"))
    assert artifact_location("http://127.0.0.1:5000") is None
    assert os.path.isdir(os.path.join(folder, "mlruns"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes in another way")
def test_a_killed_process_leaves_a_failed_run(store, experiment, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import time\n"
        "from clinbundles.handlers import tracked_run\n"
        f"with tracked_run('train', 'a_bundle', tracking_uri={store!r}, experiment={experiment!r}):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(120)\n"
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(
            [SERVER.python(), str(program)],
            stdout=subprocess.PIPE,
            text=True,
            # a shell starts background jobs with SIGINT ignored, and children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stdout.readline().strip() == "ready"
        time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(timeout=180) != 0
    _, runs = runs_of(store, experiment)
    assert [run.info.status for run in runs] == ["FAILED", "FAILED"]
