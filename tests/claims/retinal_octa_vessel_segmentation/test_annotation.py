"""Claim 5: how many annotated scans does supervised training need to overtake annotation-free training?

Annotated scans come from the scanner phantom itself (seeds of their own), so supervision has no domain gap to bridge.
"""

from __future__ import annotations

import pandas as pd
import pytest
from octa_experiments import (
    EYES,
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
SIZES = (1, 4, 16)


def annotated(count: int) -> list[dict]:
    """The first ``count`` cases of the validation split: labels that the other claims use only for tuning filters."""
    return [case.entry for case in scanner_cases("validation")[:count]]


def rows_of(arm: str, count: int, fine_tune: bool) -> list[dict]:
    def compute(seed: int) -> list[dict]:
        start = train("ra", seed) if fine_tune else None
        weights = train(f"{arm}{count}", seed, on_real_images([], start), annotated(count))
        network = load_network(weights)
        rows = []
        for case in scanner_cases("test")[:EYES]:
            mask = vessel_mask(predict(network, case.entry, case.image.shape)[0])
            rows.append({"images": count, "arm": arm, "seed": seed, **scores(mask, case.truth[0])})
        return rows

    return [row for seed in SEEDS for row in remembered(f"{arm}{count}-seed{seed}", lambda s=seed: compute(s))]


def test_claim_5_simulation_against_annotation() -> None:
    supervised = [row for k in SIZES for row in rows_of("supervised", k, False)]
    tuned = [row for k in SIZES for row in rows_of("finetuned", k, True)]
    table = pd.DataFrame(supervised + tuned)
    annotation_free = [remembered(f"ra-seed{s}", lambda: pytest.fail("run claim 2 first"))[:EYES] for s in SEEDS]
    free = pd.DataFrame([row for rows in annotation_free for row in rows])
    table["method"] = table["arm"] + " " + table["images"].astype(str)
    free["method"] = "annotation-free"
    dice = table.groupby(["arm", "images"])["dice"].mean().unstack("arm")
    overtaken = [k for k in SIZES if dice.loc[k, "supervised"] > free["dice"].mean()]

    def draw(axes) -> None:  # type: ignore[no-untyped-def]
        dice.plot(ax=axes, marker="o", logx=True)
        axes.axhline(free["dice"].mean(), color="black", linestyle="--", label="annotation-free")
        axes.set(xlabel="annotated scans", ylabel="Dice, scanner phantom test")
        axes.legend()

    summary = mean_and_spread(pd.concat([free, table]), "method", ("dice", "cldice"))
    enough = overtaken[0] if overtaken else "more than 16"
    publish("claim5_annotation", summary, draw, f"Supervision overtakes annotation-free training at k = {enough}.")
    assert (dice["finetuned"] >= dice["supervised"] - 0.005)[[1, 4]].all(), dice
