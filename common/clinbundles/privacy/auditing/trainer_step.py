"""The private step of a real trainer, repeated from the same weights with and without one unit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch
from torch.nn.modules.dropout import _DropoutNd

from clinbundles.privacy.accounting.ledger import PrivacyLedger
from clinbundles.privacy.accounting.plan import PrivacyPlan
from clinbundles.privacy.per_sample_gradients.per_sample_hooks import PerSampleGradients

__all__ = ["TrainerStep"]

_TIMES_CLIPPED = 10.0


class TrainerStep:
    """Give `audit_step` the trainer's own iteration: its chunks, views, units, clipping, noise and division.

    >>> with TrainerStep(trainer) as step:
    ...     audit = audit_step(step, step.direction, **step.promise)

    The batch holds the unit with most records, beside some others. The loss is multiplied so that this unit's gradient
    is ten clipping norms long, and random views and dropout are held still, so that nothing but the noise differs
    between two steps. At the end the trainer is as before.

    Args:
        trainer: a `PrivateTrainer` with a private plan.
        noise_multiplier: of the audited steps, in place of the planned one: with little noise few steps tell much.
        others: units beside the audited one.

    Raises:
        ValueError: a plan without noise, fewer than two units, a loss that does not depend on the weights.
    """

    def __init__(self, trainer: Any, *, noise_multiplier: float = 0.25, others: int = 8) -> None:
        plan: PrivacyPlan = trainer.plan
        if not plan.is_private:
            raise ValueError("the plan has no epsilon: without noise there is no guarantee to audit. Set epsilon")
        self.trainer = trainer
        self.plan = replace(plan, noise_multiplier=noise_multiplier, steps=2**40)
        dataset = trainer.data_loader.dataset
        records: dict[int, list[int]] = {}
        for record, number in enumerate(dataset.unit_numbers):
            records.setdefault(number, []).append(record)
        largest, *rest = sorted(records.values(), key=len, reverse=True)
        if not rest:
            raise ValueError("the training set has one unit only: an audit needs others beside it")

        def batch(units: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
            return trainer.data_loader.collate_fn([dataset[record] for unit in units for record in unit])

        self._alone = batch([largest])
        self._batches = batch(rest[:others]), batch([largest, *rest[:others]])

    @property
    def promise(self) -> dict[str, float]:
        """What the steps should do: arguments of `audit_step`."""
        return {
            "noise_multiplier": self.plan.noise_multiplier,
            "max_grad_norm": self.plan.max_grad_norm,
            "expected_batch": self.plan.expected_batch,
            "delta": self.plan.delta,
        }

    def __enter__(self) -> TrainerStep:
        trainer = self.trainer
        names = ("plan", "ledger", "average", "views", "loss_function")
        self._kept = {name: getattr(trainer, name) for name in names}
        self._dropouts = [(layer, layer.p) for layer in trainer.network.modules() if isinstance(layer, _DropoutNd)]
        self._optimizer_state = copy.deepcopy(trainer.optimizer.state_dict())
        self._weights = [weight.detach().clone() for weight in trainer.network.state_dict().values()]
        self._hooks: PerSampleGradients | None = None
        try:
            trainer.plan = trainer.optimizer.plan = self.plan
            trainer.ledger, trainer.average = PrivacyLedger(), None
            if trainer.views is not None:
                trainer.views = _still_views(trainer.views)
            for layer, _ in self._dropouts:
                layer.p = 0.0
            gradient = self._gradient()
            length = float(gradient.norm())
            if not (length > 0 and math.isfinite(length)):
                raise ValueError(f"the gradient of the audited unit has length {length}: the loss must depend on it")
            self.direction = gradient / length
            loss, factor = trainer.loss_function, max(1.0, _TIMES_CLIPPED * self.plan.max_grad_norm / length)
            trainer.loss_function = lambda pred, label: factor * loss(pred, label)
            self._hooks = PerSampleGradients(trainer.network)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        trainer = self.trainer
        if self._hooks is not None:
            self._hooks.remove()
        for name, value in self._kept.items():
            setattr(trainer, name, value)
        trainer.optimizer.plan = trainer.plan
        for layer, p in self._dropouts:
            layer.p = p
        self._reset()
        trainer.optimizer.load_state_dict(self._optimizer_state)
        trainer.optimizer.zero_grad()

    def __call__(self, with_unit: bool) -> torch.Tensor:
        """The update (P,) of one step, before the rule of the inner optimizer; on the CPU."""
        self._reset()
        self.trainer._iteration(self.trainer, self._batches[with_unit])
        return torch.cat([p.grad.flatten() for p in self.trainer.optimizer.parameters]).cpu()

    @torch.no_grad()
    def _reset(self) -> None:
        for weight, start in zip(self.trainer.network.state_dict().values(), self._weights, strict=True):
            weight.copy_(start)

    def _gradient(self) -> torch.Tensor:
        """The audited unit's gradient (P,) by the ordinary way, without hooks: the mean over its records and views."""
        trainer = self.trainer
        trainer.network.train()
        images, labels = trainer.prepare_batch(self._alone, trainer.state.device, False)
        if trainer.views is not None:
            seen = trainer.views(images)
            images = seen.flatten(0, 1) if seen.ndim == images.ndim + 1 else seen
            labels = labels.repeat(self.plan.views, *[1] * (labels.ndim - 1))
        loss = trainer.loss_function(trainer.inferer(images, trainer.network), labels).mean()
        gradients = torch.autograd.grad(loss, trainer.optimizer.parameters)
        return torch.cat([gradient.flatten() for gradient in gradients]).cpu()


def _still_views(views: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same views of an image whatever else is in the batch: (B, ...) to (K, B, ...)."""

    def still(images: torch.Tensor) -> torch.Tensor:
        seen = []
        for image in images.split(1):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                made = views(image)
            seen.append(made if made.ndim == images.ndim + 1 else made.unflatten(0, (-1, 1)))
        return torch.cat(seen, dim=1)

    return still
