"""What a private training leaves on disk: as any training, and the privacy that it has spent."""

from __future__ import annotations

import logging
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch.optim import Optimizer

from clinbundles.data.content_hash import json_hash
from clinbundles.handlers.training_checkpoints import TrainingCheckpoints

__all__ = ["PrivateCheckpoints"]

_logger = logging.getLogger("clinbundles")


class PrivateCheckpoints(TrainingCheckpoints):
    """`TrainingCheckpoints` of a `PrivateTrainer`: `last.pt` also holds plan, ledger, noise, average and data.

    A resumed training spends on where the broken one stopped, and with seeded noise ends with the same weights, bit for
    bit, as one that was never broken (random transforms of the dataset aside: they start anew). The epoch in which a
    run was killed is made again, with fresh noise where the noise is secure: if it was killed between the report of an
    epoch and this checkpoint, that epoch's validation has been seen twice but is counted once. `model.pt` is the moving
    average.

    Args:
        ckpt_dir: folder of `model.pt` and `last.pt`.
        network: the trained network.
        optimizer: the private optimizer.
        dataset: what the training data are, e.g. `clinbundles.data.datalist_fingerprint`; a resumed training must
            have the same.
        lr_scheduler: scheduler that the run steps, if any.
        validator: evaluator whose key metric decides what is best.
        resume_from: `last.pt` of a private training to go on with.
        start_from: weights to start from, trained on public or simulated data alone: the privacy statement says
            nothing of the data they come from.

    Raises:
        ValueError: both of the last two, or a checkpoint without ledger, of another plan or of other data.
    """

    def __init__(
        self,
        ckpt_dir: str,
        network: torch.nn.Module,
        optimizer: Optimizer,
        dataset: str,
        lr_scheduler: Any = None,
        validator: Engine | None = None,
        resume_from: str | None = None,
        start_from: str | None = None,
    ) -> None:
        if resume_from and start_from:
            raise ValueError("resume_from goes on with a private training, start_from begins one: give one of them")
        super().__init__(ckpt_dir, network, optimizer, lr_scheduler, validator, resume_from or start_from)
        self.dataset = dataset
        self.begins = start_from is not None

    def restore(self, engine: Any, state: dict[str, Any]) -> None:
        """Go on from a checkpoint that fits, or begin with weights."""
        if self.begins:
            super().restore(engine, {"model": state.get("model", state)})
            if engine.average is not None:
                engine.average.network.load_state_dict(self.network.state_dict())
            return
        saved = state.get("privacy")
        if not isinstance(saved, dict) or "ledger" not in saved:
            raise ValueError(
                f"{self.resume_from} holds no privacy ledger, so that what it has spent is unknown: resume from the "
                "last.pt of a private training. Weights of public or simulated data can begin one (start_from)"
            )
        now = self._identity(engine)
        different = [name for name in now["plan"] if now["plan"][name] != saved["plan"].get(name)]
        if different:
            changes = ", ".join(
                f"{name} {saved['plan'].get(name)} there, {now['plan'][name]} here" for name in different
            )
            raise ValueError(
                f"{self.resume_from} was trained by another privacy plan ({changes}): its guarantee holds for that "
                "plan only. Set the same numbers, or train anew"
            )
        if now["dataset"] != saved["dataset"]:
            raise ValueError(
                f"{self.resume_from} was trained on other data, or on the same in another order or other units: the "
                "ledger counts what these patients have spent. Give the same datalist, or train anew"
            )
        noise = engine.optimizer.randomness
        noise.load_state_dict(saved["randomness"])  # before anything else: it refuses noise of another kind
        super().restore(engine, state)
        engine.ledger.load_state_dict(saved["ledger"])
        if engine.average is not None:
            engine.average.load_state_dict(saved["average"])
        generators = saved["generators"]

        def restore_generators() -> None:  # once iterators, which draw seeds, have been made
            engine.remove_event_handler(restore_generators, Events.ITERATION_STARTED)
            torch.set_rng_state(generators["cpu"].cpu())
            if torch.cuda.is_available() and "cuda" in generators:
                torch.cuda.set_rng_state(generators["cuda"].cpu())

        engine.add_event_handler(Events.ITERATION_STARTED, restore_generators)
        _logger.info("%d of %d planned steps are spent.", engine.ledger.steps, engine.plan.steps)

    def state(self, engine: Any, best: dict[str, Any]) -> dict[str, Any]:
        """What `last.pt` holds."""
        generators = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            generators["cuda"] = torch.cuda.get_rng_state()
        privacy = {
            **self._identity(engine),
            "ledger": engine.ledger.state_dict(),
            "randomness": engine.optimizer.randomness.state_dict(),
            "average": engine.average.state_dict() if engine.average is not None else {},
            "generators": generators,
        }
        return {**super().state(engine, best), "privacy": privacy}

    def weights(self, engine: Any) -> dict[str, Any]:
        """What `model.pt` holds: the averaged weights."""
        return engine.average.network.state_dict() if engine.average is not None else super().weights(engine)

    def _identity(self, engine: Any) -> dict[str, Any]:
        """Plan and data, which must not change while a ledger grows."""
        dataset = json_hash([self.dataset, engine.sampler.unit_numbers])
        return {"plan": engine.plan.to_dict(), "dataset": dataset}
