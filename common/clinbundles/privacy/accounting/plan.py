"""The plan of a private training, fixed before any data are touched."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from clinbundles.privacy.accounting.composition import Segment, epsilon_spent
from clinbundles.privacy.accounting.ledger import PrivacyLedger
from clinbundles.privacy.accounting.noise_multiplier import noise_multiplier_for

__all__ = ["UNITS", "PrivacyPlan", "plan_budget"]

UNITS = ("record", "patient")


@dataclass(frozen=True)
class PrivacyPlan:
    """Budget and mechanism of one training; `plan_budget` makes it.

    Attributes:
        units: number of privacy units N in the training set.
        unit: what one unit is, "record" (an image) or "patient" (all images of one).
        epsilon: budget; infinity for a training without privacy.
        delta: in (0, 1/N).
        sample_rate: probability q of each unit to be in a batch, in (0, 1].
        steps: number T of logical steps.
        noise_multiplier: noise over clipping norm; 0 without privacy.
        max_grad_norm: clipping norm C of one unit's gradient.
        views: augmented views of a record whose gradients are averaged before clipping.

    Raises:
        ValueError: numbers that are out of range or contradict each other.
    """

    units: int
    unit: str
    epsilon: float
    delta: float
    sample_rate: float
    steps: int
    noise_multiplier: float
    max_grad_norm: float = 1.0
    views: int = 1

    def __post_init__(self) -> None:
        _whole("units", self.units)
        _whole("steps", self.steps)
        _whole("views", self.views)
        if self.unit not in UNITS:
            raise ValueError(f"unit is {self.unit!r}, expected record or patient")
        if not self.epsilon > 0:
            raise ValueError(f"epsilon is {self.epsilon}, expected a positive number, or inf without privacy")
        if not 0 < self.delta < 1 / self.units:
            raise ValueError(
                f"delta is {self.delta}, expected above 0 and below 1/{self.units} = {1 / self.units:.2g}: with "
                f"{self.units} units a larger one would allow to publish a whole {self.unit}"
            )
        if not 0 < self.sample_rate <= 1:
            raise ValueError(
                f"sample_rate is {self.sample_rate:.6g}, expected in (0, 1]: the expected batch must be positive and "
                f"at most the number of units, {self.units}"
            )
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm}, expected a positive number (1.0 is usual)")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ValueError(f"noise_multiplier is {self.noise_multiplier}, expected a finite number of 0 or more")
        if self.is_private and self.noise_multiplier == 0:
            raise ValueError(
                f"noise_multiplier is 0 with a finite epsilon of {self.epsilon}: without noise there is no privacy. "
                "Set epsilon to inf, or let plan_budget choose the noise"
            )
        if self.is_private and not math.isfinite(self.max_grad_norm):
            raise ValueError("max_grad_norm is infinite with a finite epsilon: the noise is a multiple of it")

    @property
    def is_private(self) -> bool:
        """Whether the training has a budget."""
        return math.isfinite(self.epsilon)

    @property
    def expected_batch(self) -> float:
        """Mean number of units in a batch, by which the summed update is divided."""
        return self.sample_rate * self.units

    @property
    def epochs(self) -> float:
        """How often each unit is drawn on average."""
        return self.sample_rate * self.steps

    def epsilon_after(self, steps: int) -> float:
        """Privacy that the first ``steps`` planned steps spend (PRV): at most `epsilon` for `steps`."""
        return epsilon_spent([Segment(self.noise_multiplier, self.sample_rate, steps)], self.delta)

    def allows_step(self, ledger: PrivacyLedger) -> bool:
        """Whether one more planned step stays within the steps and the budget, given what the ledger has already."""
        if ledger.steps >= self.steps:
            return False
        mechanism = (self.noise_multiplier, self.sample_rate)
        if not self.is_private or all(segment[:2] == mechanism for segment in ledger.segments):
            return True  # a part of the plan itself, which the budget was solved for
        return epsilon_spent([*ledger.segments, Segment(*mechanism, 1)], self.delta) <= self.epsilon

    def signal_to_noise(self, parameters: int) -> float:
        """Largest possible norm of a step's expected mean gradient over the expected norm of its noise.

        The mean of clipped gradients is at most C long, the noise about sigma C sqrt(P) / (q N) for P parameters.
        Below about 0.1 a network of this size rarely learns.
        """
        if self.noise_multiplier == 0:
            return math.inf
        return self.expected_batch / (self.noise_multiplier * math.sqrt(parameters))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a checkpoint; an infinite epsilon stays infinite."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> PrivacyPlan:
        """The plan of a checkpoint.

        Raises:
            ValueError: missing or unknown entries.
        """
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"the checkpoint's privacy plan cannot be read: {error}") from error


def plan_budget(
    units: int,
    unit: str = "record",
    *,
    epsilon: float | None,
    delta: float | None = None,
    expected_batch: float,
    steps: int | None = None,
    epochs: float | None = None,
    max_grad_norm: float = 1.0,
    views: int = 1,
) -> PrivacyPlan:
    """The plan with the least noise that keeps exactly this training within (epsilon, delta).

    Args:
        units: number of records or patients in the training set.
        unit: "record" or "patient".
        epsilon: budget, 0.02 to 100; None or infinity for the same training without noise.
        delta: probability with which the bound may fail; None for 1/(10 units), a tenth of the largest allowed.
        expected_batch: mean number of units in a batch; the sample rate is this over ``units``.
        steps: number of logical steps; give either this or ``epochs``.
        epochs: how often each unit is drawn on average; rounded to whole steps.
        max_grad_norm: clipping norm of one unit's gradient.
        views: augmented views of each record, averaged before clipping.

    Raises:
        ValueError: a number out of range; the message says which and what to write.
    """
    _whole("units", units)
    if not 0 < expected_batch <= units:
        raise ValueError(
            f"expected_batch is {expected_batch}, expected above 0 and at most the number of units, {units}"
        )
    sample_rate = expected_batch / units
    if (steps is None) == (epochs is None):
        raise ValueError(f"steps is {steps} and epochs is {epochs}: give exactly one of the two")
    if epochs is not None:
        if not (epochs > 0 and math.isfinite(epochs)):
            raise ValueError(f"epochs is {epochs}, expected a positive number")
        steps = max(1, round(epochs / sample_rate))
    assert steps is not None
    try:
        epsilon = math.inf if epsilon is None else float(epsilon)
    except ValueError as error:
        raise ValueError(f"epsilon is {epsilon!r}, expected a positive number, or inf without privacy") from error
    delta = 1 / (10 * units) if delta is None else delta

    def plan(noise_multiplier: float, budget: float) -> PrivacyPlan:
        return PrivacyPlan(
            units, unit, budget, delta, sample_rate, steps, noise_multiplier, float(max_grad_norm), views
        )

    plan(0.0, math.inf)  # refuses other wrong numbers before the accountant meets them
    if not epsilon > 0:
        raise ValueError(f"epsilon is {epsilon}, expected a positive number, or inf without privacy")
    if math.isinf(epsilon):
        return plan(0.0, math.inf)
    return plan(noise_multiplier_for(epsilon, delta, sample_rate, steps), epsilon)


def _whole(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 1 or value % 1:
        raise ValueError(f"{name} is {value}, expected a whole number of 1 or more")
