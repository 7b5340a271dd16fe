"""What a bundle's run tells MLflow: parameters, losses, metrics, configs, tables, figures, versions, data.

`--tracking mlflow` appends MONAI's `MLFlowHandler` to the engines' handlers. It sends two requests per iteration, loses
the executed config when `output_dir` is a literal, keeps files elsewhere when the path has blanks, and goes on with any
unfinished run of the experiment, be it another process's. `RunRecorder`, last in a bundle's own handler lists, finds it
on the engine and gives it a run of its own, complete and closed in every case. Without `--tracking` it finds nothing
and does nothing.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

from clinbundles.command_line_overrides import command_line_arguments, command_line_overrides
from clinbundles.data.content_hash import file_hash, manifest_hash
from clinbundles.handlers.mlflow_run import MlflowRun, artifact_location, enclosing_run
from clinbundles.handlers.private_values import config_without_paths, holds_path

__all__ = ["TAG_WEIGHTS", "RunRecord", "RunRecorder"]

TAG_WEIGHTS = "clinbundles.weights_sha256"
"""SHA-256 of the weights that a training has written: by it the model registry finds the run they come from."""

_NOT_LOGGED = ("tracking_uri",)  # may hold a password, and the run is found there
_EXECUTED_CONFIG = re.compile(r"config_\d{8}_\d{6}\.json")

_logger = logging.getLogger("clinbundles")


class RunRecord:
    """Describes one run for MLflow; shared by the `RunRecorder`s of its engines.

    Args:
        kind: "train", "evaluate" or "inference"; becomes a tag.
        bundle: name of the bundle's folder; becomes a tag.
        version: version of the bundle (`@_meta_::version`); becomes a tag.
        output_dir: where the run writes its results.
        parameters: what the run was started with (seed, epochs, ...); the command line's overrides are added.
        manifests: data sets used, as `clinbundles.data.datalist` takes them; the SHA-256 of each is logged.
        artifacts: patterns below `output_dir` of the results to upload at the end; only files that the run wrote.
        most_files: at most this many files per pattern (a folder of 1,000 studies writes 1,000 figures).
        each_iteration: also log loss and learning rate in every iteration (two requests each), as MONAI does.
    """

    def __init__(
        self,
        kind: str,
        bundle: str,
        version: str,
        output_dir: str,
        parameters: Mapping[str, Any] | None = None,
        manifests: Sequence[str] = (),
        artifacts: Sequence[str] = ("*.csv", "*.png", "models/privacy_statement.json"),
        most_files: int = 20,
        each_iteration: bool = False,
    ) -> None:
        self.kind = kind
        self.bundle = bundle
        self.version = version
        self.output_dir = Path(output_dir)
        self.parameters = dict(parameters or {})
        self.manifests = tuple(manifests)
        self.artifacts = tuple(artifacts)
        self.most_files = most_files
        self.each_iteration = each_iteration
        self.run: MlflowRun | None = None
        self.owner: Engine | None = None
        self.handlers: list[MLFlowHandler] = []
        self._opened = 0.0

    def open(self, engine: Engine, handler: MLFlowHandler) -> MlflowRun:
        """Give `handler` the run of this record. The first engine that starts opens it and its end closes it."""
        # MONAI takes the blanks of an SQLite address for part of the folder's name
        handler.artifact_location = artifact_location(handler.client.tracking_uri) or handler.artifact_location
        handler._set_experiment()
        if self.run is None:
            self._opened = time.time()
            experiment_id = str(handler.experiment.experiment_id)
            self.run = MlflowRun(
                handler.client,
                experiment_id,
                self.kind,
                self.bundle,
                self.version,
                name=handler.run_name,
                parent=enclosing_run(),
            )
            self.owner = engine
            self.run.log_environment()
            given = command_line_overrides().items()
            overrides = {f"override.{name}": value for name, value in given if name not in _NOT_LOGGED}
            manifests = {f"manifest.{Path(name).stem}.sha256": manifest_hash(name) for name in self.manifests}
            self.run.log_parameters({**self.parameters, **manifests, **overrides})
        handler.cur_run = self.run.entity
        if handler not in self.handlers:
            self._upload_configs(handler)
            handler.artifacts = ()
            self.handlers.append(handler)
        return self.run

    def close(self, failure: str | None = None) -> None:
        """Upload what the run wrote, close it, and let MONAI's handlers forget it."""
        if self.run is None:
            return
        run, self.run, self.owner = self.run, None, None
        try:
            if failure is None:
                self._upload_results(run)
                run.finish()
            else:
                run.fail(failure)
        finally:
            for handler in self.handlers:
                handler.cur_run = None
                handler.close()  # releases the SQLite file
            self.handlers.clear()

    def _upload_configs(self, handler: MLFlowHandler) -> None:
        """The executed config that MONAI wrote into `output_dir`, and its source files, without paths."""
        assert self.run is not None
        names = [match[0] for text in handler.artifacts for match in _EXECUTED_CONFIG.finditer(str(text or ""))]
        given = command_line_arguments()
        if not names and given.get("save_execute_config", True):  # MONAI's handler of a validator is not told the file
            names = sorted(path.name for path in self.output_dir.glob("config_*.json"))[-1:]
        files = given.get("config_file") or ()
        sources = [str(file) for file in (files if isinstance(files, (list, tuple)) else [files])] if names else []
        for name in names:
            executed = self.output_dir / name
            if executed.is_file():
                content = json.loads(executed.read_text(encoding="utf-8"))
                self.run.log_json(config_without_paths(content, leave_out=_NOT_LOGGED), f"configs/{name}")
        for path in map(Path, sources):
            if path.is_file() and holds_path(path.read_text(encoding="utf-8")):
                _logger.info("MLflow does not get %s: it holds an absolute path.", path.name)
            elif path.is_file():
                self.run.log_file(path, "configs")

    def _upload_results(self, run: MlflowRun) -> None:
        weights = self.output_dir / "models" / "model.pt"  # by the contract of every train.yaml
        if self.kind == "train" and self._is_new(weights):
            run.set_tag(TAG_WEIGHTS, file_hash(weights))
        for pattern in self.artifacts:
            found = [path for path in sorted(self.output_dir.glob(pattern)) if self._is_new(path)]
            for path in found[: self.most_files]:
                run.log_file(path)
            if len(found) > self.most_files:
                _logger.info(
                    "MLflow gets %d of %d files that match %s in %s.",
                    self.most_files,
                    len(found),
                    pattern,
                    self.output_dir,
                )

    def _is_new(self, path: Path) -> bool:
        return path.is_file() and path.stat().st_mtime >= self._opened - 1


