"""Plans: the noise fits the budget exactly, and impossible budgets are refused before any data are read."""

from __future__ import annotations

import math
from typing import Any

import pytest

from clinbundles.privacy.accounting.composition import Segment, epsilon_spent
from clinbundles.privacy.accounting.ledger import PrivacyLedger
from clinbundles.privacy.accounting.plan import PrivacyPlan, plan_budget

SMALL = {"units": 4000, "epsilon": 8.0, "delta": 1e-4, "expected_batch": 250, "steps": 100}


@pytest.mark.parametrize("epsilon", [0.02, 1.0, 8.0])
def test_noise_spends_the_budget_to_within_one_percent_and_never_more(epsilon: float) -> None:
    plan = plan_budget(**{**SMALL, "epsilon": epsilon})
    spent = epsilon_spent([Segment(plan.noise_multiplier, 250 / 4000, 100)], 1e-4)
    assert 0.99 * epsilon <= spent <= epsilon
    assert plan.epsilon_after(100) == spent
    assert plan.epsilon_after(50) < spent


def test_noise_of_a_batch_of_all_units_is_that_of_the_unsampled_mechanism() -> None:
    plan = plan_budget(units=30, unit="patient", epsilon=8.0, expected_batch=30, steps=50)
    assert plan.sample_rate == 1.0
    assert 0.99 * 8 <= epsilon_spent([Segment(plan.noise_multiplier, 1.0, 50)], plan.delta) <= 8


def test_epochs_become_whole_steps_and_the_budget_is_solved_for_these() -> None:
    plan = plan_budget(units=1000, epsilon=1.0, expected_batch=300, epochs=10)
    assert plan.steps == 33
    assert plan.epochs == pytest.approx(9.9)
    assert plan.expected_batch == pytest.approx(300)
    assert plan.epsilon_after(33) <= 1.0 < plan.epsilon_after(35)


def test_delta_is_by_default_a_tenth_of_the_largest_allowed() -> None:
    assert plan_budget(units=500, epsilon=None, expected_batch=50, steps=10).delta == pytest.approx(1 / 5000)


@pytest.mark.parametrize("epsilon", [None, math.inf])
def test_without_epsilon_the_same_training_runs_without_noise(epsilon: float | None) -> None:
    plan = plan_budget(**{**SMALL, "epsilon": epsilon})
    assert not plan.is_private
    assert plan.noise_multiplier == 0
    assert (plan.steps, plan.expected_batch, plan.max_grad_norm) == (100, 250, 1.0)
    assert plan.epsilon_after(1) == math.inf
    assert plan.signal_to_noise(1000) == math.inf


def test_signal_to_noise_falls_with_the_root_of_the_parameters() -> None:
    plan = plan_budget(**SMALL)
    assert plan.signal_to_noise(4736) == pytest.approx(250 / (plan.noise_multiplier * math.sqrt(4736)))
    assert plan.signal_to_noise(400) == pytest.approx(10 * plan.signal_to_noise(40000))


def test_steps_are_allowed_until_the_planned_number() -> None:
    plan, ledger = plan_budget(**SMALL), PrivacyLedger()
    ledger.record(plan.noise_multiplier, plan.sample_rate, 99)
    assert plan.allows_step(ledger)
    ledger.record(plan.noise_multiplier, plan.sample_rate)
    assert not plan.allows_step(ledger)


def test_no_step_is_allowed_that_would_exceed_the_budget() -> None:
    """Earlier steps with less noise than planned, of a checkpoint say, have spent it already."""
    plan, ledger = plan_budget(**SMALL), PrivacyLedger()
    ledger.record(0.8 * plan.noise_multiplier, plan.sample_rate, 5)
    assert plan.allows_step(ledger)
    ledger.record(0.8 * plan.noise_multiplier, plan.sample_rate, 60)
    assert not plan.allows_step(ledger)
    ledger.record(0.0, plan.sample_rate)
    assert not plan.allows_step(ledger)


def test_a_plan_comes_back_from_a_checkpoint() -> None:
    for epsilon in (8.0, None):
        plan = plan_budget(**{**SMALL, "epsilon": epsilon})
        assert PrivacyPlan.from_dict(plan.to_dict()) == plan
    with pytest.raises(ValueError, match="checkpoint's privacy plan cannot be read"):
        PrivacyPlan.from_dict({"units": 3})


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"units": 0}, "units is 0, expected a whole number of 1 or more"),
        ({"units": 2.5}, "units is 2.5"),
        ({"units": "many"}, "units is many"),
        ({"unit": "image"}, "unit is 'image', expected record or patient"),
        ({"epsilon": 0.0}, "epsilon is 0.0, expected a positive number, or inf"),
        ({"epsilon": -1.0}, "epsilon is -1.0, expected a positive number, or inf"),
        ({"epsilon": 0.001}, "epsilon is 0.001, expected 0.02 to 100"),
        ({"epsilon": "null"}, "epsilon is .null., expected a positive number, or inf"),
        ({"epsilon": 1e6}, "or inf for a training without privacy"),
        ({"delta": 1 / 4000}, "delta is 0.00025, expected above 0 and below 1/4000 = 0.00025"),
        ({"delta": 0.0}, "delta is 0.0, expected above 0"),
        ({"expected_batch": 4001}, "expected_batch is 4001, expected above 0 and at most the number of units, 4000"),
        ({"expected_batch": 0}, "expected_batch is 0"),
        ({"steps": 0}, "steps is 0, expected a whole number of 1 or more"),
        ({"epochs": 3}, "steps is 100 and epochs is 3: give exactly one"),
        ({"steps": None}, "steps is None and epochs is None: give exactly one"),
        ({"steps": None, "epochs": -1}, "epochs is -1, expected a positive number"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0, expected a positive number"),
        ({"max_grad_norm": math.inf}, "max_grad_norm is infinite with a finite epsilon"),
        ({"views": 0}, "views is 0, expected a whole number of 1 or more"),
    ],
)
def test_an_impossible_budget_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_budget(**{**SMALL, **wrong})


def test_a_plan_without_noise_yet_with_a_budget_is_refused() -> None:
    plan = plan_budget(**SMALL).to_dict()
    with pytest.raises(ValueError, match=r"noise_multiplier is 0 with a finite epsilon of 8\.0"):
        PrivacyPlan.from_dict({**plan, "noise_multiplier": 0.0})
    with pytest.raises(ValueError, match="noise_multiplier is nan"):
        PrivacyPlan.from_dict({**plan, "noise_multiplier": math.nan})
    with pytest.raises(ValueError, match=r"sample_rate is 1\.2"):
        PrivacyPlan.from_dict({**plan, "sample_rate": 1.2})
    with pytest.raises(ValueError, match="epsilon is nan, expected a positive number"):
        PrivacyPlan.from_dict({**plan, "epsilon": math.nan})


def test_a_budget_that_no_noise_reaches_is_refused() -> None:
    """With a tiny delta only the Rényi bound is left, which has a floor."""
    with pytest.raises(ValueError, match="is not reached with any noise"):
        plan_budget(units=1000, epsilon=0.05, delta=1e-16, expected_batch=100, steps=10)
