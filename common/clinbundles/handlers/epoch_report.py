"""One line per epoch, on screen and in a table."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from typing import Any

import torch.distributed
from ignite.engine import Engine, Events
from ignite.metrics import Average
from monai.engines import Trainer

from clinbundles.data.atomic_file import atomic_path

__all__ = ["EpochReport"]

_logger = logging.getLogger("clinbundles")


class EpochReport:
    """Says after each epoch what was reached, and at the end where the results are.

    The line and the row of `history.csv` hold the mean loss (`train_loss`; not of a private training) and the trainer's
    other metrics, the learning rate, the validator's metrics if it ran in this epoch (prefix `val_`), and the seconds.
    A resumed run continues the table that it finds.
    Place it after the `ValidationHandler`. On an evaluator that runs alone it prints that evaluator's metrics and
    leaves tables to others.

    Args:
        output_dir: where `history.csv` is written.
        validator: the engine that validates during training.
    """

    def __init__(self, output_dir: str, validator: Engine | None = None) -> None:
        self.output_dir = Path(output_dir)
        self.validator = validator
        self._rows: list[dict[str, Any]] | None = None
        self._start = 0.0
        self._rate = 0.0

    def attach(self, engine: Engine) -> None:
        """Register on the trainer, which also gets the metric `train_loss`, or on an evaluator that runs alone."""
        if _trains(engine) and not getattr(engine, "keeps_loss_private", False):  # on every rank: the mean of them all
            Average(output_transform=_loss).attach(engine, "train_loss")
        if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self.epoch_started)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)
        engine.add_event_handler(Events.COMPLETED, self.completed)

    def epoch_started(self, engine: Engine) -> None:
        """Start the clock, and note the learning rate before a scheduler changes it."""
        if self._rows is None:
            self._rows = self._earlier_rows(engine.state.epoch) if _trains(engine) else []
        self._start = time.perf_counter()
        self._rate = engine.optimizer.param_groups[0]["lr"] if _trains(engine) else 0.0

    def epoch_completed(self, engine: Engine) -> None:
        """Print the line and write the table."""
        row: dict[str, Any] = {"epoch": engine.state.epoch} if _trains(engine) else {}
        row |= {name: value for name, value in engine.state.metrics.items() if _is_number(value)}
        if _trains(engine):
            row["learning_rate"] = self._rate
        if self.validator is not None and self.validator.state.epoch == engine.state.epoch:
            metrics = self.validator.state.metrics.items()
            row |= {f"val_{name.removeprefix('val_')}": value for name, value in metrics if _is_number(value)}
        row["seconds"] = round(time.perf_counter() - self._start, 2)
        self._rows = [*(self._rows or []), row]
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
        prefix = f"epoch {engine.state.epoch}/{engine.state.max_epochs}  " if _trains(engine) else ""
        _logger.info("%s%s", prefix, shown)
        if _trains(engine):
            self._write(self._rows)

    def completed(self, engine: Engine) -> None:
        """Say where the results are."""
        files = sorted(path.name for path in self.output_dir.iterdir()) if self.output_dir.is_dir() else []
        _logger.info("Done. Results in %s: %s", self.output_dir.resolve(), ", ".join(files))

    def _earlier_rows(self, epoch: int) -> list[dict[str, Any]]:
        """Rows of the epochs that a resumed run has behind it."""
        path = self.output_dir / "history.csv"
        if epoch < 2 or not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if int(row["epoch"]) < epoch]

    def _write(self, rows: list[dict[str, Any]]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        path = self.output_dir / "history.csv"
        with atomic_path(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def _loss(output: Any) -> Any:
    """The batch's loss; MONAI repeats it for each item when it takes a batch apart."""
    return (output[0] if isinstance(output, (list, tuple)) else output)["loss"]


def _trains(engine: Engine) -> bool:
    return isinstance(engine, Trainer)  # a trainer has no optimizer yet while handlers attach


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
