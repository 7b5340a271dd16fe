"""The ledger counts steps, not segments, and survives a checkpoint."""

from __future__ import annotations

import io
import math

import pytest
import torch

from clinbundles.privacy.accounting.ledger import PrivacyLedger


def test_steps_are_counted_whatever_their_mechanism() -> None:
    ledger = PrivacyLedger()
    for noise in (1.0, 1.0, 2.0, 1.0):
        ledger.record(noise, 0.1)
    ledger.record(1.0, 0.1, steps=6)
    assert ledger.steps == 10
    assert [tuple(segment) for segment in ledger.segments] == [(1.0, 0.1, 2), (2.0, 0.1, 1), (1.0, 0.1, 7)]


def test_an_empty_ledger_has_spent_nothing() -> None:
    assert PrivacyLedger().epsilon(1e-5) == 0.0
    assert PrivacyLedger().steps == 0


def test_a_step_without_noise_is_recorded_as_an_infinite_loss() -> None:
    ledger = PrivacyLedger()
    ledger.record(0.0, 0.1)
    assert ledger.epsilon(1e-5) == math.inf


def test_a_resumed_training_adds_to_what_was_spent() -> None:
    whole, first, second = PrivacyLedger(), PrivacyLedger(), PrivacyLedger()
    whole.record(1.0, 0.1, 30)
    first.record(1.0, 0.1, 20)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    second.record(1.0, 0.1, 10)
    assert second.segments == whole.segments
    assert first.epsilon(1e-5) < second.epsilon(1e-5) == whole.epsilon(1e-5)


@pytest.mark.parametrize("state", [{}, {"segments": [[1.0, 0.1]]}, {"segments": [["a", 0.1, 1]]}])
def test_a_checkpoint_without_a_readable_ledger_is_refused(state: dict) -> None:
    with pytest.raises(ValueError, match=r"privacy ledger cannot be read.*train anew"):
        PrivacyLedger().load_state_dict(state)


@pytest.mark.parametrize(
    "step, message",
    [
        ((-1.0, 0.1, 1), "noise_multiplier is -1.0, expected a finite number of 0 or more"),
        ((math.nan, 0.1, 1), "noise_multiplier is nan"),
        ((1.0, 0.0, 1), "sample_rate is 0.0, expected a probability in"),
        ((1.0, 1.1, 1), "sample_rate is 1.1"),
        ((1.0, 0.1, 1.5), "steps is 1.5, expected a whole number"),
        ((1.0, 0.1, -1), "steps is -1"),
    ],
)
def test_an_impossible_step_is_refused(step: tuple, message: str) -> None:
    ledger = PrivacyLedger()
    with pytest.raises(ValueError, match=message):
        ledger.record(*step)
    assert ledger.steps == 0
