"""Every folder of bundles/, what runs it as users do, and the one chain of runs that the tests share.

A bundle joins the suite by existing. What is special about it stands in tests/bundles/<bundle>/conformity.yaml: the
overrides that make it small, and where input for inference comes from: `key` of the cases, or a list of keys, whose
files are then the folder of an exam. Each split needs two cases, one for each of two processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundle_images import copy_input
from python_fork_server import SERVER

from clinbundles.data import datalist

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(file.parent.parent.name for file in (ROOT / "bundles").glob("*/configs/metadata.json"))
TIMEOUT_S = 300

READ_ONLY_MOUNT = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder and its settings for this suite."""

    name: str
    root: Path = field(default=Path())

    @cached_property
    def settings(self) -> dict[str, Any]:
        folder = ROOT / "tests" / "bundles" / self.name
        settings = yaml.safe_load((folder / "conformity.yaml").read_text(encoding="utf-8"))
        for part in ("train", "evaluate", "inference", "inference_input"):
            for key, value in settings[part].items():
                if value in settings["manifests"]:
                    settings[part][key] = str(folder / value)
        return settings

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return json.loads((self.root / "configs" / "metadata.json").read_text(encoding="utf-8"))

    @property
    def is_private(self) -> bool:
        """Whether its training is differentially private: it then keeps the training loss to itself."""
        return bool(self.settings.get("private"))

    @property
    def progress(self) -> str:
        """What the training reports once an epoch."""
        return "epsilon" if self.is_private else "train_loss"

    def config(self, *names: str) -> str:
        """Value of --config_file for configs of this bundle."""
        paths = [str(self.root / "configs" / f"{name}.yaml") for name in names]
        return paths[0] if len(paths) == 1 else str(paths)


@pytest.fixture(scope="session", params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """Each bundle in its place in the checkout."""
    return Bundle(request.param, ROOT / "bundles" / request.param)


@dataclass
class Job:
    """A command that runs in a process of its own."""

    process: subprocess.Popen[str]
    started: float

    def output(self) -> str:
        """Wait for the end; standard output and errors together."""
        try:
            text, _ = self.process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            text, _ = self.process.communicate()
            pytest.fail(f"took more than {TIMEOUT_S} s:\n{text[-3000:]}")
        return text

    def succeed(self) -> str:
        """Wait for the end, which must be exit code 0."""
        text = self.output()
        assert self.process.returncode == 0, f"exit code {self.process.returncode}:\n{text[-4000:]}"
        return text

    def fail(self) -> str:
        """Wait for the end, which must be another exit code than 0."""
        text = self.output()
        assert self.process.returncode != 0, f"exit code 0 in spite of the mistake:\n{text[-3000:]}"
        return text


def start(command: Sequence[str], folder: Path, locked: Path | None = None) -> Job:
    """Start a command in `folder`; `locked` is mounted read-only for it where this user may do so."""
    words = list(command)
    if locked is not None and may_mount():
        words = ["unshare", "--mount", "sh", "-c", READ_ONLY_MOUNT, "sh", str(locked), *words]
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
        "MONAI_FAIL_ON_DUPLICATE_CONFIG": "1",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "NO_PROXY": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        words, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return Job(process, time.time())


def may_mount() -> bool:
    """Whether a read-only mount can be made: as root with the right to it. Other users are bound by permissions."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def content_hash(folder: Path) -> str:
    """SHA-256 over names, sizes and contents of all files of a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(f"{path.relative_to(folder)}\n".encode())
        if path.is_file():
            total.update(path.read_bytes())
    return total.hexdigest()


def overrides(values: dict[str, Any]) -> list[str]:
    """Command-line words that set config ids."""
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


@dataclass
class Server:
    """The MLflow server of the suite."""

    uri: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self, seconds: float = 240.0) -> str:
        """Wait until the server is ready and give its address."""
        end = time.time() + seconds
        while time.time() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return self.uri
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        pytest.fail(f"the MLflow server did not become ready:\n{self.log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real MLflow server on loopback with an SQLite store, as a hospital would start it."""
    folder = tmp_path_factory.mktemp("mlflow_server")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "files")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # nine processes that judge language models
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        yield Server(f"http://127.0.0.1:{port}", process, log)
        os.killpg(process.pid, 15)  # the server and its workers, which are its own process group
        process.wait(timeout=30)


@dataclass(frozen=True)
class SmallData:
    """Simulated sets of a bundle's quick runs, and the input folder of its inference."""

    sets: Path
    inputs: Path