class RunRecorder:
    """Keeps MONAI's `MLFlowHandler` on one well described run. Put it last in each engine's list of handlers.

    Args:
        record: the run's description, one object for all engines of the run.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    def attach(self, engine: Engine) -> None:
        """Register on an engine, before MONAI appends its own handler."""
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(Events.EPOCH_STARTED, self.epoch_started)
        engine.add_event_handler(Events.COMPLETED, self.completed)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.failed)

    def started(self, engine: Engine) -> None:
        """Open the run, or join the one that the run's first engine has opened."""
        handler = _mlflow_handler(engine)
        if handler is None:
            return
        self.record.open(engine, handler)
        if not self.record.each_iteration and engine.has_event_handler(handler.iteration_completed):
            engine.remove_event_handler(handler.iteration_completed, Events.ITERATION_COMPLETED)

    def epoch_started(self, engine: Engine) -> None:
        """Log the learning rates once an epoch; losses and metrics are logged by MONAI's handler at its end."""
        optimizer = getattr(engine, "optimizer", None)
        if self.record.run is None or optimizer is None:
            return
        rates = {f"learning_rate_{index}": group["lr"] for index, group in enumerate(optimizer.param_groups)}
        self.record.run.log_metrics(rates, step=engine.state.epoch)

    def completed(self, engine: Engine) -> None:
        """Close the run when the engine that opened it is done."""
        if engine is self.record.owner:
            self.record.close()

    def failed(self, engine: Engine, error: BaseException) -> None:
        """Close the run as FAILED and let the error go on."""
        if engine is self.record.owner:
            self.record.close(f"{type(error).__name__}: {error}")
        handlers = engine._event_handlers[Events.EXCEPTION_RAISED]
        if handlers and handlers[-1][0] == self.failed:
            raise error  # an exception that has a handler is swallowed by ignite; earlier ones get their turn first


def _mlflow_handler(engine: Engine) -> MLFlowHandler | None:
    """MONAI's handler on this engine: on rank 0 and with `--tracking` there is one."""
    for handler, *_ in engine._event_handlers[Events.STARTED]:
        owner = getattr(handler, "__self__", None)
        if isinstance(owner, MLFlowHandler):
            return owner
    return None
