"""The least noise that keeps a training within its budget."""

from __future__ import annotations

import math

from clinbundles.privacy.accounting.composition import Segment, epsilon_spent

__all__ = ["LARGEST_EPSILON", "SMALLEST_EPSILON", "noise_multiplier_for"]

SMALLEST_EPSILON = 0.02  # the accountant's upper bound lies 0.01 above its estimate
LARGEST_EPSILON = 100.0
_DECIMALS = 4
_MOST_NOISE = 2.0**20


def noise_multiplier_for(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Noise multiplier, rounded up to four decimals, whose PRV epsilon is at most ``epsilon`` yet within 1 % of it.

    Args:
        epsilon: budget, 0.02 to 100.
        delta: in (0, 1).
        sample_rate: the inclusion probability of exactly these steps, in (0, 1].
        steps: how many steps, at least 1.

    Returns:
        Standard deviation of the noise over the clipping norm.

    Raises:
        ValueError: epsilon outside its range.
    """
    if not SMALLEST_EPSILON <= epsilon <= LARGEST_EPSILON:
        raise ValueError(
            f"epsilon is {epsilon}, expected {SMALLEST_EPSILON} to {LARGEST_EPSILON:g} (1 to 8 are usual), or inf "
            "for a training without privacy"
        )

    def spent(noise_multiplier: float) -> float:
        return epsilon_spent([Segment(noise_multiplier, sample_rate, steps)], delta)

    enough = 1.0
    while spent(enough) > epsilon:
        enough *= 2
        if enough > _MOST_NOISE:
            raise ValueError(
                f"epsilon = {epsilon:g} at delta = {delta:.3g} is not reached with any noise for sample_rate "
                f"{sample_rate:.4g} and {steps} steps: take fewer steps or a larger epsilon"
            )
    too_little = enough / 2
    while spent(too_little) <= epsilon:
        enough, too_little = too_little, too_little / 2
    # log epsilon is nearly a straight line of log noise: interpolation needs a handful of evaluations, each of which
    # can take seconds.
    aim = math.log(0.998 * epsilon)
    while spent(enough) < 0.996 * epsilon:
        above, below = math.log(spent(too_little)), math.log(spent(enough))
        fraction = min(max((above - aim) / (above - below), 0.02), 0.98)
        middle = too_little * (enough / too_little) ** fraction
        if middle in (enough, too_little):
            break
        enough, too_little = (middle, too_little) if spent(middle) <= epsilon else (enough, middle)
    rounded = math.ceil(enough * 10**_DECIMALS) / 10**_DECIMALS
    return rounded if spent(rounded) >= 0.99 * epsilon else enough
