"""Privacy of the Gaussian mechanism without sampling, in closed form (Balle and Wang, 2018, theorem 8)."""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import norm


def gaussian_epsilon(noise_multiplier: float, steps: int, delta: float) -> float:
    mu = math.sqrt(steps) / noise_multiplier

    def excess(epsilon: float) -> float:
        upper = norm.cdf(mu / 2 - epsilon / mu)
        return float(upper - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu) - delta)

    return float(brentq(excess, 0, 500))
