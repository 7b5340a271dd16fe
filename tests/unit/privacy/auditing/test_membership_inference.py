"""The membership report: exact bounds, and a verdict that follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from clinbundles.engines.private_trainer import PrivateTrainer
from clinbundles.privacy.auditing.membership_inference import largest_auc, largest_hit_rate, membership_report
from clinbundles.privacy.auditing.sample_losses import sample_losses


def losses(shift: float, members: int = 2000, others: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inside = torch.randn(members, generator=generator, dtype=torch.float64) - shift
    return inside, torch.randn(others, generator=generator, dtype=torch.float64)


def test_the_auc_is_the_usual_one() -> None:
    inside, outside = losses(0.5, 300, 200)
    truth = np.r_[np.ones(300), np.zeros(200)]
    slow = roc_auc_score(truth, -torch.cat([inside, outside]).numpy())
    report = membership_report(inside, outside, epsilon=8.0, delta=1e-5)
    assert report.auc == pytest.approx(slow, abs=1e-12)
    assert report.auc_interval[0] < 0.638 < report.auc_interval[1]  # the truth, Phi(0.5 / sqrt 2)


def test_the_interval_of_the_auc_holds_in_about_95_percent_of_repetitions() -> None:
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(200):
        inside, outside = torch.randn(2, 150, generator=generator)
        report = membership_report(inside - 0.5, outside, epsilon=1.0, delta=0.0)
        held += report.auc_interval[0] <= 0.63816 <= report.auc_interval[1]
    assert 180 <= held <= 198


def test_at_most_one_percent_of_the_others_are_false_alarms() -> None:
    inside, outside = losses(0.5)
    report = membership_report(inside, outside, epsilon=1.0, delta=1e-5)
    threshold = outside.sort().values[20]
    assert report.hit_rate == pytest.approx(float((inside < threshold).double().mean()))
    assert report.hit_interval[0] < report.hit_rate < report.hit_interval[1]
    assert 0.01 < report.false_alarm_upper < 0.017
    assert report.hit_allowed == pytest.approx(math.e * report.false_alarm_upper + 1e-5)


def test_the_allowed_auc_is_the_area_under_the_allowed_hit_rates() -> None:
    for epsilon, delta in [(0.0, 0.0), (0.5, 0.0), (2.0, 1e-2), (8.0, 1e-4)]:
        x = np.linspace(0, 1, 10_001)
        curve = [largest_hit_rate(float(each), epsilon, delta) if each < 1 - delta else 1.0 for each in x]
        area = (np.array(curve[1:]) + np.array(curve[:-1])).mean() / 2
        assert largest_auc(epsilon, delta) == pytest.approx(area, abs=1e-3)
    assert largest_auc(0.0, 0.0) == 0.5
    assert largest_auc(math.inf, 0.0) == largest_hit_rate(0.0, math.inf, 0.0) == 1.0


def test_a_network_that_tells_nothing_passes_and_one_that_tells_too_much_fails() -> None:
    quiet = membership_report(*losses(0.0), epsilon=1.0, delta=1e-5)
    assert quiet.passed
    assert quiet.verdict.startswith("passed")
    telling = membership_report(*losses(2.0), epsilon=1.0, delta=1e-5)
    assert not telling.passed
    assert telling.verdict.startswith("FAILED")
    assert telling.to_dict()["passed"] is False


def test_without_a_guarantee_there_is_only_a_measurement() -> None:
    report = membership_report(*losses(2.0), epsilon=math.inf, delta=1e-5)
    assert report.passed
    assert report.verdict.startswith("nothing was claimed")
    assert report.to_dict()["epsilon"] is None


@pytest.mark.parametrize("members, others", [(5, 200), (200, 50)])
def test_too_few_losses_are_refused(members: int, others: int) -> None:
    with pytest.raises(ValueError, match=f"{members} losses of members and {others} of others"):
        membership_report(*losses(0.0, members, others), epsilon=1.0, delta=1e-5)


def test_an_overfitted_network_is_seen_and_a_private_one_is_not(
    private_trainer: Callable[..., PrivateTrainer],
) -> None:
    numbers = {"network": "memorising", "records": 200, "expected_batch": 50, "learning_rate": 1.0}
    overfitted = private_trainer(**numbers, epsilon=None, max_grad_norm=math.inf, steps=150)
    private = private_trainer(**numbers, epsilon=1.0, steps=20)
    others = private_trainer(**numbers, epsilon=None, seed=7).data_loader.dataset.dataset
    reports = []
    for trainer in (overfitted, private):
        trainer.run()
        inside = sample_losses(trainer, trainer.data_loader.dataset.dataset, at_once=64)
        outside = sample_losses(trainer, others)
        with torch.no_grad():
            pred = trainer.network(others[5]["image"][None])
        slow = trainer.loss_function(pred, torch.tensor([others[5]["label"]]))
        assert outside[5] == pytest.approx(float(slow), rel=1e-5)
        reports.append(membership_report(inside, outside, epsilon=1.0, delta=1e-4))
    assert not reports[0].passed
    assert reports[0].auc > 0.9
    assert reports[1].passed
    assert reports[1].auc < 0.6
