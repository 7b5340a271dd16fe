"""One MLflow run: opened with tags that tell its kind, closed on every way out, also when the process is killed.

Everything of this project that logs to MLflow does it here: the bundles through `RunRecorder` (with
`--tracking mlflow`), the claims experiments through `tracked_run`; tags, parameters and folders are the same.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import mlflow
import torch
from mlflow.entities import Metric, Param
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from monai.utils import path_to_uri

from clinbundles.handlers.private_values import without_paths, without_private_message
from clinbundles.handlers.run_process import end_runs_of_dead_processes, process_tags

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "KINDS",
    "MlflowRun",
    "artifact_location",
    "enclosing_run",
    "experiment_number",
    "local_tracking_uri",
    "tracked_run",
]

KINDS = ("train", "evaluate", "inference", "claims", "benchmark", "demo")
TAG_KIND = "clinbundles.kind"
TAG_BUNDLE = "clinbundles.bundle"
TAG_VERSION = "clinbundles.bundle_version"
TAG_END = "clinbundles.end"
TAG_EXPERIMENT_KIND = "mlflow.experimentKind"  # MLflow's pages are made for chat models unless it says otherwise

_FOLDERS = {".csv": "tables", ".md": "tables", ".png": "figures", ".svg": "figures", ".pdf": "figures"}
_LONGEST_PARAMETER = 500  # characters, MLflow's limit for a database store is 6000; longer ones do not read well
_KEY_PACKAGES = ("torch", "monai", "numpy", "pytorch-ignite", "mlflow")

_logger = logging.getLogger("clinbundles")
_enclosing: ContextVar[MlflowRun | None] = ContextVar("enclosing_run", default=None)


def enclosing_run() -> MlflowRun | None:
    """The run of the `tracked_run` block around the caller (in this thread): the parent of runs opened in it."""
    return _enclosing.get()


class MlflowRun:
    """A run that this process has opened and that this process closes.

    Status at the end: `FINISHED` after `finish()`; `FAILED` after `fail()` and also, with the reason in the tag
    `clinbundles.end`, when the process ends without either: an uncaught exception, Ctrl-C or SIGTERM. A process that
    is killed outright (SIGKILL, power cut) can say nothing: the next run on the same machine marks its run.
    A run is always a new one; MONAI's handler would go on with any unfinished run of the experiment.
    Names of folders and files may be names of patients: no parameter and no tag holds a path (`private_values`).

    Args:
        client: MLflow client of the store.
        experiment_id: experiment in that store.
        kind: what the run is, one of `KINDS`.
        bundle: name of the bundle's folder.
        version: version of the bundle.
        name: name of the run; default `<bundle>_<kind>_<date>_<time>`.
        tags: further tags.
        parent: run under which MLflow shows this one; has no effect unless it is one of the same experiment.
    """

    def __init__(
        self,
        client: mlflow.MlflowClient,
        experiment_id: str,
        kind: str,
        bundle: str,
        version: str = "",
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        parent: MlflowRun | None = None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}: expected one of {', '.join(KINDS)}")
        self.client = client
        self.experiment_id = experiment_id
        if TAG_EXPERIMENT_KIND not in client.get_experiment(experiment_id).tags:
            client.set_experiment_tag(experiment_id, TAG_EXPERIMENT_KIND, "custom_model_development")
        end_runs_of_dead_processes(client, experiment_id, TAG_END)
        all_tags = {TAG_KIND: kind, TAG_BUNDLE: bundle, TAG_VERSION: version, **process_tags(), **(tags or {})}
        if parent is not None and parent.is_open and parent.shares_experiment(client, experiment_id):
            all_tags[MLFLOW_PARENT_RUN_ID] = parent.run_id
        run = client.create_run(
            experiment_id=experiment_id,
            run_name=name or f"{bundle}_{kind}_{time.strftime('%Y%m%d_%H%M%S')}",
            tags=all_tags,
        )
        self.entity = run
        self.run_id: str = run.info.run_id
        self.is_open: bool = True
        self._process = os.getpid()
        self._ended_by = "process ended before the run was complete"
        self._previous_sigterm = self._listen_for_sigterm()
        atexit.register(self._process_ends)

    def shares_experiment(self, client: mlflow.MlflowClient, experiment_id: str) -> bool:
        """Whether another run would be in the experiment of this one."""
        return (client.tracking_uri, experiment_id) == (self.client.tracking_uri, self.experiment_id)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log parameters, nested mappings as `outer.inner`; None is left out, paths are replaced by hashes."""
        pairs = [(key, without_paths(key, value)) for key, value in _flatten(parameters) if value is not None]
        flat = [Param(key, str(value)[:_LONGEST_PARAMETER]) for key, value in pairs]
        if flat:
            self.client.log_batch(self.run_id, params=flat)

    def log_metrics(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Log scalars at a step (the epoch in training); anything that is not one number is left out."""
        now = int(time.time() * 1000)
        values = [(key, _scalar(value)) for key, value in _flatten(metrics)]
        entities = [Metric(key, value, now, step) for key, value in values if value is not None]
        if entities:
            self.client.log_batch(self.run_id, metrics=entities)

    def log_file(self, path: str | Path, folder: str | None = None) -> None:
        """Upload a file: tables to `tables/`, pictures to `figures/`, others to the top, unless `folder` is given."""
        self.client.log_artifact(self.run_id, str(path), folder or _FOLDERS.get(Path(path).suffix.lower()))

    def log_json(self, content: Mapping[str, Any], path: str) -> None:
        """Upload plain data as a JSON file."""
        self.client.log_dict(self.run_id, dict(content), path)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Upload a matplotlib figure as `figures/<name>`."""
        self.client.log_figure(self.run_id, figure, f"figures/{name}")

    def log_environment(self) -> None:
        """Log the versions that results depend on as parameters, and all installed packages as `packages.json`."""
        packages = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
        self.log_json(dict(sorted(packages.items(), key=lambda item: str(item[0]))), "packages.json")
        versions = {"version.python": platform.python_version()}
        versions |= {f"version.{name}": packages[name] for name in _KEY_PACKAGES if name in packages}
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({os.cpu_count()} cores)"
        self.log_parameters({**versions, "machine.device": device})

    def set_tag(self, name: str, value: str) -> None:
        """Set a tag of the run."""
        self.client.set_tag(self.run_id, name, value)

    def finish(self) -> None:
        """Close the run as FINISHED."""
        self._close("FINISHED", "completed")

    def fail(self, reason: str) -> None:
        """Close the run as FAILED; the reason is kept in the tag `clinbundles.end`, unless it names a path."""
        self._close("FAILED", without_private_message(reason))

    def _close(self, status: str, reason: str) -> None:
        if not self.is_open or os.getpid() != self._process:
            return
        self.is_open = False
        atexit.unregister(self._process_ends)
        if self._previous_sigterm is not None:
            signal.signal(signal.SIGTERM, self._previous_sigterm)
        try:
            self.set_tag(TAG_END, reason[:_LONGEST_PARAMETER])
        finally:
            self.client.set_terminated(self.run_id, status)

    def _process_ends(self) -> None:
        try:
            self.fail(self._ended_by)
        except Exception as error:  # the server may be gone: nothing may hide the error that ended the process
            _logger.warning("MLflow run %s could not be marked as failed: %s", self.run_id, error)

    def _listen_for_sigterm(self) -> Any:
        """Turn SIGTERM, which ends Python without a word, into SystemExit, unless somebody else listens already."""
        if threading.current_thread() is not threading.main_thread():
            return None
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return None
        return signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:  # a forked worker
            os._exit(128 + number)
        self._ended_by = "killed by SIGTERM"
        raise SystemExit(128 + number)


@contextmanager
def tracked_run(
    kind: str,
    bundle: str,
    *,
    tracking_uri: str,
    experiment: str,
    version: str = "",
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[MlflowRun]:
    """An MLflow run around a piece of plain Python, such as a claim's experiment; FAILED when the block raises.

    Runs that are opened inside the block (by another `tracked_run`, or by a bundle's `RunRecorder`) in the same
    experiment become its children: MLflow lists them under it.

    Args:
        kind: one of `KINDS`.
        bundle: name of the bundle's folder.
        tracking_uri: `sqlite:////absolute/mlruns.db` or `http://host:port`; the environment variable
            `MLFLOW_TRACKING_URI` wins, as it does in MONAI.
        experiment: name of the experiment, made if it does not exist.
        version: version of the bundle.
        name: name of the run.
        parameters: logged at the start.
        tags: further tags, e.g. `{"clinbundles.claim": "2"}`.

    Example:
        >>> with tracked_run("claims", "my_bundle", tracking_uri=uri, experiment="claims") as run:
        ...     run.log_metrics({"dice": 0.8})
        ...     run.log_file("claim_2.csv")
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri
    client = mlflow.MlflowClient(tracking_uri=uri)
    number = experiment_number(client, experiment)
    run = MlflowRun(client, number, kind, bundle, version, name, tags, parent=enclosing_run())
    token = _enclosing.set(run)
    try:
        run.log_environment()
        run.log_parameters(parameters or {})
        yield run
    except BaseException as error:
        run.fail(f"{type(error).__name__}: {error}")
        raise
    finally:
        _enclosing.reset(token)
    run.finish()


def local_tracking_uri(output_dir: str) -> str:
    """Address of the SQLite store `mlruns.db` in a folder: the `tracking_uri` of a bundle's configs.

    MONAI's own default writes %20 for a blank, and MLflow then makes a folder of that name beside the right one.
    """
    return f"sqlite:///{Path(output_dir).absolute().as_posix()}/mlruns.db"


def artifact_location(tracking_uri: str) -> str | None:
    """Where a new experiment keeps its files: in `mlruns` beside an SQLite database; None leaves it to the server."""
    if not tracking_uri.startswith("sqlite:///"):
        return None
    database = Path(unquote(tracking_uri[len("sqlite:///") :]))  # blanks are %20 in the URI, not in the folder
    return path_to_uri(database.parent / "mlruns")


def experiment_number(client: mlflow.MlflowClient, name: str) -> str:
    """Id of an experiment, which is made if it does not exist."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    return str(client.create_experiment(name, artifact_location=artifact_location(client.tracking_uri)))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _scalar(value: Any) -> float | None:
    if isinstance(value, torch.Tensor):
        value = value.item() if value.numel() == 1 else None
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None
