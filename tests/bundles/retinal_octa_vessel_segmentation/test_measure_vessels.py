"""Measuring one segmented image: the FAZ is outlined at a lower probability than the mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from retinal_octa_vessel_segmentation.measurement.measure_vessels import MeasureVesselsd


def test_dim_capillaries_bound_the_faz_without_being_in_the_mask() -> None:
    rows, columns = np.indices((304, 304))
    radius_mm = np.hypot(rows - 151.5, columns - 151.5) * 3 / 304
    probability = np.where(radius_mm < 0.25, 0.02, np.where(radius_mm < 0.5, 0.3, 0.9)).astype(np.float32)
    affine = np.diag([3 / 304, 3 / 304, 1.0, 1.0])
    image = MetaTensor(torch.rand(1, 304, 304, generator=torch.Generator().manual_seed(0)), affine=affine)
    sample = {
        "enface": image,
        "pred": torch.from_numpy((probability > 0.5).astype(np.uint8))[None],
        "probability": torch.from_numpy(np.stack([probability, np.zeros_like(probability)])),
    }
    areas = [MeasureVesselsd(faz_threshold=t)(sample)["biomarkers"].value("faz_area_mm2") for t in (0.25, 0.5)]
    assert areas == pytest.approx([np.pi * 0.25**2, np.pi * 0.5**2], rel=0.05)
    assert MeasureVesselsd().faz_threshold == 0.25


def test_measurements_for_reports_are_the_biomarkers_with_units_of_ucum() -> None:
    rows, columns = np.indices((304, 304))
    radius_mm = np.hypot(rows - 151.5, columns - 151.5) * 3 / 304
    probability = np.where(radius_mm < 0.4, 0.02, np.where(rows % 9 < 4, 0.9, 0.02)).astype(np.float32)
    image = MetaTensor(torch.rand(1, 304, 304), affine=np.diag([3 / 304, 3 / 304, 1.0, 1.0]))
    labels = torch.from_numpy((probability > 0.5).astype(np.uint8))[None]
    sample = MeasureVesselsd()(
        {"enface": image, "pred": labels, "probability": torch.from_numpy(np.stack([probability] * 2))}
    )
    table, measurements = sample["biomarkers"].table, sample["measurements"]
    assert [row.value for row in table] == [row["value"] for row in measurements]
    assert {row["unit"] for row in measurements} == {"1", "mm", "mm2", "um", "mm/mm2", "{count}"}
    whole = {row["name"]: row["value"] for row in measurements if "region" not in row}
    assert whole["faz_area_mm2"] == sample["biomarkers"].value("faz_area_mm2")
    capillary = sample["biomarkers"].value("vessel_area_density", radius_class="capillary")
    assert whole["vessel_area_density, capillary"] == capillary > 0
    names = [(row["name"], row.get("region")) for row in measurements]
    assert len(set(names)) == len(names), "two numbers of one name in one region"
