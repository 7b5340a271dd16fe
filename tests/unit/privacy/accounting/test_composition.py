"""The accountants against the closed form, an independent accountant and published settings."""

from __future__ import annotations

import math

import dp_accounting
import pytest
from scipy.stats import norm

from clinbundles.privacy.accounting.composition import Segment, epsilon_spent
from clinbundles.privacy.accounting.gaussian_epsilon import gaussian_epsilon

# noise multiplier, sample rate, steps, delta; then exact or independent value, PRV, RDP
UNSAMPLED = [
    (1.0, 1, 1e-5, 4.37718, 4.38741, 4.72851),
    (5.0, 20, 1e-5, 3.84861, 3.85882, 4.16162),
    (2.0, 10, 1e-6, 8.30623, 8.31655, 8.84687),
]
SUBSAMPLED = [
    (1.0, 0.01, 1000, 1e-5, 1.82824, 1.83837, 2.10127),
    (2.0, 0.1, 500, 1e-5, 5.55547, 5.56577, 6.03432),
]


@pytest.mark.parametrize("noise_multiplier, steps, delta, exact, prv, rdp", UNSAMPLED)
def test_without_sampling_both_accountants_bound_the_closed_form(
    noise_multiplier: float, steps: int, delta: float, exact: float, prv: float, rdp: float
) -> None:
    segments = [Segment(noise_multiplier, 1.0, steps)]
    assert gaussian_epsilon(math.sqrt(steps) / noise_multiplier, delta) == pytest.approx(exact, abs=1e-5)
    assert epsilon_spent(segments, delta) == pytest.approx(prv, abs=1e-4)
    assert epsilon_spent(segments, delta, "rdp") == pytest.approx(rdp, abs=1e-4)
    assert exact <= prv <= exact + 0.011 <= rdp


@pytest.mark.parametrize("noise_multiplier, rate, steps, delta, pld, prv, rdp", SUBSAMPLED)
def test_with_sampling_an_independent_accountant_agrees(
    noise_multiplier: float, rate: float, steps: int, delta: float, pld: float, prv: float, rdp: float
) -> None:
    independent = dp_accounting.pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise_multiplier))
    independent.compose(dp_accounting.SelfComposedDpEvent(step, steps))
    assert independent.get_epsilon(delta) == pytest.approx(pld, abs=1e-4)
    segments = [Segment(noise_multiplier, rate, steps)]
    assert epsilon_spent(segments, delta) == pytest.approx(prv, abs=1e-4)
    assert epsilon_spent(segments, delta, "rdp") == pytest.approx(rdp, abs=1e-4)
    assert pld <= prv <= pld + 0.011 <= rdp


def test_a_published_setting_of_one_epsilon_spends_less_than_one() -> None:
    """De et al. 2022: 875 steps of 4,096 of 50,000 images with a noise multiplier of 10."""
    segments = [Segment(10.0, 0.08192, 875)]
    assert epsilon_spent(segments, 1e-5) == pytest.approx(0.9128, abs=1e-4)
    assert epsilon_spent(segments, 1e-5, "rdp") == pytest.approx(0.9877, abs=1e-4)


def test_replacing_a_unit_spends_more_than_adding_or_removing_one() -> None:
    """The statement names its neighbours for this reason."""
    independent = dp_accounting.pld.PLDAccountant(dp_accounting.NeighboringRelation.REPLACE_ONE)
    step = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(1.0))
    independent.compose(dp_accounting.SelfComposedDpEvent(step, 1000))
    assert independent.get_epsilon(1e-5) == pytest.approx(2.84345, abs=1e-4)
    assert epsilon_spent([Segment(1.0, 0.01, 1000)], 1e-5) < 1.84


def test_epsilon_grows_with_steps_and_rate_and_falls_with_noise_and_delta() -> None:
    middle = epsilon_spent([Segment(1.0, 0.05, 50)], 1e-5)
    assert epsilon_spent([Segment(1.0, 0.05, 60)], 1e-5) > middle
    assert epsilon_spent([Segment(1.0, 0.06, 50)], 1e-5) > middle
    assert epsilon_spent([Segment(1.1, 0.05, 50)], 1e-5) < middle
    assert epsilon_spent([Segment(1.0, 0.05, 50)], 1e-4) < middle


def test_the_order_in_which_steps_are_recorded_does_not_matter() -> None:
    a, b = Segment(1.0, 0.05, 20), Segment(2.0, 0.05, 30)
    split = [a._replace(steps=5), b, a._replace(steps=15)]
    assert epsilon_spent(split, 1e-5) == epsilon_spent([b, a], 1e-5)
    assert epsilon_spent([a], 1e-5) < epsilon_spent([a, b], 1e-5) < epsilon_spent([a._replace(steps=50)], 1e-5)


def test_no_step_spends_nothing() -> None:
    assert epsilon_spent([], 1e-5) == 0.0
    assert epsilon_spent([Segment(1.0, 0.1, 0)], 1e-5, "rdp") == 0.0


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_one_step_without_noise_spends_everything(accountant: str) -> None:
    assert epsilon_spent([Segment(1.0, 0.1, 10), Segment(0.0, 0.1, 1)], 1e-5, accountant) == math.inf


def test_epsilon_is_never_negative_however_large_delta_is() -> None:
    assert epsilon_spent([Segment(5.0, 0.01, 1)], 0.3) == 0.0


def test_where_the_numerical_accountant_fails_the_renyi_bound_stands() -> None:
    little_noise = [Segment(0.1, 0.1, 100)]
    assert epsilon_spent(little_noise, 1e-5) == epsilon_spent(little_noise, 1e-5, "rdp") > 1000
    tiny_delta = [Segment(1.0, 0.1, 10)]
    assert epsilon_spent(tiny_delta, 1e-16) == epsilon_spent(tiny_delta, 1e-16, "rdp")


def test_a_central_limit_approximation_is_refused() -> None:
    with pytest.raises(ValueError, match="accountant is 'gdp', expected one of prv, rdp"):
        epsilon_spent([Segment(1.0, 0.1, 1)], 1e-5, "gdp")


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_a_delta_that_is_no_probability_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="expected a probability above 0"):
        epsilon_spent([Segment(1.0, 0.1, 1)], delta)


def test_the_closed_form_holds_its_delta_exactly_and_has_its_limits() -> None:
    for mu, delta in [(0.1, 1e-3), (1.0, 1e-5), (4.0, 1e-4), (40.0, 1e-6)]:
        epsilon = gaussian_epsilon(mu, delta)
        second = math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
        assert norm.cdf(mu / 2 - epsilon / mu) - second == pytest.approx(delta, rel=1e-6)
    assert gaussian_epsilon(0.0, 1e-5) == 0.0
    assert gaussian_epsilon(0.01, 0.1) == 0.0
