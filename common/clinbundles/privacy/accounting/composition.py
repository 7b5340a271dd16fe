"""Privacy loss of many steps of the Poisson-subsampled Gaussian mechanism, as one epsilon for a given delta.

Neighbours differ by adding or removing one unit of privacy.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from opacus.accountants import PRVAccountant, RDPAccountant

__all__ = ["ACCOUNTANTS", "Segment", "epsilon_spent"]

# Opacus' third, "gdp", is a central-limit approximation and can state too small an epsilon: not here.
ACCOUNTANTS = {"prv": PRVAccountant, "rdp": RDPAccountant}
_NUMERICAL_LIMIT = 200.0  # above it exp(epsilon) leaves the range of the discretised privacy loss


class Segment(NamedTuple):
    """Steps in a row with the same mechanism: noise over clipping norm, inclusion probability, how many."""

    noise_multiplier: float
    sample_rate: float
    steps: int


def epsilon_spent(segments: Iterable[Segment], delta: float, accountant: str = "prv") -> float:
    """Smallest epsilon that the accountant proves for these steps at ``delta``.

    Args:
        segments: (noise_multiplier, sample_rate, steps) of each; the order does not matter.
        delta: in (0, 1).
        accountant: "prv" (Gopi, Lee, Wutschitz, "Numerical Composition of Differential Privacy", 2021; an upper bound
            within 0.01) or "rdp" (Mironov, "Rényi Differential Privacy", 2017; looser).

    Returns:
        0 without steps, infinity when a step had no noise, never negative. Where "prv" is beyond floating-point
        numbers (epsilon above 200, delta near 1e-15) it gives the Rényi bound, which holds as well.

    Raises:
        ValueError: delta outside (0, 1), an unknown accountant.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}, expected a probability above 0 and below 1/(number of units)")
    if accountant not in ACCOUNTANTS:
        raise ValueError(f"accountant is {accountant!r}, expected one of {', '.join(ACCOUNTANTS)}")
    steps: dict[tuple[float, float], int] = {}
    for noise_multiplier, sample_rate, count in segments:
        steps[noise_multiplier, sample_rate] = steps.get((noise_multiplier, sample_rate), 0) + count
    history = tuple(sorted((*mechanism, count) for mechanism, count in steps.items() if count))
    if not history:
        return 0.0
    if any(noise_multiplier == 0 for noise_multiplier, _, _ in history):
        return math.inf
    return _epsilon(history, delta, accountant)


@lru_cache(maxsize=1024)
def _epsilon(history: tuple[tuple[float, float, int], ...], delta: float, accountant: str) -> float:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of its grid of orders
        bound = _opacus_epsilon("rdp", history, delta)
        if accountant == "prv" and bound <= _NUMERICAL_LIMIT:
            try:
                numerical = _opacus_epsilon("prv", history, delta)
            except (ValueError, RuntimeError):  # its own checks of rounding failed: the other bound stands
                numerical = math.nan
            bound = numerical if math.isfinite(numerical) else bound
    return max(0.0, bound)


def _opacus_epsilon(accountant: str, history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    ledger = ACCOUNTANTS[accountant]()
    ledger.history = list(history)
    return float(ledger.get_epsilon(delta))
