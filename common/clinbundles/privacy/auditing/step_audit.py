"""White-box audit of one private step: does one unit move the update as little as promised, against as much noise?

Noised updates from the same weights, with and without one unit whose gradient is far longer than the clipping norm,
lie along that gradient as two Gaussians. In units of the clipping norm their means differ by 1 and their standard
deviation is the noise multiplier sigma, so their distance is mu = 1 / sigma. Clipping twice too loose doubles it, noise
four times too small quadruples it. After Nasr et al., "Tight Auditing of Differentially Private Machine Learning"
(USENIX Security 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from scipy.stats import beta, norm

from clinbundles.privacy.accounting.gaussian_epsilon import gaussian_epsilon

__all__ = ["StepAudit", "audit_step"]

TOLERANCE = 0.1
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class StepAudit:
    """Result of an audit of the private step.

    Attributes:
        noise_multiplier: sigma of the audited steps.
        steps: steps with the unit, and as many without it.
        shift: measured effect of the unit, in clipping norms; 1 when all is right.
        noise: measured noise along the unit's gradient, in clipping norms; sigma when all is right.
        mu: shift / noise; 1 / sigma when all is right.
        mu_lower: 95 % lower bound of mu, from the errors of an attacker who sees one step.
        epsilon_lower: epsilon that this attacker proves for one step, at delta.
        epsilon_claimed: epsilon of one such step.
        delta: for both.
        least_noise: noise of the parameter that has least, over sigma; near 1 when all is right.
        least_noise_allowed: what chance explains.
    """

    noise_multiplier: float
    steps: int
    shift: float
    noise: float
    mu: float
    mu_lower: float
    epsilon_lower: float
    epsilon_claimed: float
    delta: float
    least_noise: float
    least_noise_allowed: float

    @property
    def ratio(self) -> float:
        """Measured distance over the promised one: 1 when all is right, 2 for half the noise or twice the clipping."""
        return self.mu * self.noise_multiplier

    @property
    def passed(self) -> bool:
        """Whether the step is as promised, within 10 %."""
        return abs(self.ratio - 1) <= TOLERANCE and self.least_noise >= self.least_noise_allowed

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.passed:
            return (
                f"passed: one unit is visible at {self.ratio:.3f} of the promised strength (0.9 to 1.1), so clipping, "
                "noise and scaling are as planned"
            )
        if self.ratio > 1 + TOLERANCE:
            return (
                f"FAILED: one unit is visible at {self.ratio:.2f} times the promised strength (its effect is "
                f"{self.shift:.2f} clipping norms, expected 1; the noise {self.noise:.3f}, expected "
                f"{self.noise_multiplier:g}). The stated epsilon does not hold"
            )
        if self.least_noise < self.least_noise_allowed:
            return (
                f"FAILED: a parameter has only {self.least_noise:.3f} of the planned noise: it is released almost "
                "bare. Look at which parameters the optimizer adds noise to"
            )
        return (
            f"FAILED: one unit is visible at only {self.ratio:.2f} of the promised strength (its effect is "
            f"{self.shift:.2f} clipping norms, expected 1; the noise {self.noise:.3f}, expected "
            f"{self.noise_multiplier:g}). Privacy holds, but accuracy is given away: the update is not the planned one"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON content."""
        return {**asdict(self), "ratio": self.ratio, "passed": self.passed, "verdict": self.verdict}


def audit_step(
    step: Callable[[bool], torch.Tensor],
    direction: torch.Tensor,
    *,
    noise_multiplier: float,
    max_grad_norm: float,
    expected_batch: float,
    delta: float,
    steps: int = 600,
) -> StepAudit:
    """Audit a private step by repeating it.

    Args:
        step: makes one noised step from the same weights, with the audited unit (True) or without it, and gives its
            update as a flat vector (P,): what the rule of the optimizer receives as gradient.
        direction: (P,), the audited unit's own gradient, at any length; found by other means than `step`.
        noise_multiplier: sigma that the steps should have, above 0.
        max_grad_norm: clipping norm C that they should have; the unit's gradient must be longer, best ten times.
        expected_batch: number by which they should divide.
        delta: for the epsilon of one step.
        steps: of each kind, 20 or more; the measured distance is off by about sqrt((2 sigma^2 + 1/4) / steps).

    Raises:
        ValueError: numbers out of range, a direction without length, or an update of another size.
    """
    if not (noise_multiplier > 0 and max_grad_norm > 0 and expected_batch > 0):
        raise ValueError(
            f"noise_multiplier {noise_multiplier}, max_grad_norm {max_grad_norm} and expected_batch {expected_batch} "
            "must be positive: without noise there is no guarantee to audit"
        )
    if steps < 20:
        raise ValueError(f"steps is {steps}, expected 20 or more: fewer tell nothing about the noise")
    length = float(direction.norm())
    if not (length > 0 and math.isfinite(length)):
        raise ValueError(f"the audited unit's gradient has length {length}: audit a unit that the loss depends on")
    unit = direction.to(torch.float64) / length
    scale = expected_batch / max_grad_norm
    scores = torch.empty(2, steps, dtype=torch.float64)
    total, squares = torch.zeros_like(unit), torch.zeros_like(unit)
    first: torch.Tensor | None = None
    for number in range(steps):
        for kind in (0, 1):
            update = step(bool(kind)).to(unit) * scale
            if update.shape != unit.shape:
                raise ValueError(f"a step gave {list(update.shape)} numbers, but the direction has {list(unit.shape)}")
            scores[kind, number] = update @ unit
            if kind == 0:
                first = update if first is None else first
                total += update - first  # around the first one: the others' gradients may be much larger than the noise
                squares += (update - first) ** 2
    variance = (squares - total**2 / steps) / (steps - 1)
    shift = float(scores[1].mean() - scores[0].mean())
    noise = float(scores.var(dim=1).mean().sqrt())
    mu = shift / noise if noise > 0 else math.inf
    mu_lower = _lower_bound(scores)
    return StepAudit(
        noise_multiplier=noise_multiplier,
        steps=steps,
        shift=shift,
        noise=noise,
        mu=mu,
        mu_lower=mu_lower,
        epsilon_lower=gaussian_epsilon(mu_lower, delta),
        epsilon_claimed=gaussian_epsilon(1 / noise_multiplier, delta),
        delta=delta,
        least_noise=float(variance.clamp(min=0).min().sqrt()) / noise_multiplier,
        least_noise_allowed=max(0.1, 1 - 6 / math.sqrt(2 * (steps - 1))),
    )


def _lower_bound(scores: torch.Tensor) -> float:
    """95 % lower bound of the distance: threshold from one half of the steps, errors counted on the other."""
    half = scores.shape[1] // 2
    threshold = scores[:, :half].mean()
    wrong = [int((scores[0, half:] > threshold).sum()), int((scores[1, half:] <= threshold).sum())]
    tries = scores.shape[1] - half
    # Clopper and Pearson 1934; half of the error probability for each kind of error
    level = 1 - (1 - _CONFIDENCE) / 2
    upper = [1.0 if count == tries else float(beta.ppf(level, count + 1, tries - count)) for count in wrong]
    return max(0.0, float(norm.isf(upper[0]) + norm.isf(upper[1])))
