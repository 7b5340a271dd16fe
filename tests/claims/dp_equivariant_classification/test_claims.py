"""Claims of private equivariant classification: fewer parameters lose less to the noise, where symmetry is real.

Networks, trainings and what is kept are in ``private_cells``. Learning rates are chosen per network on the validation
cells, which no privacy accounting covers.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from claim_tables import ClaimTables
from private_cells import (
    ALIGNED,
    BUNDLE,
    NETWORKS,
    Arm,
    chosen_rate,
    gradient_histograms,
    linear_accuracy,
    over_seeds,
    pixels,
)

pytestmark = pytest.mark.claims

D4, WIDE, SMALL = NETWORKS
BUDGETS = (1.0, 2.0, 8.0, None)
SEEDS = (0, 1, 2)
TABLES = ClaimTables(
    {
        "seeds": len(SEEDS),
        "training cells": 4000,
        "test cells": 1000,
        "steps": Arm(D4, None).steps,
        "expected batch": Arm(D4, None).expected_batch,
        "delta": 1e-4,
    }
)


def points(arm: Arm) -> str:
    """Accuracy in per cent with the standard deviation over seeds."""
    values = 100 * over_seeds(arm)
    return f"{values.mean():.1f} +- {values.std(ddof=1):.1f}"


def mean(arm: Arm, score: str) -> str:
    """Mean over seeds, whole numbers."""
    return f"{over_seeds(arm, score).mean():.0f}"


def accuracy(network: str, epsilon: float | None, **settings: object) -> np.ndarray:
    return over_seeds(replace(Arm(network, epsilon), **settings))


@pytest.mark.parametrize(
    ("other", "epsilon"),
    [
        (WIDE, 2.0),
        (WIDE, 8.0),
        pytest.param(SMALL, 2.0, marks=pytest.mark.xfail(strict=True, reason="does not hold: 7 points, seeds overlap")),
        pytest.param(
            SMALL, 8.0, marks=pytest.mark.xfail(strict=True, reason="does not hold: 9 points, though no seed overlaps")
        ),
    ],
)
def test_claim_1_d4_beats_an_ordinary_network_by_ten_points(other: str, epsilon: float) -> None:
    ours, theirs = accuracy(D4, epsilon), accuracy(other, epsilon)
    assert ours.min() > theirs.max()
    assert ours.mean() - theirs.mean() >= 0.10


@pytest.mark.xfail(
    strict=True, reason="does not hold: without noise the wide network learns less in these steps than with clipping"
)
def test_claim_2_d4_loses_less_to_privacy_than_the_network_of_equal_width() -> None:
    for epsilon in (2.0, 8.0):
        lost = [accuracy(network, None).mean() - accuracy(network, epsilon).mean() for network in (D4, WIDE)]
        assert lost[0] < lost[1]


def test_claim_3_the_advantage_shrinks_on_aligned_cells() -> None:
    advantage = {
        cells: accuracy(D4, 8.0, cells=cells).mean() - accuracy(WIDE, 8.0, cells=cells).mean()
        for cells in (Arm(D4, 8.0).cells, ALIGNED)
    }
    assert advantage[ALIGNED] < advantage[Arm(D4, 8.0).cells]


def test_claim_4_turned_views_help_an_ordinary_network_but_do_not_reach_d4_and_cost_as_many_times() -> None:
    plain, views = Arm(WIDE, 8.0), Arm(WIDE, 8.0, views=4)
    assert over_seeds(views).mean() > over_seeds(plain).mean()
    assert over_seeds(views).mean() < accuracy(D4, 8.0).mean()
    times = over_seeds(views, "cpu_seconds").mean() / over_seeds(plain, "cpu_seconds").mean()
    assert 3 < times < 5


def test_claim_5_accuracy_grows_with_the_budget_within_the_noise() -> None:
    values = [accuracy(D4, epsilon) for epsilon in BUDGETS]
    for tighter, looser in itertools.pairwise(values):
        spread = np.sqrt((tighter.var(ddof=1) + looser.var(ddof=1)) / len(SEEDS))
        assert looser.mean() >= tighter.mean() - 2 * spread


def test_claim_6_a_quarter_turn_changes_no_prediction_of_d4() -> None:
    for epsilon in BUDGETS:
        assert over_seeds(Arm(D4, epsilon), "changed_by_turning").max() == 0
        np.testing.assert_array_equal(over_seeds(Arm(D4, epsilon)), over_seeds(Arm(D4, epsilon), "accuracy_turned"))
    assert over_seeds(Arm(WIDE, 8.0), "changed_by_turning").min() > 50


def test_table_of_networks_and_budgets() -> None:
    rows = {
        network: {
            "parameters": f"{sum(p.numel() for p in NETWORKS[network]().parameters()):,}",
            "learning rate": chosen_rate(network, True),
            **{
                f"epsilon {epsilon:g}" if epsilon else "not private": points(Arm(network, epsilon))
                for epsilon in BUDGETS
                if network == D4 or (epsilon in (2.0, 8.0) or (epsilon is None and network == WIDE))
            },
        }
        for network in NETWORKS
    }
    rows[f"{WIDE}, 4 turned views"] = {"epsilon 8": points(Arm(WIDE, 8.0, views=4))}
    for name, features in {"pixels": pixels, "histograms of gradients": gradient_histograms}.items():
        rows[f"logistic regression, {name}"] = {"not private": f"{100 * linear_accuracy(features):.1f}"}
    table = pd.DataFrame(rows).T.fillna("")
    table.index.name = "accuracy on turned cells, %"

    def draw(axes: Any) -> None:
        finite = [epsilon for epsilon in BUDGETS if epsilon]
        for network in NETWORKS:
            known = [epsilon for epsilon in finite if network == D4 or epsilon > 1]
            values = [100 * accuracy(network, epsilon) for epsilon in known]
            means = [one.mean() for one in values]
            spread = [one.std(ddof=1) for one in values]
            axes.errorbar(known, means, yerr=spread, marker="o", capsize=3, label=network)
        axes.set(xscale="log", xlabel="epsilon", ylabel="accuracy, %")
        axes.set_xticks(finite, [f"{epsilon:g}" for epsilon in finite])
        axes.minorticks_off()
        axes.legend(frameon=False)

    TABLES.publish(BUNDLE, "networks", table, draw)


def test_table_of_turned_and_aligned_cells() -> None:
    rows = {
        network: {
            "turned": points(Arm(network, 8.0)),
            "aligned": points(Arm(network, 8.0, cells=ALIGNED)),
            "predictions changed by a quarter turn, of 1000": mean(Arm(network, 8.0), "changed_by_turning"),
            "CPU-s of a training": mean(Arm(network, 8.0), "cpu_seconds"),
        }
        for network in (D4, WIDE)
    }
    table = pd.DataFrame(rows).T
    table.index.name = "epsilon 8, accuracy in %"
    TABLES.publish(BUNDLE, "aligned", table)
