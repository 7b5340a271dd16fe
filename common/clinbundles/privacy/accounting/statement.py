"""The privacy statement that travels with a trained network: its guarantee, and the numbers that prove it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from clinbundles.data.atomic_file import write_json
from clinbundles.privacy.accounting.composition import Segment
from clinbundles.privacy.accounting.ledger import PrivacyLedger
from clinbundles.privacy.accounting.plan import UNITS, PrivacyPlan
from clinbundles.privacy.accounting.statement_text import NOT_COVERED, statement_text
from clinbundles.privacy.randomness import Randomness

__all__ = ["PrivacyStatement", "PrivacyStatementError", "read_statement", "write_statement"]

METADATA_KEY = "privacy_statement"
STATEMENT_FILE = "privacy_statement.json"
_TOLERANCE = 1e-3  # relative; versions of SciPy differ in the last digits of the numerical accountant


class PrivacyStatementError(ValueError):
    """A privacy statement that is missing, cannot be read, or does not follow from its own numbers."""


@dataclass(frozen=True)
class PrivacyStatement:
    """What one training spent; `from_ledger` makes it, `read_statement` reads and checks it.

    Attributes:
        epsilon: privacy spent, by the PRV accountant; infinity where a step had no noise.
        delta: probability with which the bound may fail.
        unit: "record" or "patient": what was added or removed between neighbouring training sets.
        units: number of units in the training set.
        segments: (noise multiplier, sample rate, steps) of all logical steps.
        max_grad_norm: clipping norm of one unit's gradient.
        views: augmented views of a record, averaged before clipping.
        planned_epsilon: the budget; infinity where none was set.
        planned_steps: steps of the plan.
        noise: where noise and sampling came from (`Randomness.name`).
        copies: how many units the most repeated image is in; None when nobody looked.
        accountant_version: package that computed epsilon.
        digest: SHA-256 of all the above: it shows a slip of the hand, not a forger who computes it anew.
    """

    epsilon: float
    delta: float
    unit: str
    units: int
    segments: tuple[Segment, ...]
    max_grad_norm: float
    views: int
    planned_epsilon: float
    planned_steps: int
    noise: str
    copies: int | None
    accountant_version: str
    digest: str = ""

    @classmethod
    def from_ledger(
        cls, plan: PrivacyPlan, ledger: PrivacyLedger, randomness: Randomness, *, copies: int | None = None
    ) -> PrivacyStatement:
        """The statement of the steps that the ledger recorded, whatever was planned.

        Args:
            plan: of this training.
            ledger: of this training.
            randomness: source of its noise and sampling.
            copies: how many units the most repeated image is in (1: no duplicates); None when nobody looked.
        """
        content: dict[str, Any] = {
            "epsilon": ledger.epsilon(plan.delta),
            "delta": plan.delta,
            "unit": plan.unit,
            "units": plan.units,
            "segments": ledger.segments,
            "max_grad_norm": plan.max_grad_norm,
            "views": plan.views,
            "planned_epsilon": plan.epsilon,
            "planned_steps": plan.steps,
            "noise": randomness.name,
            "copies": copies,
            "accountant_version": f"opacus {importlib.metadata.version('opacus')}",
        }
        return cls(**content, digest=cls(**content)._own_digest())

    @property
    def is_private(self) -> bool:
        """Whether there is a finite bound."""
        return math.isfinite(self.epsilon)

    @property
    def steps(self) -> int:
        """All logical steps."""
        return sum(segment.steps for segment in self.segments)

    def check(self) -> PrivacyStatement:
        """Compute epsilon again from the mechanism and compare; gives the statement itself.

        Raises:
            PrivacyStatementError: a number that was changed afterwards, or an epsilon that does not follow.
        """
        try:
            PrivacyPlan(
                units=self.units,
                unit=self.unit,
                epsilon=math.inf,
                delta=self.delta,
                sample_rate=1.0,
                steps=1,
                noise_multiplier=0.0,
                max_grad_norm=self.max_grad_norm,
                views=self.views,
            )
            ledger = PrivacyLedger()
            for segment in self.segments:
                ledger.record(*segment)
            epsilon = ledger.epsilon(self.delta)
        except (TypeError, ValueError) as error:
            raise PrivacyStatementError(f"the privacy statement holds an impossible number: {error}") from error
        if not math.isclose(epsilon, self.epsilon, rel_tol=_TOLERANCE):
            raise PrivacyStatementError(
                f"the privacy statement says epsilon = {self.epsilon:.6g}, but its own steps, sample rate and noise "
                f"give {epsilon:.6g} at delta = {self.delta:g}: it was changed after the training. Take the file "
                "that the training wrote"
            )
        if self.digest != self._own_digest():
            raise PrivacyStatementError(
                "the privacy statement was changed after the training: its digest does not agree with its content. "
                "Take the file that the training wrote"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """JSON content; an infinite number is null."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        content["segments"] = [segment._asdict() for segment in self.segments]
        plain = {
            key: None if isinstance(value, float) and math.isinf(value) else value for key, value in content.items()
        }
        # For readers without this package; not read back.
        plain["neighbours"] = f"add or remove one {self.unit}"
        plain["accountant"] = "prv"
        plain["not_covered"] = list(NOT_COVERED)
        plain["text"] = self.text()
        return plain

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> PrivacyStatement:
        """The statement of JSON content; `check` tells whether it holds.

        Raises:
            PrivacyStatementError: entries that are missing or of another kind.
        """
        try:
            numbers = {key: _infinite(content[key]) for key in ("epsilon", "planned_epsilon", "max_grad_norm")}
            return cls(
                **numbers,
                delta=float(content["delta"]),
                unit=_one_of(UNITS, content["unit"]),
                units=int(content["units"]),
                segments=tuple(
                    Segment(float(row["noise_multiplier"]), float(row["sample_rate"]), int(row["steps"]))
                    for row in content["segments"]
                ),
                views=int(content["views"]),
                planned_steps=int(content["planned_steps"]),
                noise=str(content["noise"]),
                copies=None if content["copies"] is None else int(content["copies"]),
                accountant_version=str(content["accountant_version"]),
                digest=str(content["digest"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PrivacyStatementError(f"the privacy statement cannot be read: {error!r} is missing or wrong") from (
                error
            )

    def text(self) -> str:
        """The statement in words for a data protection officer, some 40 lines."""
        return statement_text(self)

    def _own_digest(self) -> str:
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "digest"}
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


def write_statement(statement: PrivacyStatement, place: str | os.PathLike[str]) -> Path:
    """Write the statement, atomically: the key ``privacy_statement`` of a metadata.json, else a file of its own.

    Args:
        statement: checked before it is written.
        place: a bundle's folder (into configs/metadata.json), any other folder (privacy_statement.json there), or a
            .json file.

    Returns:
        The file written.

    Raises:
        PrivacyStatementError: the statement does not hold.
    """
    file = _statement_file(Path(place))
    content: dict[str, Any] = statement.check().to_dict()
    if file.name == "metadata.json":
        content = {**json.loads(file.read_text(encoding="utf-8")), METADATA_KEY: content}
    write_json(file, content)
    return file


def read_statement(place: str | os.PathLike[str]) -> PrivacyStatement:
    """Read a statement from where `write_statement` puts it, and check it.

    Raises:
        PrivacyStatementError: no statement there, or one that does not hold; the message names the file.
    """
    file = _statement_file(Path(place))
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if file.name == "metadata.json":
            content = content[METADATA_KEY]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PrivacyStatementError(
            f"no privacy statement in {file} ({error!r}): a training with a privacy plan writes one; without it "
            "nothing is known about what the network reveals of its training data"
        ) from error
    try:
        return PrivacyStatement.from_dict(content).check()
    except PrivacyStatementError as error:
        raise PrivacyStatementError(f"{file}: {error}") from error


def _statement_file(place: Path) -> Path:
    if not place.is_dir():
        return place
    metadata = place / "configs" / "metadata.json"
    return metadata if metadata.is_file() else place / STATEMENT_FILE


def _infinite(value: Any) -> float:
    return math.inf if value is None else float(value)


def _one_of(choices: tuple[str, ...], value: Any) -> str:
    if value not in choices:
        raise ValueError(f"unit {value!r}")
    return str(value)
