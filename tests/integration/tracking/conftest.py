"""A local MLflow store and a real MLflow server, shared by the tests of tracking."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
import torch
from ignite.engine import Events
from mlflow.entities import Run
from monai.engines import SupervisedTrainer
from monai.handlers import MLFlowHandler

from clinbundles.handlers import RunRecord, RunRecorder, local_tracking_uri

BATCHES = [{"image": torch.ones(2, 3), "label": torch.ones(2, 1)}] * 2


@pytest.fixture(scope="session", autouse=True)
def no_other_store() -> None:
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[], str]]:
    """Starts at once, so that it is ready when a later test asks for its address."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/runs.db"]
        command += ["--artifacts-destination", f"{folder}/files"]
        log = Path(folder, "server.log")
        with log.open("wb") as file:
            environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # judges of language models
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=file, stderr=file, start_new_session=True
            )
        address = f"http://127.0.0.1:{port}"

        def ready() -> str:
            end = time.time() + 240
            while time.time() < end and process.poll() is None:
                try:
                    with urllib.request.urlopen(f"{address}/health", timeout=5):
                        return address
                except (urllib.error.URLError, OSError):
                    time.sleep(0.3)
            pytest.fail(f"the MLflow server did not become ready:\n{log.read_text()[-2000:]}")

        yield ready
        os.killpg(process.pid, 15)  # the server and its workers, which are its own process group
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def store(server: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    return local_tracking_uri(str(tmp_path_factory.mktemp("a store")))


@pytest.fixture
def runs_of(store: str) -> Callable[[str], list[Run]]:
    """Runs of an experiment in the order of their start."""

    def runs(experiment: str) -> list[Run]:
        client = mlflow.MlflowClient(store)
        number = client.get_experiment_by_name(experiment).experiment_id
        return client.search_runs(number, order_by=["attributes.start_time ASC"])

    return runs


@pytest.fixture
def train(store: str) -> Callable[..., None]:
    """A short training as a bundle does it with --tracking mlflow; `weights` is what it writes as models/model.pt."""

    def run(
        output_dir: Path,
        experiment: str,
        bundle: str = "a_bundle",
        weights: dict[str, torch.Tensor] | None = None,
        config: str | None = None,
        uri: str = store,
        **record: object,
    ) -> None:
        network = torch.nn.Linear(3, 1)
        recorder = RunRecorder(RunRecord("train", bundle, "1.2.3", str(output_dir), **record))
        handler = MLFlowHandler(uri, experiment_name=experiment, artifacts=config, close_on_complete=True)
        engine = SupervisedTrainer(
            device="cpu",
            max_epochs=1,
            train_data_loader=BATCHES,
            network=network,
            optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
            loss_function=torch.nn.MSELoss(),
            train_handlers=[Writer(output_dir / "models" / "model.pt", weights), recorder, handler],
            decollate=False,
        )
        engine.run()

    return run


class Writer:
    """Stands for the handler that saves a training's weights."""

    def __init__(self, path: Path, weights: dict[str, torch.Tensor] | None) -> None:
        self.path, self.weights = path, weights

    def attach(self, engine: SupervisedTrainer) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def write(self, engine: SupervisedTrainer) -> None:
        if self.weights is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(self.weights, self.path)
