"""Batches that know which privacy unit each record belongs to, and that may be empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from clinbundles.privacy.poisson_units import PoissonUnitSampler

__all__ = ["UNIT", "UnitRecords", "collate_units"]

UNIT = "unit"
"""Entry of a record, then of a batch, that tells the privacy unit."""


class UnitRecords(Dataset[dict[str, Any]]):
    """A dataset whose records also tell the number of their unit, as the sampler of the training counts it.

    Args:
        dataset: records as mappings, e.g. a MONAI `Dataset`.
        sampler: of the same records.

    Raises:
        TypeError: a dataset without numbered records.
        ValueError: dataset and sampler are of different length.
    """

    def __init__(self, dataset: Any, sampler: PoissonUnitSampler) -> None:
        if isinstance(dataset, torch.utils.data.IterableDataset) or not hasattr(dataset, "__len__"):
            raise TypeError(
                f"{type(dataset).__name__} gives its records in its own order: private training draws each unit by "
                "chance and needs a dataset with numbered records (monai.data.Dataset)"
            )
        if len(dataset) != len(sampler.unit_numbers):
            raise ValueError(
                f"the dataset has {len(dataset)} records but the sampler knows the units of "
                f"{len(sampler.unit_numbers)}: give both the same datalist"
            )
        self.dataset = dataset
        self.unit_numbers = sampler.unit_numbers

    def __len__(self) -> int:
        return len(self.unit_numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Record `index` with its unit.

        Raises:
            TypeError: a record that is not a mapping.
        """
        record = self.dataset[index]
        if not isinstance(record, Mapping):
            raise TypeError(
                f"a record is a {type(record).__name__}, expected one mapping of tensors: transforms that cut several "
                "samples out of a record do not fit; list the record several times, its unit keeps them together"
            )
        return {**record, UNIT: self.unit_numbers[index]}


def collate_units(records: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch of `UnitRecords`: tensors and numbers stacked, everything else (names, paths) left out.

    Args:
        records: mappings with the entry "unit"; none of them for an empty batch.

    Returns:
        Tensors (B, ...), and "unit" (B,) int64: which unit of this batch (0, 1, ... in order) a record belongs to. An
        empty batch holds only "unit", of length 0.
    """
    numbers = [int(record[UNIT]) for record in records]
    local = {number: index for index, number in enumerate(dict.fromkeys(numbers))}
    unit = torch.tensor([local[number] for number in numbers], dtype=torch.int64)
    kinds = (torch.Tensor, np.ndarray, np.number, int, float)
    kept = [key for key in (records[0] if records else {}) if key != UNIT and isinstance(records[0][key], kinds)]
    batch = {key: default_collate([_plain(record[key]) for record in records]) for key in kept}
    return {**batch, UNIT: unit}


def _plain(value: Any) -> Any:
    """Without MONAI's metadata, which hold file names."""
    return value.as_subclass(torch.Tensor) if isinstance(value, torch.Tensor) else value
