"""The step audit lets the real step pass, and catches mistakes in noise, clipping and scaling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from clinbundles.engines.private_trainer import PrivateTrainer
from clinbundles.privacy.accounting.gaussian_epsilon import gaussian_epsilon
from clinbundles.privacy.auditing.step_audit import StepAudit, audit_step
from clinbundles.privacy.auditing.trainer_step import TrainerStep

STEPS = 100


def audit(trainer: PrivateTrainer, steps: int = STEPS, noise_multiplier: float = 0.25) -> StepAudit:
    with TrainerStep(trainer, noise_multiplier=noise_multiplier, others=4) as step:
        return audit_step(step, step.direction, **step.promise, steps=steps)


def random_turns(images: torch.Tensor) -> torch.Tensor:
    return torch.stack([images.rot90(int(torch.randint(4, ())), (-2, -1)), images + 0.1 * torch.randn(images.shape)])


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"per_patient": 2, "views": random_turns, "max_grad_norm": 0.3},
    ],
    ids=["records", "patients with random views"],
)
def test_the_real_step_is_as_promised(private_trainer: Callable[..., PrivateTrainer], setting: dict[str, Any]) -> None:
    trainer = private_trainer(**setting)
    result = audit(trainer)
    assert result.passed, result.verdict
    assert result.ratio == pytest.approx(1, abs=0.1)
    assert result.shift == pytest.approx(1, abs=0.1)
    assert 2.3 < result.mu_lower < 4.0
    assert 0 < result.epsilon_lower < result.epsilon_claimed == gaussian_epsilon(4.0, trainer.plan.delta)
    assert result.verdict.startswith("passed")


def test_noise_four_times_too_small_is_caught(private_trainer: Callable[..., PrivateTrainer]) -> None:
    trainer = private_trainer()
    normal = trainer.optimizer.randomness.normal
    trainer.optimizer.randomness.normal = lambda shape, std, **kind: normal(shape, std / 4, **kind)
    result = audit(trainer, noise_multiplier=1.0)
    assert result.ratio == pytest.approx(4, rel=0.2)
    assert result.mu_lower > 1 / result.noise_multiplier  # proven, beyond chance
    assert result.epsilon_lower > result.epsilon_claimed
    assert not result.passed
    assert "The stated epsilon does not hold" in result.verdict


def test_clipping_twice_too_loose_is_caught(private_trainer: Callable[..., PrivateTrainer]) -> None:
    trainer = private_trainer()
    optimizer, clip = trainer.optimizer, trainer.optimizer.clip

    def loose_clip() -> None:
        """Each unit up to 2 C: the clipped halves of the gradients count double."""
        before = {p: total.clone() for p, total in optimizer._sums.items()}
        for gradients in optimizer._pending.values():
            gradients /= 2
        clip()
        for p, total in optimizer._sums.items():
            total += total - before.get(p, torch.zeros_like(total))

    optimizer.clip = loose_clip
    result = audit(trainer)
    assert result.shift == pytest.approx(2, rel=0.1)
    assert result.noise == pytest.approx(0.25, rel=0.2)
    assert not result.passed
    assert "the stated epsilon does not hold" in result.verdict.lower()


def test_clipping_images_instead_of_patients_is_caught(private_trainer: Callable[..., PrivateTrainer]) -> None:
    trainer = private_trainer(per_patient=3)
    gather = trainer.optimizer.gather
    trainer.optimizer.gather = lambda unit, units: gather(torch.arange(len(unit)), len(unit))
    assert audit(trainer).ratio > 1.5


def test_more_noise_than_planned_is_reported_as_lost_accuracy(private_trainer: Callable[..., PrivateTrainer]) -> None:
    trainer = private_trainer()
    normal = trainer.optimizer.randomness.normal
    trainer.optimizer.randomness.normal = lambda shape, std, **kind: normal(shape, 2 * std, **kind)
    result = audit(trainer)
    assert not result.passed
    assert "Privacy holds, but accuracy is given away" in result.verdict


def test_one_parameter_without_noise_is_caught_though_the_direction_looks_right() -> None:
    def step(with_unit: bool) -> torch.Tensor:
        update = torch.randn(100)
        update[0] += with_unit
        update[7] = 0.0
        return update

    torch.manual_seed(0)
    direction = torch.zeros(100)
    direction[0] = 1
    result = audit_step(
        step, direction, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch=1.0, delta=1e-5, steps=2000
    )
    assert result.ratio == pytest.approx(1, abs=0.1)
    assert result.least_noise == 0
    assert not result.passed
    assert "released almost bare" in result.verdict


def test_the_trainer_is_as_before_afterwards(private_trainer: Callable[..., PrivateTrainer]) -> None:
    trainer = private_trainer()
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    kept = trainer.plan, trainer.ledger, trainer.loss_function, trainer.views
    audit(trainer, 20)
    assert all(torch.equal(before[key], value) for key, value in trainer.network.state_dict().items())
    assert (trainer.plan, trainer.ledger, trainer.loss_function, trainer.views) == kept
    assert trainer.optimizer.plan is trainer.plan
    assert trainer.ledger.steps == 0
    trainer.run()
    assert trainer.ledger.steps == trainer.plan.steps


def test_a_result_is_plain_json_content() -> None:
    content = StepAudit(0.25, 20, 1.0, 0.25, 4.0, 3.0, 5.0, 9.0, 1e-4, 1.0, 0.5).to_dict()
    assert content["ratio"] == 1.0
    assert content["passed"] is True
    assert content["verdict"].startswith("passed")


def test_training_without_noise_has_nothing_to_audit(private_trainer: Callable[..., PrivateTrainer]) -> None:
    with pytest.raises(ValueError, match="the plan has no epsilon"):
        TrainerStep(private_trainer(epsilon=None))


def test_one_unit_alone_cannot_be_audited(private_trainer: Callable[..., PrivateTrainer]) -> None:
    with pytest.raises(ValueError, match="one unit only"):
        TrainerStep(private_trainer(records=4, per_patient=4, delta=0.1))


def test_a_loss_that_does_not_depend_on_the_weights_is_refused_and_leaves_no_hooks(
    private_trainer: Callable[..., PrivateTrainer],
) -> None:
    trainer = private_trainer()
    trainer.loss_function = lambda pred, label: (0 * pred).sum(1)
    with pytest.raises(ValueError, match=r"length 0\.0: the loss must depend on it"), TrainerStep(trainer):
        pass
    trainer.loss_function = torch.nn.CrossEntropyLoss(reduction="none")
    assert audit(trainer, 20).steps == 20


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"noise_multiplier": 0.0}, "without noise there is no guarantee to audit"),
        ({"steps": 5}, "steps is 5, expected 20 or more"),
        ({"direction": torch.zeros(3)}, r"gradient has length 0\.0"),
        ({"direction": torch.ones(4)}, r"gave \[3\] numbers, but the direction has \[4\]"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    numbers = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, "expected_batch": 1.0, "delta": 1e-5, "steps": 20}
    direction = wrong.pop("direction", torch.ones(3))
    with pytest.raises(ValueError, match=message):
        audit_step(lambda _: torch.randn(3), direction, **{**numbers, **wrong})


def test_a_step_without_any_noise_is_infinitely_visible() -> None:
    result = audit_step(
        lambda with_unit: torch.tensor([float(with_unit), 0.0]),
        torch.tensor([1.0, 0.0]),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch=1.0,
        delta=1e-5,
        steps=20,
    )
    assert result.mu == math.inf
    assert not result.passed
