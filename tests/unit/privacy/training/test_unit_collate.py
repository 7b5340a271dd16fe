from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from clinbundles.privacy.physical_chunks import physical_chunks
from clinbundles.privacy.poisson_units import PoissonUnitSampler
from clinbundles.privacy.randomness import SeededRandomness
from clinbundles.privacy.unit_collate import UnitRecords, collate_units


def sampler(units):
    return PoissonUnitSampler(units, 0.5, 3, SeededRandomness(0))


def test_a_batch_tells_which_of_its_records_belong_together():
    records = UnitRecords([{"label": number} for number in range(5)], sampler(["A", "B", "C", "A", "B"]))
    batch = collate_units([records[number] for number in (1, 4, 0, 3)])
    assert batch["unit"].tolist() == [0, 0, 1, 1]
    assert batch["label"].tolist() == [1, 4, 0, 3]


def test_an_empty_batch_has_no_unit():
    assert {key: value.tolist() for key, value in collate_units([]).items()} == {"unit": []}


def test_names_and_metadata_stay_behind():
    image = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": "Jane_Doe.png"})
    records = [{"image": image, "patient_id": "Jane", "age": np.float32(3), "unit": 7}] * 2
    batch = collate_units(records)
    assert set(batch) == {"image", "age", "unit"}
    assert type(batch["image"]) is torch.Tensor
    assert batch["image"].shape == (2, 1, 2, 2)


def test_datasets_that_do_not_fit_are_refused():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([])

    with pytest.raises(TypeError, match=r"Stream gives its records in its own order.*numbered records"):
        UnitRecords(Stream(), sampler([0]))
    with pytest.raises(ValueError, match="3 records but the sampler knows the units of 2"):
        UnitRecords([{}, {}, {}], sampler([0, 1]))
    with pytest.raises(TypeError, match="list the record several times"):
        UnitRecords([[{}, {}]], sampler([0]))[0]


@pytest.mark.parametrize("largest", [1, 2, 3, 5, 100])
def test_chunks_hold_every_record_once_and_never_tear_a_unit(largest):
    unit = torch.tensor([0, 0, 1, 2, 2, 2, 2, 3, 4, 4])
    chunks = list(physical_chunks(unit, largest))
    assert torch.cat([piece for pieces in chunks for piece in pieces]).tolist() == list(range(10))
    units = [set(unit[torch.cat(pieces)].tolist()) for pieces in chunks]
    assert sum(map(len, units)) == len(set.union(*units)) == 5
    for pieces, chunk_units in zip(chunks, units, strict=True):
        assert max(map(len, pieces)) <= largest
        assert len(pieces) == 1 or len(chunk_units) == 1


def test_an_empty_batch_has_no_chunks():
    assert list(physical_chunks(torch.tensor([], dtype=torch.int64), 4)) == []
