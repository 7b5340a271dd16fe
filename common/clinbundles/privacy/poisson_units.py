"""Poisson sampling of privacy units, the sampling that the accounting of private training assumes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from clinbundles.privacy.randomness import Randomness

__all__ = ["PoissonUnitSampler", "units_of"]


def units_of(datalist: Sequence[Mapping[str, Any]], unit: str, key: str = "patient_id") -> list[Hashable]:
    """The privacy unit of each record of a MONAI datalist: the record itself, or its patient.

    Args:
        datalist: one mapping per record.
        unit: "record" or "patient".
        key: entry of a record that tells the patient.

    Raises:
        ValueError: another word for the unit, or a record without a patient.
    """
    if unit == "record":
        return list(range(len(datalist)))
    if unit != "patient":
        raise ValueError(f"unit is {unit!r}, expected record or patient")
    missing = [number for number, record in enumerate(datalist) if record.get(key) in (None, "")]
    if missing:
        raise ValueError(
            f"unit is patient but {len(missing)} of {len(datalist)} records have no {key} (first: {missing[0]}). "
            f"Add {key} to each, or choose unit: record, which protects one image and not a patient with several"
        )
    return [record[key] for record in datalist]


class PoissonUnitSampler(Sampler[list[int]]):
    """Batch sampler: in each step each unit is drawn by itself with probability q, and brings all of its records.

    The number of units in a batch is therefore Binomial(N, q); empty batches occur and are given as empty lists, for
    they must add noise and count as a step too. It gives the batches of a whole training, `steps` of them; a resumed
    training sets `first_step`. The records of a unit stand together.

    With several processes each owns every `world`-th unit and draws only these, so that the processes' shares
    together are one Poisson sample, whether their streams are equal (seeded) or independent (secure), and each
    process makes the same number of steps.

    Args:
        units: unit of each record, e.g. patient ids.
        sample_rate: q in (0, 1].
        steps: number of batches of the whole training.
        randomness: source of the draws, used by nothing else: batches are drawn ahead of the noise.
        rank: number of this process.
        world: number of processes.

    Raises:
        ValueError: numbers out of range.
    """

    def __init__(
        self,
        units: Sequence[Hashable],
        sample_rate: float,
        steps: int,
        randomness: Randomness,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if len(units) == 0:
            raise ValueError("there is no record to sample from")
        if not 0 < sample_rate <= 1:
            raise ValueError(f"sample_rate is {sample_rate}, expected in (0, 1]")
        if steps < 1:
            raise ValueError(f"steps is {steps}, expected a number of batches of 1 or more")
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank} of {world} processes, expected 0 to {world - 1}")
        numbers: dict[Hashable, int] = {}
        self.unit_numbers = [numbers.setdefault(unit, len(numbers)) for unit in units]
        """Number of each record's unit, 0 to N - 1 in the order of appearance."""
        self.sample_rate = sample_rate
        self.steps = steps
        self.first_step = 0
        self.rank = rank
        self.world = world
        self._records: list[list[int]] = [[] for _ in numbers]
        for record, number in enumerate(self.unit_numbers):
            self._records[number].append(record)
        self.randomness = randomness
        self._start = randomness.state_dict()

    @property
    def unit_count(self) -> int:
        """N, the number of privacy units in all processes together."""
        return len(self._records)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        if self._start:  # a seeded stream: the same batches whoever iterates, and however often
            self.randomness.load_state_dict(self._start)
        for step in range(0 if self._start else self.first_step, self.steps):
            drawn = self.randomness.uniform(self.unit_count) < self.sample_rate
            if step < self.first_step:
                continue
            own = torch.nonzero(drawn[self.rank :: self.world]).flatten() * self.world + self.rank
            yield [record for unit in own.tolist() for record in self._records[unit]]