@pytest.fixture(scope="session")
def small_data(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    """Made once, on paths with blanks."""
    folder = tmp_path_factory.mktemp(f"{bundle.name} data")
    data = SmallData(folder / "simulated data", folder / "input images")
    chosen = bundle.settings["inference_input"]
    data.inputs.mkdir()
    for case in datalist(chosen["manifest"], data.sets, chosen["split"], progress=False):
        copy_input(case, chosen["key"], data.inputs / f"case {case['case']}")
    return data


@dataclass
class Chain:
    """What a bundle's runs left: train -> evaluate -> inference -> export, resume, two processes, and mistakes."""

    bundle: Bundle  # a copy in a folder with a blank, read-only for the runs
    folder: Path
    server_uri: str
    hash_before: str
    experiment: str
    data: SmallData
    log: dict[str, str] = field(default_factory=dict)

    @property
    def trained(self) -> Path:
        return self.folder / "training results"

    @property
    def weights(self) -> Path:
        return self.trained / "models" / "model.pt"

    def hash_now(self) -> str:
        return content_hash(self.bundle.root)

    def write_into_bundle(self) -> Job:
        """What a run that writes into its bundle would meet."""
        return start(["touch", str(self.bundle.root / "written")], self.folder, locked=self.bundle.root)

    def can_lock(self) -> bool:
        """Root is not bound by permissions: without the right to mount there is only the hash."""
        return os.geteuid() != 0 or may_mount()


@pytest.fixture(scope="session")
def chain(
    bundle: Bundle, small_data: SmallData, mlflow_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Chain:
    """Run everything once, two processes at a time, each from its own working directory, on paths with blanks.

    The first training is started as a user does; for the others Python is imported already (python_fork_server.py).
    """
    folder = tmp_path_factory.mktemp(bundle.name) / "with blanks"
    copy = Bundle(bundle.name, folder / "a bundle" / bundle.name)
    shutil.copytree(bundle.root, copy.root, ignore=shutil.ignore_patterns("__pycache__"))
    if os.geteuid() != 0:
        for path in [copy.root, *copy.root.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)
    data = small_data.sets
    chain = Chain(copy, folder, mlflow_server.uri, content_hash(copy.root), f"{bundle.name} suite", small_data)

    python = SERVER.python()

    def run(
        place: str, configs: Sequence[str], values: dict[str, Any], launch: Sequence[str] = (), python: str = python
    ) -> Job:
        command = [python, *launch, "-m", "monai.bundle", "run", "--bundle_root", str(copy.root)]
        command += ["--config_file", copy.config(*configs), *overrides(values)]
        return start(command, folder / "elsewhere" / place, locked=copy.root)

    train = {**bundle.settings["train"], "dataset_dir": data}
    tracked = {"tracking": "mlflow", "tracking_uri": mlflow_server.uri, "experiment_name": chain.experiment}

    misspelt = run("misspelt", ["train"], {**train, "output_dir": folder / "misspelt", "epoch": 3})
    mlflow_server.wait()
    once = {**train, **tracked, "epochs": 1}
    training = run(
        "train", ["train"], {**once, "output_dir": chain.trained, "run_name": "first"}, python=sys.executable
    )
    chain.log["misspelt"] = misspelt.fail()
    nowhere = {**bundle.settings["inference"], "dataset_dir": folder / "nowhere", "output_dir": folder / "never"}
    missing = run("missing", ["inference"], nowhere)
    chain.log["train"] = training.succeed()
    shutil.copytree(chain.trained, folder / "first training")

    again = {**train, "output_dir": chain.trained, "epochs": 2, "resume": "True", "tracking": "mlflow"}
    resumed = run("resume", ["train"], again)
    chain.log["missing"] = missing.fail()
    evaluate = {**bundle.settings["evaluate"], **tracked, "dataset_dir": data, "ckpt": chain.weights}
    evaluate["output_dir"] = folder / "evaluation results"
    evaluate["ckpt"] = folder / "first training" / "models" / "model.pt"
    evaluation = run("evaluate", ["train", "evaluate"], {**evaluate, "run_name": "second"})
    chain.log["resume"] = resumed.succeed()
    infer = {**bundle.settings["inference"], **tracked, "dataset_dir": small_data.inputs, "ckpt_path": chain.weights}
    inference = run("inference", ["inference"], {**infer, "output_dir": folder / "inference results"})
    chain.log["evaluate"] = evaluation.succeed()

    export = [python, "-m", "monai.bundle", "ckpt_export", "--bundle_root", str(copy.root)]
    export += ["--config_file", copy.config("inference"), "--ckpt_file", str(chain.weights)]
    export += ["--filepath", str(folder / "exported" / "model.ts")]
    (folder / "exported").mkdir()
    exported = start(export, folder / "elsewhere" / "export", locked=copy.root)
    chain.log["inference"] = inference.succeed()
    chain.log["export"] = exported.succeed()

    two = ["-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc_per_node=2"]
    both = {**once, "output_dir": folder / "two processes", "run_name": "third"}
    chain.log["torchrun"] = run("torchrun", ["train", "multi_gpu_train"], both, two).succeed()
    divided = {**bundle.settings["inference"], "dataset_dir": small_data.inputs, "ckpt_path": chain.weights}
    divided["output_dir"] = folder / "divided inference"
    chain.log["divided"] = run("divided", ["inference", "multi_gpu_inference"], divided, two).succeed()
    return chain
