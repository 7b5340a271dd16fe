"""Steerable networks on real chest X-rays, with and without differential privacy, beside logistic regression.

What is chosen (group, place-aware head, learning rates, strength of the regression) was chosen on a fifth of the
training part, before the validation part was looked at: at epsilon 3, with one seed, D1 had .992, the trivial group
with twice the weights .993, D4 .987. That choice saw the images without noise and is not covered by the epsilon of the
runs. The table goes to CLINBUNDLES_CLAIMS_OUTPUT; every run is kept there, so that a broken-off session goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from claim_tables import OUTPUT, commit, markdown, write_json
from private_xrays import (
    FILE,
    Recipe,
    Score,
    XRays,
    linear_network,
    load_xrays,
    logistic_regression,
    score,
    steerable_network,
    train_privately,
)
from torch import nn

BUNDLE = "dp_equivariant_classification"
SEEDS = range(int(os.environ.get("CLINBUNDLES_CLAIMS_SEEDS", "3")))
BUDGETS = (None, 8.0, 3.0, 1.0)
REGRESSION_STRENGTH = 0.01  # C of scikit-learn

ARMS: dict[str, tuple[Callable[[int], nn.Module], Recipe]] = {
    "steerable D1": (steerable_network, Recipe(learning_rate=2.0, steps=60)),
    "logistic regression": (linear_network, Recipe(learning_rate=2.0, steps=100)),
    "trivial group": (
        lambda seed: steerable_network(seed, "trivial", (16, 32, 32)),
        Recipe(learning_rate=2.0, steps=60),
    ),
    "D1, mean over the image": (lambda seed: steerable_network(seed, side=1), Recipe(learning_rate=2.0, steps=60)),
}
"""Networks by their seed, and how they are trained."""


@pytest.fixture(scope="module")
def xrays(real_data: Path) -> tuple[XRays, XRays]:
    if not (real_data / FILE).is_file():
        pytest.skip("the chest X-rays are not among the real data")
    return load_xrays(real_data / FILE)


@pytest.fixture(scope="module")
def scores(xrays: tuple[XRays, XRays]) -> Callable[[str, float | None], list[Score]]:
    """Scores on the validation part of an arm at a budget, one per seed."""
    training, validation = xrays

    def measured(arm: str, epsilon: float | None) -> list[Score]:
        build, recipe = ARMS[arm]
        found = []
        for seed in SEEDS:
            settings = f"lr{recipe.learning_rate}-steps{recipe.steps}-seed{seed}"
            name = f"{arm.replace(' ', '_').replace(',', '')}-eps{epsilon}-{settings}.json"
            file = OUTPUT / BUNDLE / "xrays" / name
            if not file.is_file():
                network, plan, ledger = train_privately(build(seed), training, recipe, epsilon, seed)
                assert plan.delta < 1 / len(training)
                assert ledger.steps == recipe.steps
                if epsilon is not None:
                    assert 0.9 * epsilon < ledger.epsilon(plan.delta) <= epsilon
                write_json(file, vars(score(network, validation)))
            found.append(Score(**json.loads(file.read_text(encoding="utf-8"))))
        return found

    return measured


@pytest.fixture(scope="module")
def regression(xrays: tuple[XRays, XRays]) -> Score:
    """Logistic regression of scikit-learn, without privacy."""
    training, validation = xrays
    return logistic_regression(training, REGRESSION_STRENGTH)(validation)


def _mean(scores: list[Score], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in scores]))


def test_no_image_occurs_twice(xrays: tuple[XRays, XRays]) -> None:
    training, validation = xrays
    assert (len(training), len(validation)) == (4682, 524)
    assert len({image.numpy().tobytes() for part in xrays for image in part.images}) == 4682 + 524
    assert training.labels.bincount().tolist() == [1213, 3469]


def test_area_under_the_curve_is_093_or_more_at_epsilon_3(scores) -> None:
    assert min(one.auc for one in scores("steerable D1", 3.0)) >= 0.93


@pytest.mark.parametrize("epsilon", [8.0, 3.0, 1.0])
def test_every_steerable_network_beats_every_private_logistic_regression(scores, epsilon: float) -> None:
    """In the area under the curve; sensitivity and specificity at one half are level, one image being 0.004 of them."""
    ours, theirs = scores("steerable D1", epsilon), scores("logistic regression", epsilon)
    assert min(one.auc for one in ours) > max(one.auc for one in theirs)
    assert _mean(ours, "balanced_accuracy") == pytest.approx(_mean(theirs, "balanced_accuracy"), abs=0.01)


def test_at_epsilon_3_it_is_as_good_as_logistic_regression_without_privacy(scores, regression: Score) -> None:
    assert _mean(scores("steerable D1", 3.0), "auc") > regression.auc - 0.005


def test_less_privacy_costs_no_accuracy(scores) -> None:
    areas = [_mean(scores("steerable D1", epsilon), "auc") for epsilon in (1.0, 3.0, 8.0)]
    assert areas[0] < areas[1] + 0.005
    assert areas[1] < areas[2] + 0.005


def test_where_in_the_chest_a_feature_lies_helps(scores) -> None:
    assert _mean(scores("steerable D1", 3.0), "auc") > _mean(scores("D1, mean over the image", 3.0), "auc")


def test_mirror_symmetry_costs_nothing_and_halves_the_convolutions(scores, table: pd.DataFrame) -> None:
    mirrored, plain = steerable_network(0), ARMS["trivial group"][0](0)
    assert _weights(mirrored) <= 0.5 * _weights(plain)
    assert _mean(scores("steerable D1", 3.0), "auc") > _mean(scores("trivial group", 3.0), "auc") - 0.005
    print("\n" + markdown(table))


def _weights(network: nn.Module) -> int:
    return sum(p.numel() for name, p in network.named_parameters() if name.endswith("weight") and "head" not in name)


@pytest.fixture(scope="module")
def table(scores, regression: Score) -> pd.DataFrame:
    """Mean, least and greatest of all arms, also as files."""
    rows = [(f"{arm}, epsilon {budget or 'none'}", scores(arm, budget)) for arm in list(ARMS)[:2] for budget in BUDGETS]
    rows += [(f"{arm}, epsilon 3.0", scores(arm, 3.0)) for arm in list(ARMS)[2:]]
    rows.append(("logistic regression of scikit-learn, epsilon none", [regression]))
    lines = []
    for name, found in rows:
        line = {"method": name}
        for column in ("auc", "balanced_accuracy"):
            values = [getattr(one, column) for one in found]
            line[column] = f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
        lines.append(line)
    content = pd.DataFrame(lines).set_index("method")
    folder = OUTPUT / BUNDLE
    content.to_csv(folder / "xrays.csv")
    (folder / "xrays.md").write_text(
        f"{markdown(content)}\n\ncommit {commit()}; seeds {len(SEEDS)}\n", encoding="utf-8"
    )
    return content
