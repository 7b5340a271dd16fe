"""Claim 6: biomarkers from the network's masks follow the truth over all severities of disease."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from octa_experiments import (
    BUNDLE_ROOT,
    RECIPE,
    SEEDS,
    load_network,
    predict,
    publish,
    remembered,
    scanner_cases,
    train,
    vessel_mask,
)
from sklearn.metrics import roc_auc_score

from retinal_octa_vessel_segmentation.evaluation.baseline_tuning import tune_on_validation
from retinal_octa_vessel_segmentation.measurement.foveal_avascular_zone import foveal_avascular_zone
from retinal_octa_vessel_segmentation.measurement.measure_vessels import FAZ_THRESHOLD
from retinal_octa_vessel_segmentation.measurement.skeleton_graph import trace_skeleton, vessel_skeleton

pytestmark = pytest.mark.claims
PIXEL_MM = 3.0 / 304.0


def biomarkers(mask: np.ndarray, probability: np.ndarray | None = None) -> dict[str, float]:
    """Density, skeleton density, and the area of the FAZ as inference outlines it (filters: from their mask)."""
    vessels = mask if probability is None else probability
    zone = foveal_avascular_zone(vessels, PIXEL_MM, threshold=FAZ_THRESHOLD)
    return {
        "area_density": float(mask.mean()),
        "faz_area_mm2": float(zone.sum() * PIXEL_MM**2),
        "skeleton_density": skeleton_density(mask),
    }


def skeleton_density(mask: np.ndarray) -> float:
    """Centreline length per area in mm / mm2."""
    length = trace_skeleton(vessel_skeleton(mask), PIXEL_MM).pixel_length_mm.sum()
    return float(length / (mask.size * PIXEL_MM**2))


def measured() -> list[dict]:
    validation, cases = scanner_cases("validation"), scanner_cases("test")
    frangi = tune_on_validation([c.image for c in validation], [c.truth[0] for c in validation], "frangi")
    networks = {("network", s): load_network(train("recipe", s, RECIPE)) for s in SEEDS}
    networks["shipped", 0] = load_network(BUNDLE_ROOT / "models" / "model.pt")
    rows = []
    for case in cases:
        truth = json.loads(Path(case.entry["truth"]).read_text())
        real = biomarkers(case.truth[0]) | {"faz_area_mm2": truth["faz_area_mm2"]}
        found_by = {}
        for key, network in networks.items():
            probability = predict(network, case.entry, case.image.shape)[0]
            found_by[key] = biomarkers(vessel_mask(probability), probability)
        found_by["frangi", 0] = biomarkers(frangi(case.image))
        for (method, seed), found in found_by.items():
            rows += [
                {
                    "method": method,
                    "seed": seed,
                    "severity": truth["severity"],
                    "biomarker": k,
                    "found": found[k],
                    "true": real[k],
                }
                for k in real
            ]
    return rows


@pytest.mark.xfail(reason="does not hold: density follows the visibility of slow capillaries (docs/README.md)")
def test_claim_6_biomarkers_follow_the_truth() -> None:
    table = pd.DataFrame(remembered("biomarkers", measured))
    summary = []
    for (method, biomarker, seed), group in table.groupby(["method", "biomarker", "seed"], sort=False):
        sick, healthy = group[group.severity > 0.5], group[group.severity < 0.2]
        score = np.r_[sick.found, healthy.found]
        auc = roc_auc_score(np.r_[np.ones(len(sick)), np.zeros(len(healthy))], score)
        summary.append({
            "method": method, "biomarker": biomarker, "seed": seed,
            "bias_percent": 100 * (group.found.mean() / group.true.mean() - 1),
            "r": float(np.corrcoef(group.found, group.true)[0, 1]),
            "auc_severity": max(auc, 1 - auc),
        })  # fmt: skip
    result = (
        pd.DataFrame(summary).groupby(["method", "biomarker"], sort=False)[["bias_percent", "r", "auc_severity"]].mean()
    )
    flat = result.round(3).reset_index().set_index("method")

    def draw(axes) -> None:  # type: ignore[no-untyped-def]
        for method, group in table[table.biomarker == "faz_area_mm2"].groupby("method"):
            axes.scatter(group.true, group.found, s=8, label=method)
        axes.axline((0, 0), slope=1, color="black", linewidth=0.8)
        axes.set(xlabel="true FAZ area (mm2)", ylabel="measured FAZ area (mm2)")
        axes.legend()

    publish("claim6_biomarkers", flat, draw)
    network, frangi = result.loc["network"], result.loc["frangi"]
    assert (network["r"] > frangi["r"]).all(), result
    assert (network["r"] > 0.9).all(), result
    assert (network["bias_percent"].abs() < 5).all(), result
