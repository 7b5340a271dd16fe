"""What a private training says of itself: the privacy that it has spent, and its loss to nobody outside."""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events

from clinbundles.data.atomic_file import atomic_path
from clinbundles.privacy.accounting.statement import STATEMENT_FILE, PrivacyStatement, write_statement

__all__ = ["PrivateTraining"]

_logger = logging.getLogger("clinbundles")


class PrivateTraining:
    """After each epoch of a `PrivateTrainer`: epsilon, the privacy statement, and the loss in a file that stays here.

    The statement `privacy_statement.json` lies beside the weights and counts all steps so far, also where the best
    epoch was an earlier one: choosing it has used the others. The metric `epsilon` goes where metrics go
    (`history.csv`, MLflow). The mean training loss is computed from private data without noise: it is written to
    `private/training_loss.csv` in the output folder, which is never uploaded.
    Place it before `EpochReport` and before the checkpoints.

    Args:
        output_dir: output folder of the run.
        ckpt_dir: folder of the weights.
        copies: how many units the most repeated image is in (1: no duplicates); None when nobody looked.
        release_loss: also give the loss to the metrics, as `train_loss_private`: no statement covers it then.
    """

    def __init__(self, output_dir: str, ckpt_dir: str, copies: int | None = None, release_loss: bool = False) -> None:
        self.ckpt_dir = Path(ckpt_dir)
        self.copies = copies
        self.path = Path(output_dir) / "private" / "training_loss.csv"
        self.release_loss = release_loss
        self._total = [0.0, 0.0]

    def attach(self, engine: Any) -> None:
        """Register on the trainer."""
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(Events.EPOCH_STARTED, self.epoch_started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.iteration_completed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)

    def started(self, engine: Any) -> None:
        """Say what is planned."""
        plan = engine.plan
        if not plan.is_private:
            _logger.info("No privacy budget (epsilon: inf): the weights are not private.")
            return
        _logger.info(
            "Planned: epsilon %g at delta %.3g for each %s of %d; %d steps, each %s drawn with probability %.4g, "
            "clipping norm %g, noise multiplier %.4g.",
            *(plan.epsilon, plan.delta, plan.unit, plan.units, plan.steps, plan.unit, plan.sample_rate),
            *(plan.max_grad_norm, plan.noise_multiplier),
        )

    def epoch_started(self, engine: Any) -> None:
        """Begin a new mean."""
        self._total = [0.0, 0.0]

    def iteration_completed(self, engine: Any) -> None:
        """Add a step's loss; an empty batch has none."""
        if not math.isnan(engine.state.private_loss):
            self._total = [self._total[0] + engine.state.private_loss, self._total[1] + 1]

    def epoch_completed(self, engine: Any) -> None:
        """Epsilon with its statement, and the mean loss of all processes."""
        noise = engine.optimizer.randomness
        statement = PrivacyStatement.from_ledger(engine.plan, engine.ledger, noise, copies=self.copies)
        if engine.plan.is_private:
            engine.state.metrics["epsilon"] = statement.epsilon
        total = torch.tensor(self._total, dtype=torch.float64, device=engine.state.device)
        first = True
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)
            first = dist.get_rank() == 0
        loss = float(total[0] / total[1])
        if self.release_loss:
            engine.state.metrics["train_loss_private"] = loss
        if first:
            write_statement(statement, self.ckpt_dir / STATEMENT_FILE)
            self._write(engine.state.epoch, loss)

    def _write(self, epoch: int, loss: float) -> None:
        rows = []
        if epoch > 1 and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))[1:epoch]
        with atomic_path(self.path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["epoch", "train_loss_private"], *rows, [epoch, loss]])
