"""Black-box canaries: units with wrong labels, which only a network that was trained on them finds likely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from clinbundles.privacy.auditing.sample_losses import sample_losses
from clinbundles.privacy.poisson_units import PoissonUnitSampler
from clinbundles.privacy.unit_collate import UnitRecords, collate_units

__all__ = ["RecordCanaries"]


class RecordCanaries:
    """Turn some units of a trainer's training set into canaries, half of which, by the toss of a coin, it trains on.

    A canary's records get the labels of other records, different from their own; the left-out canaries are no part
    of the training set. After `trainer.run()` the score of a canary is minus the loss of the released network. The
    training is spoilt by the wrong labels: throw its weights away.

    Args:
        trainer: a `PrivateTrainer` that has not run; gets another loader, sampler and number of units. Sample rate,
            noise and steps stay, and so does the claimed epsilon.
        count: canaries; at most half of the units are taken.
        seed: of the choice, the labels and the coins.

    Raises:
        ValueError: fewer than four units, records without labels, or labels that are all alike.
    """

    def __init__(self, trainer: Any, count: int = 1000, seed: int = 0) -> None:
        loader, plan = trainer.data_loader, trainer.plan
        records, numbers = loader.dataset.dataset, torch.tensor(loader.dataset.unit_numbers)
        units = int(numbers.max()) + 1
        if units < 4:
            raise ValueError(f"the training set has {units} units: an audit by canaries needs four or more, best 1000")
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(units, generator=generator)[: min(count, units // 2)]
        self.included = torch.rand(len(chosen), generator=generator) < 0.5
        self.trainer = trainer
        canary = torch.isin(numbers, chosen)
        labels = _other_labels(records, torch.nonzero(canary).flatten().tolist(), generator)
        self._records = [[(int(i), labels[int(i)]) for i in torch.nonzero(numbers == unit)] for unit in chosen]
        self._source = records
        left_out = torch.isin(numbers, chosen[~self.included])
        kept = torch.nonzero(~left_out).flatten().tolist()
        sampler = PoissonUnitSampler(numbers[kept].tolist(), plan.sample_rate, plan.steps, trainer.sampler.randomness)
        trainer.sampler = sampler
        trainer.plan = trainer.optimizer.plan = replace(plan, units=sampler.unit_count)
        trainer.data_loader = DataLoader(
            UnitRecords(_Relabelled(records, kept, labels), sampler), batch_sampler=sampler, collate_fn=collate_units
        )

    def scores(self) -> torch.Tensor:
        """Minus the mean loss (m,) of each canary's records, by the network that the training would release."""
        flat = [_relabelled(self._source[i], label) for unit in self._records for i, label in unit]
        losses = sample_losses(self.trainer, flat)
        sizes = [len(unit) for unit in self._records]
        return -torch.stack([part.mean() for part in losses.split(sizes)])


class _Relabelled:
    """Some records of a dataset, canaries with their wrong labels."""

    def __init__(self, records: Any, kept: list[int], labels: dict[int, Any]) -> None:
        self.records, self.kept, self.labels = records, kept, labels

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = self.kept[index]
        record = self.records[number]
        return _relabelled(record, self.labels[number]) if number in self.labels else record


def _relabelled(record: Mapping[str, Any], label: Any) -> dict[str, Any]:
    return {**record, "label": label}


def _other_labels(records: Any, canaries: list[int], generator: torch.Generator) -> dict[int, Any]:
    """For each canary record the label of a random record that has another one."""
    order = torch.randperm(len(records), generator=generator).tolist()
    donors = [records[i] for i in order[: min(len(order), 200)]]
    if "label" not in donors[0]:
        raise ValueError(f"a record has {', '.join(map(str, donors[0]))} but no label: canaries get a wrong label")
    found: dict[int, Any] = {}
    for position, i in enumerate(canaries):
        own = torch.as_tensor(records[i]["label"])
        turned = donors[position % len(donors) :] + donors[: position % len(donors)]
        other = next((d["label"] for d in turned if not torch.equal(torch.as_tensor(d["label"]), own)), None)
        if other is None:
            raise ValueError("all labels of the training set are alike: there is no wrong label for a canary")
        found[i] = other
    return found
