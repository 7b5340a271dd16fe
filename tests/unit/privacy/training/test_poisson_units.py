from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from clinbundles.privacy.poisson_units import PoissonUnitSampler, units_of
from clinbundles.privacy.randomness import SecureRandomness, SeededRandomness


def draws(units, rate, steps, seed=0, **ranks):
    return PoissonUnitSampler(units, rate, steps, SeededRandomness(seed), **ranks)


@pytest.mark.parametrize("source", [lambda: SeededRandomness(3), SecureRandomness], ids=["seeded", "secure"])
def test_each_unit_is_drawn_binomially_often(source):
    units, rate, steps = 300, 0.07, 400
    counts = np.zeros(units)
    for batch in PoissonUnitSampler(range(units), rate, steps, source()):
        counts[batch] += 1
    edges = scipy.stats.binom(steps, rate).ppf([0.1, 0.25, 0.5, 0.75, 0.9])
    bounds = np.array([-1, *edges, steps])
    expected = units * np.diff(scipy.stats.binom(steps, rate).cdf(bounds))
    found = np.histogram(counts, bins=bounds + 0.5)[0]
    assert scipy.stats.chisquare(found, expected).pvalue > 1e-6


def test_the_size_of_a_batch_is_binomial_and_batches_may_be_empty():
    sizes = np.array([len(batch) for batch in draws(range(50), 0.05, 4000)])
    assert sizes.mean() == pytest.approx(2.5, rel=0.05)
    assert sizes.var() == pytest.approx(2.5 * 0.95, rel=0.1)
    assert (sizes == 0).sum() == pytest.approx(4000 * 0.95**50, rel=0.2)


def test_units_are_drawn_independently_of_each_other_and_of_earlier_steps():
    drawn = np.zeros((6000, 4))
    for step, batch in enumerate(draws(range(4), 0.3, 6000)):
        drawn[step, batch] = 1
    pairs = np.hstack([drawn[1:], drawn[:-1]])
    correlation = np.corrcoef(pairs.T) - np.eye(8)
    assert np.abs(correlation).max() < 0.06  # 4.6 standard deviations


def test_a_unit_comes_with_all_of_its_records_and_they_stand_together():
    units = ["b", "a", "b", "c", "a", "b"]
    for batch in draws(units, 0.5, 50):
        together = [name for name, _ in itertools.groupby(units[record] for record in batch)]
        assert len(together) == len(set(together))
        for name in together:
            assert [record for record in batch if units[record] == name] == [
                record for record, unit in enumerate(units) if unit == name
            ]


def test_it_goes_on_at_any_step_with_the_batches_of_an_unbroken_run():
    all_batches = list(draws(range(20), 0.2, 12))
    resumed = draws(range(20), 0.2, 12)
    next(iter(resumed))  # an iterator that was begun and dropped leaves no trace
    resumed.first_step = 5
    assert list(resumed) == all_batches[5:]


@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_several_processes_are_the_batches_of_one(world):
    whole = list(draws([0, 0, 1, 2, 3, 4, 5, 5], 0.4, 30))
    shares = [list(draws([0, 0, 1, 2, 3, 4, 5, 5], 0.4, 30, rank=rank, world=world)) for rank in range(world)]
    assert {len(share) for share in shares} == {30}
    for step, batch in enumerate(whole):
        assert sorted(itertools.chain(*(share[step] for share in shares))) == sorted(batch)


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(ValueError, match="no record"):
        draws([], 0.1, 2)
    with pytest.raises(ValueError, match=r"sample_rate is 1.5, expected in \(0, 1\]"):
        draws([1], 1.5, 2)
    with pytest.raises(ValueError, match="steps is 0"):
        draws([1], 0.5, 0)
    with pytest.raises(ValueError, match="rank is 2 of 2"):
        draws([1], 0.5, 1, rank=2, world=2)


def test_the_unit_is_the_record_or_its_patient():
    records = [{"patient_id": "A"}, {"patient_id": "B"}, {"patient_id": "A"}]
    assert units_of(records, "record") == [0, 1, 2]
    assert units_of(records, "patient") == ["A", "B", "A"]
    with pytest.raises(ValueError, match=r"1 of 2 records have no patient_id \(first: 1\)"):
        units_of([{"patient_id": "A"}, {"patient_id": ""}], "patient")
    with pytest.raises(ValueError, match="unit is 'scan', expected record or patient"):
        units_of(records, "scan")
