"""Training with differential privacy: one iteration of the engine is one logical step of DP-SGD."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.engines import SupervisedTrainer, Trainer
from monai.engines.utils import IterationEvents, default_prepare_batch
from monai.inferers import Inferer
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.data import DataLoader, IterableDataset

from clinbundles.privacy.accounting.ledger import PrivacyLedger
from clinbundles.privacy.accounting.plan import PrivacyPlan
from clinbundles.privacy.batch_coupling import refuse_batch_coupling
from clinbundles.privacy.moving_average import MovingAverage
from clinbundles.privacy.per_sample_gradients.per_sample_hooks import PerSampleGradients
from clinbundles.privacy.physical_chunks import physical_chunks
from clinbundles.privacy.poisson_units import PoissonUnitSampler
from clinbundles.privacy.private_optimizer import PrivateOptimizer
from clinbundles.privacy.randomness import Randomness
from clinbundles.privacy.unit_collate import UNIT, UnitRecords, collate_units

__all__ = ["PrivacyBudgetError", "PrivateTrainer"]

_logger = logging.getLogger("clinbundles")

_REFUSED = {
    "key_train_metric": "metrics on private data are a release without noise: validate on other data",
    "additional_metrics": "metrics on private data are a release without noise: validate on other data",
    "accumulation_steps": "a logical batch is cut into chunks already: set physical_batch",
    "decollate": "a logical batch is not taken apart",
    "postprocessing": "the predictions of a logical batch are not kept",
    "iteration_update": "another update would have another guarantee",
    "compile": "per-sample gradients need the network's own layers",
}


class PrivacyBudgetError(RuntimeError):
    """The next step would exceed the planned privacy budget."""


class PrivateTrainer(SupervisedTrainer):
    """A `SupervisedTrainer` whose every iteration is one logical step: one Poisson batch, one noised update, one entry
    in the ledger, one update of the moving average. Epochs, schedules and handlers count logical steps.

    Before the first step it tries the network and the loss on numbers of no patient and refuses what mixes the samples
    of a batch. It ends with the last step of the plan, whatever `max_epochs` says, at the end of a (shorter) epoch, so
    that handlers save and report as ever; a run that has nothing left to spend is refused.

    The training loss is computed from private data without noise. `state.output` therefore holds no loss (None), so
    that nothing can log it; `state.private_loss` has it for what stays on this machine (`PrivateTraining`).

    Args:
        device: where the network is.
        max_epochs: epochs at most; None for all steps of the plan.
        train_data_loader: a `DataLoader` of `UnitRecords` with a `PoissonUnitSampler` as `batch_sampler` and
            `collate_units` as `collate_fn`.
        network: the network itself, not wrapped; with several processes the optimizer adds their sums.
        optimizer: a `PrivateOptimizer` with the same plan.
        loss_function: gives one number per sample or per element, (B, ...): `reduction: none`, or `PerSampleLoss`.
        plan: of the training.
        ledger: gets every step.
        average: moving average of the weights, updated in every step.
        views: images (B, C, ...) on the device to augmented views (K, B, C, ...), or (K B, C, ...) view by view; the
            gradients of a record's K views are averaged. For labels that do not move with the image.
        physical_batch: images, views included, that fit into memory at once.
        epoch_length: logical steps of an epoch; None for 1/q, in which each unit is drawn once on average.
        prepare_batch, inferer, train_handlers, non_blocking: as in MONAI; `prepare_batch` gives images and labels.
        amp: autocast; only with `amp_kwargs: {dtype: torch.bfloat16}`.
        amp_kwargs: arguments of `torch.autocast`.
        unsupported: other arguments of `SupervisedTrainer`, refused with the reason.

    Raises:
        TypeError: a loader, sampler, dataset, network or optimizer of another kind.
        ValueError: parts that contradict the plan.
    """

    optimizer: PrivateOptimizer
    keeps_loss_private = True

    def __init__(
        self,
        *,
        device: str | torch.device,
        train_data_loader: DataLoader[Any],
        network: torch.nn.Module,
        optimizer: PrivateOptimizer,
        loss_function: Callable[..., torch.Tensor],
        plan: PrivacyPlan,
        ledger: PrivacyLedger,
        max_epochs: int | None = None,
        average: MovingAverage | None = None,
        views: Callable[[torch.Tensor], torch.Tensor] | None = None,
        physical_batch: int = 128,
        epoch_length: int | None = None,
        prepare_batch: Callable[..., Any] = default_prepare_batch,
        inferer: Inferer | None = None,
        train_handlers: Sequence[Any] | None = None,
        non_blocking: bool = False,
        amp: bool = False,
        amp_kwargs: dict[str, Any] | None = None,
        **unsupported: Any,
    ) -> None:
        for name in unsupported:
            raise TypeError(f"PrivateTrainer takes no {name}: {_REFUSED.get(name, 'it does not know it')}")
        if amp and (amp_kwargs or {}).get("dtype") is not torch.bfloat16:
            raise ValueError(
                "amp in half precision scales the loss before gradients are clipped, so that every one would be "
                "clipped to a norm without meaning. Use amp_kwargs: {dtype: $torch.bfloat16}, or amp: false"
            )
        if isinstance(network, (DistributedDataParallel, DataParallel)):
            raise TypeError(
                f"the network is wrapped by {type(network).__name__}, which averages gradients before clipping. "
                "Give the network itself: the private optimizer adds the sums of all processes"
            )
        if not isinstance(optimizer, PrivateOptimizer):
            raise TypeError(f"the optimizer is a {type(optimizer).__name__}, expected a PrivateOptimizer around it")
        self.sampler = _sampler_of(train_data_loader, plan)
        if optimizer.randomness.name != self.sampler.randomness.name:
            raise ValueError(
                f"the noise is {optimizer.randomness.name} and the sampling {self.sampler.randomness.name}: the "
                "guarantee rests on both, set the same secure_rng for both"
            )
        if _one_stream(optimizer.randomness, self.sampler.randomness):
            raise ValueError(
                "noise and sampling draw from the same stream, so that one tells of the other: give the sampler a "
                "seed of its own"
            )
        if optimizer.plan != plan:
            raise ValueError("the optimizer has another privacy plan than the trainer: give both the same object")
        if views is None and plan.views != 1:
            raise ValueError(f"the plan has {plan.views} views of each record but the trainer got none to make them")
        if physical_batch < 1:
            raise ValueError(f"physical_batch is {physical_batch}, expected 1 or more images")
        self.plan = plan
        self.ledger = ledger
        self.average = average
        self.views = views
        self.physical_batch = physical_batch
        self._network_tried = self._loss_tried = not optimizer.clips
        epoch_length = epoch_length or max(1, round(1 / plan.sample_rate))
        super().__init__(
            device=device,
            max_epochs=max_epochs or math.ceil(plan.steps / epoch_length),
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            epoch_length=epoch_length,
            prepare_batch=prepare_batch,
            inferer=inferer,
            train_handlers=train_handlers,
            non_blocking=non_blocking,
            amp=amp,
            amp_kwargs=amp_kwargs,
            decollate=False,
        )
        self.state.private_loss = math.nan
        self.add_event_handler(Events.STARTED, self._go_on)  # after the handlers, one of which may resume

    def run(self) -> None:
        """Train, with per-sample gradients switched on for just as long.

        Raises:
            PrivacyBudgetError: the plan has nothing left.
        """
        if dist.is_available() and dist.is_initialized():
            for tensor in [*self.network.parameters(), *self.network.buffers()]:
                dist.broadcast(tensor.data, 0)
        in_place = [layer for layer in self.network.modules() if getattr(layer, "inplace", False)]
        for layer in in_place:  # hooks need what such a layer would overwrite; the results are the same
            layer.inplace = False
        hooks = PerSampleGradients(self.network) if self.optimizer.clips else None
        try:
            super(Trainer, self).run()  # not Trainer.run, which makes a scaler of the loss
        finally:
            if hooks is not None:
                hooks.remove()
            for layer in in_place:
                layer.inplace = True
            self.optimizer.zero_grad()

    def _go_on(self) -> None:
        """Start, or continue, at the step after the last one in the ledger."""
        if not self.plan.allows_step(self.ledger):
            raise PrivacyBudgetError(self._spent())
        self.sampler.first_step = self.ledger.steps

    def _iteration(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> list[dict[str, None]]:
        """One logical step; gives an output without a loss."""
        if not self.plan.allows_step(self.ledger):
            raise PrivacyBudgetError(self._spent())
        unit = batchdata[UNIT]
        self.network.train()
        self.optimizer.zero_grad()
        total, views = 0.0, self.plan.views if self.views is not None else 1
        for pieces in physical_chunks(unit, max(1, self.physical_batch // views)):
            first = int(unit[pieces[0][0]])
            rows = torch.cat(pieces)
            sizes = torch.bincount(unit[rows] - first)
            for piece in pieces:
                local = unit[piece] - first
                total += self._backward({key: value[piece] for key, value in batchdata.items()}, local, sizes)
            self.optimizer.clip()
        self.optimizer.step()
        self.ledger.record(self.plan.noise_multiplier, self.plan.sample_rate)
        if self.average is not None:
            self.average.update(self.network)
        units = int(unit.max()) + 1 if len(unit) else 0
        self.state.private_loss = total / units if units else math.nan
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        if not self.plan.allows_step(self.ledger):
            self._end()
        return [{"loss": None}]

    def _backward(self, records: dict[str, torch.Tensor], unit: torch.Tensor, sizes: torch.Tensor) -> float:
        """Gradients of some records of whole units, or of a part of one; gives the sum of the units' mean losses."""
        device = self.state.device
        images, labels = self.prepare_batch(records, device, self.non_blocking, **self.to_kwargs)
        if self.views is not None:
            images, labels, unit = self._seen(images, labels, unit)
        with torch.autocast(torch.device(device).type, enabled=self.amp, **(self.amp_kwargs if self.amp else {})):
            self._try(images)
            pred = self.inferer(images, self.network)
            losses = self._losses(pred, labels)
        weights = 1.0 / (sizes[unit] * (len(unit) // len(records[UNIT]))).to(losses)
        unit, weights = unit.to(device), weights.to(device)
        loss = (weights * losses).sum()
        loss.backward()
        self.optimizer.gather(unit, len(sizes))
        return float(loss.detach())

    def _seen(
        self, images: torch.Tensor, labels: torch.Tensor, unit: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Views (K B, ...) of the images, each with its label and its unit."""
        assert self.views is not None
        seen = self.views(images)
        if seen.ndim == images.ndim + 1:
            seen = seen.flatten(0, 1)
        if len(seen) != self.plan.views * len(images):
            raise ValueError(
                f"views made {len(seen)} images of {len(images)} records, but the plan has {self.plan.views} views of "
                "each: let views give (K, B, C, ...) and plan the same number"
            )
        copies = self.plan.views
        return seen, labels.repeat(copies, *[1] * (labels.ndim - 1)), unit.repeat(copies)

    def _losses(self, pred: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One loss for each sample."""
        losses = self.loss_function(pred, labels)
        if losses.ndim == 0 or len(losses) != len(pred):
            raise ValueError(
                f"the loss gave {list(losses.shape)} for {len(pred)} samples, expected one or more numbers for each: "
                "set reduction: none, or wrap it in clinbundles.privacy.per_sample_loss.PerSampleLoss"
            )
        losses = losses.flatten(1).mean(1) if losses.ndim > 1 else losses
        if not self._loss_tried and len(pred) > 1:
            self._try_loss(pred.detach(), labels, losses.detach())
        return losses

    def _try(self, images: torch.Tensor) -> None:
        """Refuse a network that mixes the samples of a batch, tried on random numbers."""
        if self._network_tried:
            return
        generator = torch.Generator().manual_seed(0)
        example = torch.rand((3, *images.shape[1:]), generator=generator, dtype=images.dtype).to(images.device)
        refuse_batch_coupling(self.network, example)
        self._network_tried = True

    @torch.no_grad()
    def _try_loss(self, pred: torch.Tensor, labels: torch.Tensor, losses: torch.Tensor) -> None:
        """Refuse a loss that mixes samples: change one prediction and look at the other losses."""
        changed = pred.clone()
        changed[-1] += torch.randn(pred.shape[1:], generator=torch.Generator().manual_seed(0)).to(pred)
        again = self.loss_function(changed, labels)
        again = again.flatten(1).mean(1) if again.ndim > 1 else again
        if not torch.allclose(again[:-1], losses[:-1], rtol=1e-6, equal_nan=True):
            raise ValueError(
                f"the loss of a sample depends on another one's prediction ({type(self.loss_function).__name__}): "
                "clipping would not bound what one patient can change. Wrap it in "
                "clinbundles.privacy.per_sample_loss.PerSampleLoss"
            )
        self._loss_tried = True

    def _end(self) -> None:
        """Finish this epoch and then the run, with all handlers."""
        state = self.state
        if state.max_epochs > math.ceil(self.plan.steps / state.epoch_length):
            _logger.info("%s", self._spent())
        state.max_epochs = state.epoch
        if state.iteration % state.epoch_length:
            self.terminate_epoch()

    def _spent(self) -> str:
        epsilon = self.ledger.epsilon(self.plan.delta)
        return (
            f"The privacy budget is spent: {self.ledger.steps} of {self.plan.steps} planned steps are done, epsilon is "
            f"{epsilon:.3f} of {self.plan.epsilon:g} at delta {self.plan.delta:g}. Training on would exceed the plan; "
            "plan a larger budget and train anew"
        )


def _one_stream(noise: Randomness, sampling: Randomness) -> bool:
    """Whether two sources are one object, or two seeded ones in the same state."""
    states = [source.state_dict().get("generator") for source in (noise, sampling)]
    return noise is sampling or (states[0] is not None and torch.equal(states[0], states[1]))


def _sampler_of(loader: DataLoader[Any], plan: PrivacyPlan) -> PoissonUnitSampler:
    """The loader's sampler, if loader and plan fit together."""
    dataset = getattr(loader, "dataset", None)
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"{type(dataset).__name__} gives its records in its own order: private training draws each unit by chance "
            "and needs a dataset with numbered records"
        )
    if getattr(loader, "drop_last", False):
        raise ValueError("drop_last leaves out records by their place: private training draws each unit by chance")
    sampler = getattr(loader, "batch_sampler", None)
    if not isinstance(sampler, PoissonUnitSampler):
        inner = getattr(sampler, "sampler", sampler)
        raise TypeError(
            f"the batches are drawn by {type(inner).__name__}, but the privacy accounting holds for Poisson sampling "
            "only: set batch_sampler to a clinbundles.privacy.poisson_units.PoissonUnitSampler (batches of one size, "
            "shuffled or weighted, have another guarantee)"
        )
    if not isinstance(dataset, UnitRecords) or dataset.unit_numbers is not sampler.unit_numbers:
        raise TypeError("the loader's dataset must be UnitRecords(dataset, sampler) with the loader's own sampler")
    if loader.collate_fn is not collate_units:
        raise TypeError("the loader's collate_fn must be clinbundles.privacy.unit_collate.collate_units")
    found = {"units": sampler.unit_count, "sample_rate": sampler.sample_rate, "steps": sampler.steps}
    for name, value in found.items():
        if value != getattr(plan, name):
            raise ValueError(f"the sampler has {name} {value} but the plan {getattr(plan, name)}: they must agree")
    return sampler
