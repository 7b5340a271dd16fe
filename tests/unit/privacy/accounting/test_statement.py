"""Statements: they follow from their numbers, are refused when they do not, and say what they leave out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clinbundles.privacy.accounting.composition import Segment
from clinbundles.privacy.accounting.ledger import PrivacyLedger
from clinbundles.privacy.accounting.plan import plan_budget
from clinbundles.privacy.accounting.statement import (
    PrivacyStatement,
    PrivacyStatementError,
    read_statement,
    write_statement,
)
from clinbundles.privacy.randomness import SecureRandomness, SeededRandomness


def statement(epsilon: float | None = 2.0, steps: int = 40, seeded: bool = False, **more: Any) -> PrivacyStatement:
    plan = plan_budget(400, "patient", epsilon=epsilon, delta=1e-4, expected_batch=25, steps=40, views=4)
    ledger = PrivacyLedger()
    ledger.record(plan.noise_multiplier, plan.sample_rate, steps)
    randomness = SeededRandomness(0) if seeded else SecureRandomness()
    return PrivacyStatement.from_ledger(plan, ledger, randomness, **more)


def test_a_statement_says_what_the_ledger_spent_not_what_was_planned() -> None:
    whole, half = statement(), statement(steps=20)
    assert 1.98 <= whole.epsilon <= 2.0
    assert half.epsilon < whole.epsilon
    assert (half.planned_epsilon, half.planned_steps, half.steps) == (2.0, 40, 20)


@pytest.mark.parametrize("epsilon, steps", [(2.0, 40), (2.0, 0), (None, 40)])
def test_a_statement_comes_back_from_json(epsilon: float | None, steps: int) -> None:
    written = statement(epsilon, steps, copies=3)
    text = json.dumps(written.to_dict(), allow_nan=False)
    assert PrivacyStatement.from_dict(json.loads(text)).check() == written


@pytest.mark.parametrize(
    "key, value",
    [
        ("epsilon", 1.0),
        ("delta", 2e-4),
        ("unit", "record"),
        ("units", 401),
        ("max_grad_norm", 1.5),
        ("views", 1),
        ("planned_epsilon", 1.0),
        ("planned_steps", 41),
        ("noise", "seeded"),
        ("copies", 1),
        ("accountant_version", "opacus 2.0"),
        ("digest", "0" * 64),
    ],
)
def test_a_statement_with_any_changed_number_is_refused(key: str, value: Any) -> None:
    content = json.loads(json.dumps(statement().to_dict()))
    assert content[key] != value
    with pytest.raises(PrivacyStatementError, match="changed after the training"):
        PrivacyStatement.from_dict({**content, key: value}).check()


@pytest.mark.parametrize("key, value", [("noise_multiplier", 30.0), ("sample_rate", 0.06), ("steps", 39)])
def test_a_statement_with_another_mechanism_is_refused(key: str, value: float) -> None:
    content = json.loads(json.dumps(statement().to_dict()))
    content["segments"][0][key] = value
    with pytest.raises(PrivacyStatementError, match="its own steps, sample rate and noise give"):
        PrivacyStatement.from_dict(content).check()


def test_a_forged_digest_does_not_help_an_epsilon_that_does_not_follow() -> None:
    forged = replace(statement(), epsilon=0.5)
    forged = replace(forged, digest=forged._own_digest())
    with pytest.raises(PrivacyStatementError, match=r"says epsilon = 0\.5, but its own .* give 1\.99"):
        forged.check()


@pytest.mark.parametrize("wrong", [{"units": 0}, {"delta": 0.01}, {"segments": (Segment(1.0, 2.0, 1),)}])
def test_an_impossible_number_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PrivacyStatementError, match="holds an impossible number"):
        replace(statement(), **wrong).check()


def test_the_text_names_guarantee_unit_neighbours_and_mechanism() -> None:
    text = " ".join(statement().text().split())
    assert "0.0001)-differentially private for all images of one patient" in text
    assert "adding or removing one patient" in text
    assert "40 steps: each patient in the batch with probability 0.0625" in text
    assert "25 expected" in text
    assert "mean over 4 augmented views" in text
    assert "ChaCha20 keyed by the operating system" in text
    assert "Each of the 400 patients of the training set, with all images together" in text


@pytest.mark.parametrize(
    "left_out", ["hyper-parameters", "validation set", "normalisation constants", "training loss and accuracy"]
)
def test_the_text_names_what_is_not_covered(left_out: str) -> None:
    assert left_out in " ".join(statement().text().split())
    assert any(left_out in entry for entry in statement().to_dict()["not_covered"])


def test_the_text_bounds_the_success_of_a_membership_attack() -> None:
    made = statement()
    hits = 100 * (0.01 * math.exp(made.epsilon) + 1e-4)
    assert f"finds it in at most {hits:.3g} of a hundred cases" in " ".join(made.text().split())


def test_duplicates_are_said_to_weaken_the_guarantee() -> None:
    assert "Nobody looked for duplicates" in statement().text()
    assert "No image was found in two patients" in " ".join(statement(copies=1).text().split())
    made = statement(copies=3)
    text = " ".join(made.text().split())
    assert f"The most repeated image is in 3 patients: for it epsilon is {3 * made.epsilon:.3f}" in text


def test_seeded_noise_is_marked_as_not_for_release() -> None:
    assert "NOT FOR RELEASE" in statement(seeded=True).text()
    assert "NOT FOR RELEASE" not in statement().text()


def test_a_training_without_noise_has_no_guarantee_and_says_so() -> None:
    made = statement(epsilon=None)
    assert not made.is_private
    assert made.to_dict()["epsilon"] is None
    assert "NO PRIVACY GUARANTEE" in made.text()
    assert "differentially private" not in made.text()


def test_a_budget_that_was_exceeded_is_said_first() -> None:
    assert "THE BUDGET OF 2 WAS EXCEEDED" in statement(steps=80).text()


def test_many_settings_are_summed_up() -> None:
    made = statement()
    several = tuple(Segment(2.0 + i, 0.0625, 10) for i in range(8))
    assert "30 more steps with 3 other settings" in replace(made, segments=several).text()
    assert "no step was made" in statement(steps=0).text()


def test_a_statement_stands_in_the_bundle_metadata_beside_what_is_there(tmp_path: Path) -> None:
    metadata = tmp_path / "configs" / "metadata.json"
    metadata.parent.mkdir()
    metadata.write_text('{"name": "a bundle"}')
    made = statement()
    assert write_statement(made, tmp_path) == metadata
    assert json.loads(metadata.read_text())["name"] == "a bundle"
    assert read_statement(tmp_path) == read_statement(metadata) == made


def test_a_statement_stands_beside_a_checkpoint(tmp_path: Path) -> None:
    made = statement()
    assert write_statement(made, tmp_path) == tmp_path / "privacy_statement.json"
    assert read_statement(tmp_path) == made
    assert read_statement(write_statement(made, tmp_path / "other.json")) == made


def test_a_changed_file_is_refused_by_name(tmp_path: Path) -> None:
    file = write_statement(statement(), tmp_path)
    file.write_text(file.read_text().replace('"steps": 40', '"steps": 10'))
    with pytest.raises(PrivacyStatementError, match=r"privacy_statement\.json: .*changed after the training"):
        read_statement(tmp_path)
    file.write_text('{"epsilon": 1.0}')
    with pytest.raises(PrivacyStatementError, match="cannot be read: KeyError"):
        read_statement(tmp_path)


def test_a_statement_that_does_not_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(PrivacyStatementError):
        write_statement(replace(statement(), epsilon=0.1), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_statement_is_said_to_mean_that_nothing_is_known(tmp_path: Path) -> None:
    with pytest.raises(PrivacyStatementError, match="without it nothing is known"):
        read_statement(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    with pytest.raises(PrivacyStatementError, match=r"metadata\.json \(KeyError"):
        read_statement(tmp_path)
