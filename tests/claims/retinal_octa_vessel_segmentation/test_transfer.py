"""Claims 2 to 4: simulation without annotation beats classical filters; augmentation transfers; anatomy matters.

Scanner phantom, 40 test eyes that nothing was chosen on; classical filters are tuned on the 20 labelled validation
eyes, networks see neither. Same iterations, windows and optimiser for every network.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from octa_experiments import (
    CLEAN,
    EYES,
    MENTEN,
    OUTPUT,
    RECIPE,
    SEEDS,
    Case,
    capillary_scores,
    load_network,
    mean_and_spread,
    predict,
    publish,
    remembered,
    scanner_cases,
    scores,
    train,
    vessel_mask,
)

from clinbundles.data import read_manifest
from retinal_octa_vessel_segmentation.evaluation.baseline_tuning import tune_on_validation
from retinal_octa_vessel_segmentation.evaluation.classical_filters import BASELINES
from retinal_octa_vessel_segmentation.measurement.foveal_avascular_zone import foveal_avascular_zone

pytestmark = pytest.mark.claims
VALUES = ("dice", "cldice", "capillary_dice", "capillary_cldice", "faz_area_error_mm2")
PIXEL_MM = 3.0 / 304.0


@functools.cache
def test_cases() -> list[Case]:
    return scanner_cases("test")


test_cases.__test__ = False  # type: ignore[attr-defined]


def case_scores(mask: np.ndarray, case: Case) -> dict[str, float]:
    import json

    true_area = json.loads(Path(case.entry["truth"]).read_text())["faz_area_mm2"]
    zone = foveal_avascular_zone(mask, PIXEL_MM)
    return {
        **scores(mask, case.truth[0]),
        **capillary_scores(mask, case),
        "faz_area_error_mm2": abs(float(zone.sum()) * PIXEL_MM**2 - true_area),
    }


def network_rows(arm: str, overrides: dict | None = None, eyes: int = EYES) -> list[dict]:
    """Scores of an arm: one row per test eye and seed."""

    def compute(seed: int) -> list[dict]:
        network = load_network(train(arm, seed, overrides))
        rows = []
        for case in test_cases()[: 40 if arm in ("ra", "recipe") else eyes]:
            mask = vessel_mask(predict(network, case.entry, case.image.shape)[0])
            rows.append({"method": arm, "seed": seed, **case_scores(mask, case)})
        return rows

    return [row for seed in SEEDS for row in remembered(f"{arm}-seed{seed}", lambda s=seed: compute(s))[:eyes]]


def filter_rows(name: str) -> list[dict]:
    def compute() -> list[dict]:
        validation = scanner_cases("validation")
        tuned = tune_on_validation([c.image for c in validation], [c.truth[0] for c in validation], name)
        return [{"method": name, "seed": 0, **case_scores(tuned(c.image), c)} for c in test_cases()]

    return remembered(f"filter-{name}", compute)


def means(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows).groupby("method", sort=False)[list(VALUES)].mean()


def bars(rows: list[dict]):  # type: ignore[no-untyped-def]
    table = means(rows)

    def draw(axes) -> None:  # type: ignore[no-untyped-def]
        table[["dice", "cldice", "capillary_dice"]].plot.barh(ax=axes)
        axes.set_xlabel("mean over the test eyes of the scanner phantom")
        axes.invert_yaxis()

    return draw


@pytest.mark.xfail(reason="does not hold: the network is level with filters tuned on 20 labelled eyes (docs/README.md)")
def test_claim_2_annotation_free_training_beats_tuned_classical_filters() -> None:
    rows = network_rows("ra", eyes=40) + network_rows("recipe", RECIPE, eyes=40)
    for name in BASELINES:
        rows += filter_rows(name)
    table = means(rows)
    filters = table.drop(["ra", "recipe"]).max()
    margins = table.loc["recipe"] - filters
    publish("claim2_classical_filters", mean_and_spread(pd.DataFrame(rows), "method", VALUES), bars(rows),
            f"Margin of the network over the best filter: {margins[list(VALUES[:4])].round(3).to_dict()}")  # fmt: skip
    assert (margins[["dice", "cldice"]] >= 0.05).all(), margins
    assert (margins[["capillary_dice", "capillary_cldice"]] >= 0.05).all(), margins


def test_claim_3_augmentation_is_what_transfers() -> None:
    arms = {
        "ra": None,
        "recipe": RECIPE,
        "clean": CLEAN,
        "menten": MENTEN,
        "ra_without_background": {"background": 0.0},
        "ra_without_noise": {"noise": 0.0},
        "ra_without_gamma": {"gamma": 0.0},
        "ra_without_resolution_loss": {"resolution": [1.0, 1.0]},
    }
    rows = [row for arm, overrides in arms.items() for row in network_rows(arm, overrides)]
    table = means(rows)
    publish("claim3_augmentation", mean_and_spread(pd.DataFrame(rows), "method", VALUES), bars(rows))
    assert table.loc["ra", "dice"] > table.loc["clean", "dice"]


def other_anatomy(name: str) -> dict:
    """Overrides that train on another anatomy: a manifest in the output folder whose simulator differs."""
    here = Path(__file__).parent
    simulator = dict(read_manifest("octa_simulated_vessels").content["simulator"])
    if name == "straight":
        simulator = {"_target_": "octa_straight_vessels.simulate_straight_case", "growth": simulator["growth"]}
    else:
        change = yaml.safe_load((here / "anatomies.yaml").read_text())[name]
        growth = {**simulator["growth"], **change.get("growth", {})}
        if "stages" in change:
            growth["stages"] = [s for s in growth["stages"] if s["name"] in change["stages"]]
        simulator["growth"] = growth
    manifest = {
        "name": f"octa_{name}",
        "title": f"Anatomy of claim 4: {name}",
        "description": "training set of the claim's experiment",
        "modality": "simulated en-face OCT angiography",
        "licence": "Apache-2.0",
        "citation": "this project",
        "simulator": simulator,
        "splits": {"training": {"first_seed": 1000, "cases": 60}, "validation": {"first_seed": 1900, "cases": 1}},
    }
    path = OUTPUT / "manifests" / f"octa_{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(manifest))
    return {"manifest": str(path)}


@pytest.mark.xfail(reason="holds for the area of the FAZ, not for overlap (docs/README.md)")
def test_claim_4_anatomy_matters() -> None:
    rows = network_rows("ra")
    for name in ("straight", "no_faz", "no_svc"):
        rows += network_rows(name, other_anatomy(name))
    table = means(rows)
    publish("claim4_anatomy", mean_and_spread(pd.DataFrame(rows), "method", VALUES), bars(rows))
    assert table["cldice"].idxmax() == "ra", table["cldice"]
