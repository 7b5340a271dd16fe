"""The one-run bound against known values, and canaries in real trainings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import binom

from clinbundles.engines.private_trainer import PrivateTrainer
from clinbundles.privacy.auditing.gradient_canaries import GradientCanaries
from clinbundles.privacy.auditing.one_run_audit import (
    OneRunAudit,
    audit_scores,
    epsilon_lower_bound,
    guess_probability,
)
from clinbundles.privacy.auditing.record_canaries import RecordCanaries


def test_a_thousand_right_guesses_prove_the_known_epsilon() -> None:
    p = 0.05 ** (1 / 1000)
    assert math.log(p / (1 - p)) == pytest.approx(5.809, abs=1e-3)
    assert epsilon_lower_bound(1000, 1000, 1000, 0.0) == pytest.approx(5.809, abs=1e-3)


def test_without_delta_the_probability_is_a_binomial_tail() -> None:
    for guesses, correct, epsilon in [(100, 60, 0.3), (40, 40, 2.0), (10, 0, 1.0)]:
        slow = sum(binom.pmf(k, guesses, 1 / (1 + math.exp(-epsilon))) for k in range(correct, guesses + 1))
        assert guess_probability(200, guesses, correct, epsilon, 0.0) == pytest.approx(slow, rel=1e-9)


def test_delta_adds_the_largest_gain_over_all_numbers_of_failures() -> None:
    m, r, v, epsilon, delta = 200, 100, 70, 0.5, 1e-4
    accuracy = 1 / (1 + math.exp(-epsilon))
    tail = [float(binom.sf(v - i - 1, r, accuracy)) for i in range(v + 1)]
    slow = tail[0] + 2 * m * delta * max((tail[i] - tail[0]) / i for i in range(1, v + 1))
    assert guess_probability(m, r, v, epsilon, delta) == pytest.approx(slow, rel=1e-12)
    assert epsilon_lower_bound(m, r, v, delta) < epsilon_lower_bound(m, r, v, 0.0)


def test_guesses_no_better_than_chance_prove_nothing() -> None:
    assert epsilon_lower_bound(1000, 1000, 510, 1e-5) == 0.0
    assert epsilon_lower_bound(1000, 0, 0, 1e-5) == 0.0
    assert 0 < epsilon_lower_bound(1000, 1000, 560, 1e-5) < 0.3


def test_randomised_response_of_known_epsilon_passes_and_half_of_it_fails() -> None:
    """The mechanism for which the bound is tight: each coin is told truly with probability e/(1+e)."""
    generator = torch.Generator().manual_seed(1)
    coins = torch.rand(2000, generator=generator) < 0.5
    true = torch.rand(2000, generator=generator) < math.e / (1 + math.e)
    told = torch.where(true, coins, ~coins).double() + 0.01 * torch.rand(2000, generator=generator).double()
    honest = audit_scores(told, coins, epsilon=1.0, delta=0.0)
    assert 0.7 < honest.epsilon_lower <= 1.0
    assert honest.passed
    assert honest.verdict.startswith("passed")
    claimed_half = audit_scores(told, coins, epsilon=0.5, delta=0.0)
    assert not claimed_half.passed
    assert "the claimed 0.50 is wrong" in claimed_half.verdict


def test_scores_that_know_nothing_prove_nothing_in_nearly_all_trainings() -> None:
    generator = torch.Generator().manual_seed(0)
    bounds = []
    for _ in range(60):
        scores, coins = torch.rand(2, 200, generator=generator)
        bounds.append(audit_scores(scores, coins < 0.5, epsilon=0.0, delta=0.0).epsilon_lower)
    assert sum(bound > 0 for bound in bounds) <= 6  # 5 % of 60 is 3


def test_where_nothing_was_claimed_the_bound_is_reported_alone() -> None:
    result = OneRunAudit(10, 5, 4, 4, 0.3, math.inf, 1e-5, 0.95)
    assert result.passed
    assert result.verdict.startswith("nothing was claimed")
    assert result.to_dict()["epsilon_claimed"] is None


@pytest.mark.parametrize(
    "scores, coins, message",
    [
        (torch.zeros(0), torch.zeros(0), "0 scores and 0 coins"),
        (torch.zeros(3), torch.zeros(2), "3 scores and 2 coins"),
        (torch.tensor([1.0, math.nan]), torch.tensor([1, 0]), "one finite score"),
        (torch.zeros(3), torch.ones(3), "fell alike"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores: torch.Tensor, coins: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        audit_scores(scores, coins.bool(), epsilon=1.0, delta=0.0)


def test_numbers_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="expected correct <= guesses <= canaries"):
        epsilon_lower_bound(10, 11, 5, 0.0)
    with pytest.raises(ValueError, match="p_value is 0"):
        epsilon_lower_bound(10, 10, 5, 0.0, 0)


# --- canaries in the real optimizer -----------------------------------------------------------------------------------


def white_box(trainer: PrivateTrainer, count: int = 2000) -> OneRunAudit:
    with GradientCanaries(trainer.optimizer, count) as canaries:
        trainer.run()
    plan = trainer.plan
    return audit_scores(canaries.scores, canaries.included, epsilon=plan.epsilon, delta=plan.delta)


ONE_EPSILON = {"network": "memorising", "epsilon": 1.0, "delta": 1e-5, "steps": 30}


def test_gradient_canaries_prove_nothing_against_the_right_noise(
    private_trainer: Callable[..., PrivateTrainer],
) -> None:
    result = white_box(private_trainer(**ONE_EPSILON))
    assert result.canaries == 2000
    assert result.epsilon_lower < 0.7
    assert result.passed


@pytest.mark.parametrize("fault", ["noise", "clipping"])
def test_gradient_canaries_catch_noise_or_clipping_that_is_wrong_by_a_factor(
    private_trainer: Callable[..., PrivateTrainer], fault: str
) -> None:
    """At a claimed epsilon of 1, a factor 4 is proven; in noise or clipping, it is the same to an attacker."""
    trainer = private_trainer(**ONE_EPSILON)
    optimizer = trainer.optimizer
    if fault == "noise":
        normal = optimizer.randomness.normal
        optimizer.randomness.normal = lambda shape, std, **kind: normal(shape, std / 4, **kind)
    else:
        step = optimizer.step

        def loose_step(*arguments: Any) -> None:
            for total in optimizer._sums.values():
                total *= 4
            step(*arguments)

        optimizer.step = loose_step
    result = white_box(trainer)
    assert result.epsilon_lower > 1.0
    assert not result.passed
    assert "FAILED" in result.verdict


def test_canaries_leave_the_optimizer_as_it_was(private_trainer: Callable[..., PrivateTrainer]) -> None:
    trainer = private_trainer(epsilon=None)
    step = trainer.optimizer.step
    with GradientCanaries(trainer.optimizer, 5) as canaries:
        assert trainer.optimizer.step != step
    assert trainer.optimizer.step == step
    assert len(canaries.scores) == 5
    with pytest.raises(ValueError, match="1 canaries, expected two or more"):
        GradientCanaries(trainer.optimizer, 1)
    unclipped = private_trainer(epsilon=None, max_grad_norm=math.inf)
    with pytest.raises(ValueError, match="does not clip"):
        GradientCanaries(unclipped.optimizer)


# --- canaries among the records ---------------------------------------------------------------------------------------

MEMORISED = {"network": "memorising", "records": 300, "expected_batch": 60}


def test_wrong_labels_are_found_in_a_network_that_memorised_them(
    private_trainer: Callable[..., PrivateTrainer],
) -> None:
    trainer = private_trainer(**MEMORISED, epsilon=None, max_grad_norm=math.inf, steps=300, learning_rate=1.0)
    canaries = RecordCanaries(trainer, 150)
    trainer.run()
    result = audit_scores(canaries.scores(), canaries.included, epsilon=math.inf, delta=trainer.plan.delta)
    assert result.canaries == 150
    assert result.epsilon_lower > 1.0


def test_wrong_labels_are_not_found_after_private_training(private_trainer: Callable[..., PrivateTrainer]) -> None:
    trainer = private_trainer(**MEMORISED, epsilon=1.0, steps=30)
    canaries = RecordCanaries(trainer, 150)
    trainer.run()
    result = audit_scores(canaries.scores(), canaries.included, epsilon=1.0, delta=trainer.plan.delta)
    assert result.epsilon_lower < 0.5
    assert result.passed


def test_canaries_are_whole_units_with_labels_of_others_and_only_the_chosen_are_trained_on(
    private_trainer: Callable[..., PrivateTrainer],
) -> None:
    trainer = private_trainer(records=60, per_patient=3, epsilon=None)
    before = [trainer.data_loader.dataset.dataset[i]["label"] for i in range(60)]
    canaries = RecordCanaries(trainer, 100)
    assert len(canaries.included) == 10  # half of the patients at most
    kept = 20 - int((~canaries.included).sum())
    assert trainer.plan.units == trainer.sampler.unit_count == kept
    assert trainer.plan.sample_rate == pytest.approx(0.25)
    assert len(trainer.data_loader.dataset) == 3 * kept
    wrong = sum(
        trainer.data_loader.dataset[i]["label"] != before[number]
        for i, number in enumerate(trainer.data_loader.dataset.dataset.kept)
    )
    assert wrong == 3 * int(canaries.included.sum())
    trainer.run()
    assert canaries.scores().shape == (10,)


def test_training_sets_without_room_for_canaries_are_refused(private_trainer: Callable[..., PrivateTrainer]) -> None:
    with pytest.raises(ValueError, match="has 3 units"):
        RecordCanaries(private_trainer(records=3, expected_batch=1, epsilon=None))
    alike = private_trainer(epsilon=None)
    for record in alike.data_loader.dataset.dataset:
        record["label"] = 1
    with pytest.raises(ValueError, match="are alike"):
        RecordCanaries(alike)
    for record in alike.data_loader.dataset.dataset:
        del record["label"]
    with pytest.raises(ValueError, match="a record has image but no label"):
        RecordCanaries(alike)
