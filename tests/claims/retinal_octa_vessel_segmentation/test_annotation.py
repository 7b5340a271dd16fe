"""Claim 5: how many annotated scans does supervised training need to overtake annotation-free training?

Annotated scans come from the scanner phantom itself (seeds of their own), so supervision has no domain gap to bridge.
"""

from __future__ import annotations

import pandas as pd
import pytest
from octa_experiments import (
    SEEDS,
    load_network,
    mean_and_spread,
    on_real_images,
    predict,
    publish,
    remembered,
    scanner_cases,
    scores,
    train,
    vessel_mask,
)

pytestmark = pytest.mark.claims
SIZES = (1, 2, 4, 8, 16)


def annotated(count: int) -> list[dict]:
    """The first ``count`` cases of the validation split: labels that the other claims use only for tuning filters."""
    return [case.entry for case in scanner_cases("validation")[:count]]


def rows_of(arm: str, count: int, fine_tune: bool) -> list[dict]:
    def compute(seed: int) -> list[dict]:
        start = train("ra", seed) if fine_tune else None
        weights = train(f"{arm}{count}", seed, on_real_images([], start), annotated(count))
        network = load_network(weights)
        cases = scanner_cases("test")
        return [
            {"images": count, "arm": arm, "seed": seed, **scores(vessel_mask(predict(network, c.entry, c.image.shape)[0]), c.truth[0])}
            for c in cases
        ]  # fmt: skip

    return [row for seed in SEEDS for row in remembered(f"{arm}{count}-seed{seed}", lambda s=seed: compute(s))]


def test_claim_5_simulation_against_annotation() -> None:
    supervised = [row for k in SIZES for row in rows_of("supervised", k, False)]
    tuned = [row for k in SIZES for row in rows_of("finetuned", k, True)]
    table = pd.DataFrame(supervised + tuned)
    free = pd.DataFrame([r for s in SEEDS for r in remembered(f"ra-seed{s}", lambda: pytest.fail("run claim 2 first"))])
    table["method"] = table["arm"] + " " + table["images"].astype(str)
    free["method"] = "annotation-free"
    dice = table.groupby(["arm", "images"])["dice"].mean().unstack("arm")
    overtaken = [k for k in SIZES if dice.loc[k, "supervised"] > free["dice"].mean()]

    def draw(axes) -> None:  # type: ignore[no-untyped-def]
        dice.plot(ax=axes, marker="o", logx=True)
        axes.axhline(free["dice"].mean(), color="black", linestyle="--", label="annotation-free")
        axes.set(xlabel="annotated scans", ylabel="Dice, scanner phantom test")
        axes.legend()

    publish("claim5_annotation", mean_and_spread(pd.concat([free, table]), "method", ("dice", "cldice")), draw,
            f"Supervision overtakes annotation-free training at k = {overtaken[0] if overtaken else 'more than 16'}.")  # fmt: skip
    assert (dice["finetuned"] >= dice["supervised"] - 0.005)[[1, 2]].all(), dice
