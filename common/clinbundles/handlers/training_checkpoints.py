"""What a training leaves on disk: the best weights, to be used, and its whole state, to be continued."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from ignite.engine import Engine, Events
from torch.nn.parallel import DataParallel, DistributedDataParallel

from clinbundles.data.atomic_file import atomic_path

__all__ = ["TrainingCheckpoints"]

_logger = logging.getLogger("clinbundles")


class TrainingCheckpoints:
    """Saves `model.pt` (weights with the best key metric) and `last.pt` (everything needed to continue), and resumes.

    Until the first validation `model.pt` is the latest.

    `last.pt` holds `{"model", "optimizer", "lr_scheduler", "trainer", "best"}`; `model.pt` is the bare state dict, the
    one form that MONAI's `CheckpointLoader`, `ckpt_export`, MONAI Label and MONAI Deploy all read by themselves. Both
    are written completely under another name and then renamed, so that a killed run never leaves half a file. Rank 0
    writes, all ranks read.
    Place it in the trainer's handlers after the `ValidationHandler`.

    Args:
        ckpt_dir: folder of the two files.
        network: network, wrapped by DistributedDataParallel or not: its own weights are saved.
        optimizer: optimizer of the trainer.
        lr_scheduler: scheduler that the run steps, if any.
        validator: evaluator whose key metric decides what is best; without it `model.pt` is the latest.
        resume_from: file to start from. `last.pt` continues the run at the next epoch; a file with weights only gives
            the start of a new training (fine-tuning).

    Raises:
        FileNotFoundError: `resume_from` does not exist.
        ValueError: the run to continue has already had all of its epochs.
    """

    def __init__(
        self,
        ckpt_dir: str,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any = None,
        validator: Engine | None = None,
        resume_from: str | None = None,
    ) -> None:
        self.ckpt_dir = Path(ckpt_dir)
        wrapped = isinstance(network, (DistributedDataParallel, DataParallel))
        self.network: torch.nn.Module = network.module if wrapped else network
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.validator = validator
        self.resume_from = Path(resume_from) if resume_from else None

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)

    def started(self, engine: Engine) -> None:
        """Load `resume_from` into the network, and into everything else if it is a whole state."""
        if self.resume_from is None:
            return
        if not self.resume_from.is_file():
            raise FileNotFoundError(f"no checkpoint to resume from: {self.resume_from} does not exist")
        device = next(self.network.parameters()).device
        state = torch.load(self.resume_from, map_location=device, weights_only=True)
        self.restore(engine, state)

    def restore(self, engine: Engine, state: dict[str, Any]) -> None:
        """Go on from the content of `resume_from`."""
        self.network.load_state_dict(state.get("model", state))
        if "trainer" not in state:
            _logger.info("Start from the weights in %s; the training itself starts anew.", self.resume_from)
            return
        epoch = int(state["trainer"]["epoch"])
        if engine.state.max_epochs is not None and epoch >= engine.state.max_epochs:
            raise ValueError(
                f"{self.resume_from} has already had {epoch} epochs and the run asks for {engine.state.max_epochs}: "
                "ask for more epochs, or evaluate it"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        if self.lr_scheduler is not None:
            self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        engine.state.epoch = epoch
        engine.state.iteration = epoch * (engine.state.epoch_length or 0)
        if self.validator is not None:
            self.validator.state.best_metric = state["best"]["metric"]
            self.validator.state.best_metric_epoch = state["best"]["epoch"]
        _logger.info("Resume after epoch %d from %s.", epoch, self.resume_from)

    def epoch_completed(self, engine: Engine) -> None:
        """Save the state, and the weights if they are the best so far."""
        if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        best = {"metric": -1.0, "epoch": -1}
        if self.validator is not None:
            best["metric"] = float(getattr(self.validator.state, "best_metric", -1.0))
            best["epoch"] = int(getattr(self.validator.state, "best_metric_epoch", -1))
        self._save(self.state(engine, best), "last.pt")
        if self.validator is None or best["epoch"] in (-1, engine.state.epoch):
            self._save(self.weights(engine), "model.pt")

    def state(self, engine: Engine, best: dict[str, Any]) -> dict[str, Any]:
        """What `last.pt` holds."""
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict() if self.lr_scheduler is not None else {},
            "trainer": {"epoch": engine.state.epoch, "iteration": engine.state.iteration},
            "best": best,
        }

    def weights(self, engine: Engine) -> dict[str, Any]:
        """What `model.pt` holds."""
        return self.network.state_dict()

    def _save(self, content: dict[str, Any], name: str) -> None:
        with atomic_path(self.ckpt_dir / name) as draft:
            torch.save(content, draft)
