"""The exact privacy of the Gaussian mechanism."""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import norm

__all__ = ["gaussian_epsilon"]


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Least epsilon for which two unit Gaussians at a distance of ``mu`` are (epsilon, delta)-indistinguishable.

    T steps on all units with noise multiplier sigma have mu = sqrt(T) / sigma. Source: Balle and Wang, "Improving the
    Gaussian Mechanism for Differential Privacy" (ICML 2018), theorem 8.

    Args:
        mu: 0 or more.
        delta: in (0, 1).
    """

    def excess(epsilon: float) -> float:
        # the second term as one exponential: exp(epsilon) alone overflows
        second = math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
        return float(norm.cdf(mu / 2 - epsilon / mu) - second - delta)

    if mu <= 0 or excess(0.0) <= 0:
        return 0.0
    largest = mu**2 / 2 + mu * float(norm.isf(delta))  # where the first term alone is delta
    return float(brentq(excess, 0.0, max(largest, 1e-9)))
