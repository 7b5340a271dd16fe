"""Measures of one segmented angiogram: biomarkers, FAZ and image quality, as entries of the sample."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Transform

from retinal_octa_vessel_segmentation.enface.load_image_enface import pixel_size_mm
from retinal_octa_vessel_segmentation.enface.vessel_label_map import LARGER_VESSEL
from retinal_octa_vessel_segmentation.measurement.biomarkers import Biomarkers, measure_biomarkers
from retinal_octa_vessel_segmentation.measurement.foveal_avascular_zone import foveal_avascular_zone
from retinal_octa_vessel_segmentation.measurement.quality_gate import QualityReport, assess_quality
from retinal_octa_vessel_segmentation.measurement.radius_classes import ALL_RADII

FAZ_THRESHOLD = 0.25
"""Least bias of the FAZ area (+2 %) on the validation eyes of the scanner phantom; 0.5 gives +34 %."""
BIOMARKERS_KEY, QUALITY_KEY, RESULTS_KEY = "biomarkers", "quality", "results"
MEASUREMENTS_KEY = "measurements"
WHOLE_REGION = "whole"
_UCUM = {"count": "{count}"}  # the other units of the table are UCUM's own


def results_row(image: MetaTensor, biomarkers: Biomarkers, quality: QualityReport) -> dict[str, Any]:
    """One flat line for the table of a folder: what was measured on, how far to trust it, every biomarker."""
    rows, columns = pixel_size_mm(image)
    height, width = image.shape[-2:]
    return {
        "file": Path(str(image.meta.get("filename_or_obj", ""))).name,
        "eye": image.meta.get("eye", ""),
        "layer": image.meta.get("layer", ""),
        "fov_height_mm": round(rows * height, 6),
        "fov_width_mm": round(columns * width, 6),
        "pixel_height_mm": round(rows, 8),
        "pixel_width_mm": round(columns, 8),
        "quality": "doubtful" if quality.doubtful else "good",
        "quality_score": round(float(quality.score), 4),
        "quality_reasons": "; ".join(quality.reasons),
        "notes": "; ".join(str(image.meta.get("notes", "")).splitlines()),
        **biomarkers.wide(),
    }


def report_measurements(biomarkers: Biomarkers) -> list[dict[str, Any]]:
    """The biomarkers as hosts put them into reports: name, value, unit (UCUM), and region unless it is the image."""
    measurements = []
    for row in biomarkers.table:
        name = row.name if row.radius_class == ALL_RADII else f"{row.name}, {row.radius_class}"
        measurement = {"name": name, "value": row.value, "unit": _UCUM.get(row.unit, row.unit)}
        if row.region != WHOLE_REGION:
            measurement["region"] = row.region
        measurements.append(measurement)
    return measurements


class MeasureVesselsd(Transform):
    """Measure a label map: adds ``biomarkers``, ``quality``, ``results`` (one flat row) and ``measurements`` (for
    reports) to the sample.

    A sample without the image on the input grid (a host that brings its own) is left as it is.

    Args:
        label_key: label map (1, H, W) of :class:`VesselLabelMapd`.
        image_key: checked image (1, H, W) in [0, 1] on the same grid.
        probability_key: probabilities (2, H, W) on the same grid.
        faz_threshold: probability from which a pixel is vessel when the FAZ is outlined. It is lower than that of the
            mask, because the thin retina of the fovea dims its capillaries.
    """

    def __init__(
        self,
        label_key: str = "pred",
        image_key: str = "enface",
        probability_key: str = "probability",
        faz_threshold: float = FAZ_THRESHOLD,
    ) -> None:
        self.label_key = label_key
        self.probability_key = probability_key
        self.image_key = image_key
        self.faz_threshold = faz_threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Measure one sample."""
        sample = dict(data)
        if self.image_key not in sample:
            return sample
        image = sample[self.image_key]
        labels = np.asarray(sample[self.label_key].detach().cpu())[0]
        vessels, larger = labels > 0, labels == LARGER_VESSEL
        spacing = pixel_size_mm(image)
        probability = np.asarray(sample[self.probability_key].detach().cpu())[0]
        zone = foveal_avascular_zone(probability, spacing, threshold=self.faz_threshold)
        biomarkers = measure_biomarkers(vessels, larger, spacing, eye=image.meta.get("eye") or None, faz_mask=zone)
        quality = assess_quality(np.asarray(image.detach().cpu())[0], spacing, vessels, probability)
        sample[BIOMARKERS_KEY] = biomarkers
        sample[QUALITY_KEY] = quality
        sample[RESULTS_KEY] = results_row(image, biomarkers, quality)
        sample[MEASUREMENTS_KEY] = report_measurements(biomarkers)
        return sample
