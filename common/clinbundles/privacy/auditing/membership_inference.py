"""How well the released network tells who was in its training set, beside what its guarantee allows at most."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import beta, norm, rankdata

__all__ = ["MembershipReport", "largest_auc", "largest_hit_rate", "membership_report"]

_CONFIDENCE = 0.95
FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class MembershipReport:
    """An attacker who calls a record a member when its loss is low (Yeom et al., CSF 2018).

    Attributes:
        members: records of the training set.
        others: records of people that the network has not seen.
        auc: area under the curve of hits over false alarms; 0.5 for an attacker who learns nothing.
        auc_interval: 95 % interval (DeLong et al. 1988).
        auc_allowed: largest that the guarantee allows.
        hit_rate: members found at a threshold with at most 1 % false alarms.
        hit_interval: its 95 % interval (Clopper and Pearson).
        false_alarm_upper: 97.5 % upper bound of the false alarms at that threshold.
        hit_allowed: largest hit rate that the guarantee allows at that upper bound.
        epsilon: of the guarantee; infinity for none.
        delta: of the guarantee.
    """

    members: int
    others: int
    auc: float
    auc_interval: tuple[float, float]
    auc_allowed: float
    hit_rate: float
    hit_interval: tuple[float, float]
    false_alarm_upper: float
    hit_allowed: float
    epsilon: float
    delta: float

    @property
    def passed(self) -> bool:
        """Whether what was measured is compatible with the guarantee."""
        return self.hit_interval[0] <= self.hit_allowed and self.auc_interval[0] <= self.auc_allowed

    @property
    def verdict(self) -> str:
        """One sentence."""
        measured = (
            f"an attacker by loss has an AUC of {self.auc:.3f} ({self.auc_interval[0]:.3f} to "
            f"{self.auc_interval[1]:.3f}) and finds {self.hit_rate:.1%} of the members at {FALSE_ALARMS:.0%} false "
            "alarms"
        )
        if not math.isfinite(self.epsilon):
            return f"nothing was claimed: {measured}"
        allowed = f"epsilon = {self.epsilon:.2f} allows {self.auc_allowed:.3f} and {self.hit_allowed:.1%}"
        return f"passed: {measured}; {allowed}" if self.passed else f"FAILED: {measured}, but {allowed} at most"

    def to_dict(self) -> dict[str, Any]:
        """JSON content; an infinite number is null."""
        epsilon = self.epsilon if math.isfinite(self.epsilon) else None
        return {**asdict(self), "epsilon": epsilon, "passed": self.passed, "verdict": self.verdict}


def largest_hit_rate(false_alarms: float, epsilon: float, delta: float) -> float:
    """Most members that any attacker on an (epsilon, delta)-private network finds at these false alarms."""
    if epsilon > 700:
        return 1.0
    ratio = math.exp(epsilon)
    return min(1.0, ratio * false_alarms + delta, 1 - (1 - delta - false_alarms) / ratio)


def largest_auc(epsilon: float, delta: float) -> float:
    """Area under the curve of `largest_hit_rate` (Kairouz, Oh, Viswanath, ICML 2015, figure 1)."""
    if epsilon > 700:
        return 1.0
    ratio = math.exp(epsilon)
    corner = (1 - delta) / (1 + ratio)
    rest = 1 - delta - corner
    return ratio * corner**2 / 2 + delta * corner + rest - rest**2 / (2 * ratio) + delta


def membership_report(
    member_losses: torch.Tensor, other_losses: torch.Tensor, *, epsilon: float, delta: float
) -> MembershipReport:
    """Compare the losses of the training set with those of held-out records of the same kind.

    Args:
        member_losses: (M,).
        other_losses: (N,); 100 or more, or no threshold has 1 % false alarms.
        epsilon: claimed of the network, for one record; infinity for none.
        delta: of the claim.

    Raises:
        ValueError: too few losses, or not finite.
    """
    inside, outside = (losses.to(torch.float64).numpy() for losses in (member_losses, other_losses))
    if len(inside) < 10 or len(outside) < 100 or not (np.isfinite(inside).all() and np.isfinite(outside).all()):
        raise ValueError(
            f"{len(inside)} losses of members and {len(outside)} of others: expected finite ones, at least 10 and 100"
        )
    auc, error = _auc(-inside, -outside)
    width = float(norm.isf((1 - _CONFIDENCE) / 2)) * error
    alarms = int(FALSE_ALARMS * len(outside))
    threshold = np.sort(outside)[alarms]  # so many others lie below
    hits, alarms = int((inside < threshold).sum()), int((outside < threshold).sum())
    upper = _clopper_pearson(alarms, len(outside))[1]
    return MembershipReport(
        members=len(inside),
        others=len(outside),
        auc=auc,
        auc_interval=(max(0.0, auc - width), min(1.0, auc + width)),
        auc_allowed=largest_auc(epsilon, delta),
        hit_rate=hits / len(inside),
        hit_interval=_clopper_pearson(hits, len(inside)),
        false_alarm_upper=upper,
        hit_allowed=largest_hit_rate(upper, epsilon, delta),
        epsilon=epsilon,
        delta=delta,
    )


def _auc(inside: np.ndarray, outside: np.ndarray) -> tuple[float, float]:
    """Area and its standard error; scores are higher for members."""
    m, n = len(inside), len(outside)
    ranks = rankdata(np.concatenate([inside, outside]))
    of_inside = (ranks[:m] - rankdata(inside)) / n  # share of the others that each member beats
    of_outside = 1 - (ranks[m:] - rankdata(outside)) / m
    return float(of_inside.mean()), math.sqrt(of_inside.var(ddof=1) / m + of_outside.var(ddof=1) / n)


def _clopper_pearson(count: int, tries: int) -> tuple[float, float]:
    tail = (1 - _CONFIDENCE) / 2
    lower = 0.0 if count == 0 else float(beta.ppf(tail, count, tries - count + 1))
    upper = 1.0 if count == tries else float(beta.ppf(1 - tail, count + 1, tries - count))
    return lower, upper
