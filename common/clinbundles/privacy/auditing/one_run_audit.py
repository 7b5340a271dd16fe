"""A lower bound on epsilon from one training into which each of many canaries went by the toss of a coin.

Source: Steinke, Nasr, Jagielski, "Privacy Auditing with One (1) Training Run" (NeurIPS 2023). Whoever guesses better
which canaries went in than any (epsilon, delta)-private training allows has disproved that epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

__all__ = ["OneRunAudit", "audit_scores", "epsilon_lower_bound", "guess_probability"]

_LARGEST = 50.0


@dataclass(frozen=True)
class OneRunAudit:
    """Result of an audit by canaries.

    Attributes:
        canaries: number of canaries m.
        included: how many were trained on.
        guesses: guesses of the best rule.
        correct: of these.
        epsilon_lower: what the guesses prove, with the confidence.
        epsilon_claimed: of the training; infinity when nothing was claimed.
        delta: for both.
        confidence: that a correct training passes, at least.
    """

    canaries: int
    included: int
    guesses: int
    correct: int
    epsilon_lower: float
    epsilon_claimed: float
    delta: float
    confidence: float

    @property
    def passed(self) -> bool:
        """Whether the claim stands."""
        return self.epsilon_lower <= self.epsilon_claimed

    @property
    def verdict(self) -> str:
        """One sentence."""
        found = f"{self.correct} of {self.guesses} guesses about {self.canaries} canaries were right"
        proven = f"which proves epsilon >= {self.epsilon_lower:.2f} at {self.confidence:.0%} confidence"
        if not math.isfinite(self.epsilon_claimed):
            return f"nothing was claimed: {found}, {proven}"
        if self.passed:
            return f"passed: {found}, {proven}; the claimed {self.epsilon_claimed:.2f} stands"
        return f"FAILED: {found}, {proven}; the claimed {self.epsilon_claimed:.2f} is wrong"

    def to_dict(self) -> dict[str, Any]:
        """JSON content; an infinite number is null."""
        claimed = self.epsilon_claimed if math.isfinite(self.epsilon_claimed) else None
        return {**asdict(self), "epsilon_claimed": claimed, "passed": self.passed, "verdict": self.verdict}


def guess_probability(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Greatest probability that an (epsilon, delta)-private training lets so many guesses be right (theorem 5.2).

    Args:
        canaries: m, each included by a fair coin.
        guesses: r of them are guessed at.
        correct: v of these guesses are right.
        epsilon: 0 or more.
        delta: in [0, 1).
    """
    tail = binom.sf(np.arange(correct, -1, -1) - 1, guesses, expit(epsilon))  # P[Binomial >= v - i], i = 0, 1, ...
    probability = float(tail[0])
    if delta > 0 and correct > 0:
        probability += 2 * canaries * delta * float(((tail[1:] - tail[0]) / np.arange(1, correct + 1)).max())
    return min(1.0, probability)


def epsilon_lower_bound(canaries: int, guesses: int, correct: int, delta: float, p_value: float = 0.05) -> float:
    """Largest epsilon that these guesses reject at ``p_value``; 0 when they reject none.

    Raises:
        ValueError: numbers that contradict each other.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(
            f"{correct} correct of {guesses} guesses about {canaries} canaries: expected correct <= guesses <= canaries"
        )
    if not 0 < p_value < 1:
        raise ValueError(f"p_value is {p_value}, expected in (0, 1)")

    def excess(epsilon: float) -> float:
        return guess_probability(canaries, guesses, correct, epsilon, delta) - p_value

    if guesses == 0 or excess(0.0) >= 0:
        return 0.0
    return _LARGEST if excess(_LARGEST) < 0 else float(brentq(excess, 0.0, _LARGEST, xtol=1e-6))


def audit_scores(
    scores: torch.Tensor,
    included: torch.Tensor,
    *,
    epsilon: float,
    delta: float,
    confidence: float = 0.95,
    fractions: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0),
) -> OneRunAudit:
    """Guess the canaries with the highest scores in and those with the lowest out, and bound epsilon by the best rule.

    Args:
        scores: (m,), higher where the attacker thinks that the canary was trained on.
        included: (m,) bool, the coins.
        epsilon: claimed of the training; infinity for none.
        delta: of the claim.
        confidence: that a correct training passes; divided among the rules (Bonferroni).
        fractions: of the canaries that each rule guesses at, half from either end.

    Raises:
        ValueError: no canaries, scores that are not finite, or coins that all fell alike.
    """
    m = len(scores)
    if m == 0 or included.shape != scores.shape or not bool(scores.isfinite().all()):
        raise ValueError(
            f"{m} scores and {included.numel()} coins: expected one finite score and one coin for each canary"
        )
    if bool(included.all()) or not bool(included.any()):
        raise ValueError("the coins of all canaries fell alike: toss one for each")
    coins = included[scores.argsort(descending=True)].to(torch.bool)
    sides = sorted({min(max(1, round(m * fraction / 2)), m // 2) for fraction in fractions})
    rules = []
    for side in sides:
        correct = int(coins[:side].sum() + (~coins[m - side :]).sum())
        bound = epsilon_lower_bound(m, 2 * side, correct, delta, (1 - confidence) / len(sides))
        rules.append((bound, 2 * side, correct))
    bound, guesses, correct = max(rules)
    return OneRunAudit(m, int(included.sum()), guesses, correct, bound, epsilon, delta, confidence)
