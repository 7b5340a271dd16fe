"""Everything that is read off a motion: labels of all frames, volumes, ejection fraction, strain of 17 segments."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from cardiac_mri_multiview_motion.measurement.carried_label import carried_label, tissue_volumes_ml
from cardiac_mri_multiview_motion.measurement.tissue_at_ed import tissue_at_ed
from cardiac_mri_multiview_motion.measurement.ventricle import MYOCARDIUM, long_axis_at_ed, wall_points
from clinbundles.motion.displacement_field import DisplacementField
from clinbundles.motion.motion_errors import jacobian_errors, strain_at
from clinbundles.rasterizer.aha_segments import SEGMENTS, aha_segments, segment_means
from clinbundles.rasterizer.strain import engineering_strain
from clinbundles.rasterizer.ventricular_function import VentricularFunction, ventricular_function

MEASURES_KEY = "motion_measures"
STRAINS = ("radial", "circumferential", "longitudinal")
_FRAMES_AT_ONCE = 10


@dataclass(frozen=True)
class MotionMeasures:
    """Measures of one exam.

    Attributes:
        label_source: "network" or "given label".
        volumes_ml: (T, 4) of background, LV cavity, LV myocardium, RV cavity.
        function: of the left ventricle.
        segment_strain: (T, 17, 3) mean engineering strain, radial, circumferential, longitudinal; NaN: no wall there.
        global_strain: (T, 3) mean over the wall.
        jacobian: ``jacobian_error`` and ``folded_share`` in the wall, over the cycle.
        times_ms: (T,) NaN where unknown.
    """

    label_source: str
    volumes_ml: NDArray[np.float64]
    function: VentricularFunction
    segment_strain: NDArray[np.float64]
    global_strain: NDArray[np.float64]
    jacobian: dict[str, float]
    times_ms: NDArray[np.float64]

    def peak_strain(self) -> NDArray[np.float64]:
        """(17, 3): radial maximum, circumferential and longitudinal minimum over the cycle."""
        filled = np.where(np.isnan(self.segment_strain), 0.0, self.segment_strain)
        peak = np.stack([filled[..., 0].max(0), filled[..., 1].min(0), filled[..., 2].min(0)], axis=-1)
        return np.where(np.isnan(self.segment_strain[0]), np.nan, peak)

    def time_to_peak(self) -> NDArray[np.int64]:
        """(17, 3) frame of the peak."""
        filled = np.where(np.isnan(self.segment_strain), 0.0, self.segment_strain)
        return np.stack([filled[..., 0].argmax(0), filled[..., 1].argmin(0), filled[..., 2].argmin(0)], axis=-1)

    def global_peak(self) -> dict[str, float]:
        """Peak of the wall's mean strain: GRS the greatest, GCS and GLS the least."""
        return {
            "global_radial_strain": float(self.global_strain[:, 0].max()),
            "global_circumferential_strain": float(self.global_strain[:, 1].min()),
            "global_longitudinal_strain": float(self.global_strain[:, 2].min()),
        }


def measure_motion(
    tissue: torch.Tensor, fields: torch.Tensor, times_ms: NDArray[np.floating], label_source: str = "network"
) -> MotionMeasures:
    """Measure one exam.

    Args:
        tissue: (4, I, J, K) probabilities at end-diastole.
        fields: (T, 3, I, J, K) on the domain t, mm of the exam frame.
        times_ms: (T,).
        label_source: where ``tissue`` comes from.

    Raises:
        ValueError: no left ventricle.
    """
    points = wall_points(tissue)
    axis = long_axis_at_ed(tissue)
    volumes = tissue_volumes_ml(tissue, fields).double().numpy()
    function = ventricular_function(volumes[:, 1], volumes[:, MYOCARDIUM], ed_frame=0)
    axes = torch.from_numpy(axis.wall_directions(points.double().numpy())).float()
    segments = aha_segments(points.double().numpy(), axis)
    strains, jacobians = [], []
    for first in range(0, len(fields), _FRAMES_AT_ONCE):
        part = DisplacementField(fields[first : first + _FRAMES_AT_ONCE], "t")
        many = points[None].expand(len(part.vectors), -1, -1)
        strains.append(strain_at(part, many, axes))
        jacobians.append(jacobian_errors(part, part.from_ed(many)))
    strain = engineering_strain(torch.cat(strains)).double().numpy()
    return MotionMeasures(
        label_source=label_source,
        volumes_ml=volumes,
        function=function,
        segment_strain=np.moveaxis(segment_means(np.moveaxis(strain, 1, -1), segments), -1, 1),
        global_strain=strain.mean(axis=1),
        jacobian={name: float(np.mean([one[name] for one in jacobians])) for name in jacobians[0]},
        times_ms=np.asarray(times_ms, dtype=np.float64),
    )


class MeasureMotiond(MapTransform):
    """Take a prediction apart and measure it.

    ``pred`` (T, 7, I, J, K) becomes the fields (T, 3, I, J, K), a MetaTensor in mm on the domain t. Added: ``tissue``
    (4, I, J, K) at end-diastole, ``sax_label`` (T, K, I, J) uint8 of the acquired short-axis slices, and
    ``planes_carried`` (T, M, 64, 64) of the crops where these are in the sample; ``motion_measures``, ``results`` (a
    row for the table of the folder) and ``measurements`` (for reports).

    Args:
        keys: the prediction.
    """

    def __init__(self, keys: str = "pred") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Measure one sample."""
        sample = dict(data)
        key = self.keys[0]
        prediction = torch.as_tensor(sample[key]).as_subclass(torch.Tensor).detach().cpu().float()
        native = sample.get("native")
        tissue, source = tissue_at_ed(prediction, native)
        fields = prediction[:, :3]
        measures = measure_motion(tissue, fields, np.asarray(sample["times_ms"]), source)
        image = sample["image"]
        sample[key] = MetaTensor(fields, meta=dict(image.meta)) if isinstance(image, MetaTensor) else fields
        sample["tissue"] = tissue
        if native is not None:
            sax = native["sax"]
            sample["sax_label"] = carried_label(
                tissue, fields, torch.as_tensor(sax["pose"]), tuple(sax["image"].shape[2:])
            )
        if "planes_pose" in sample:
            size = tuple(sample["planes"].shape[2:])
            sample["planes_carried"] = carried_label(tissue, fields, torch.as_tensor(sample["planes_pose"]), size)
        sample[MEASURES_KEY] = measures
        sample["results"] = results_row(measures)
        sample["measurements"] = report_measurements(measures)
        return sample


def results_row(measures: MotionMeasures) -> dict[str, Any]:
    """One exam as a row of the table of the folder."""
    function = measures.function
    row: dict[str, Any] = {
        "frames": len(measures.volumes_ml),
        "es_frame": function.es_frame,
        "edv_ml": round(function.edv_ml, 1),
        "esv_ml": round(function.esv_ml, 1),
        "ejection_fraction": round(function.ejection_fraction, 3),
        "mass_g": round(float(function.mass_g or 0.0), 1),
    }
    row |= {name: round(value, 3) for name, value in measures.global_peak().items()}
    row |= {name: round(value, 4) for name, value in measures.jacobian.items()}
    return row | {"label_source": measures.label_source}


def report_measurements(measures: MotionMeasures) -> list[dict[str, Any]]:
    """Measurements with UCUM units for DICOM reports and tables."""
    function, heart = measures.function, "left ventricle"
    rows = [
        ("end-diastolic volume", function.edv_ml, "mL", heart),
        ("end-systolic volume", function.esv_ml, "mL", heart),
        ("stroke volume", function.stroke_volume_ml, "mL", heart),
        ("ejection fraction", 100 * function.ejection_fraction, "%", heart),
        ("myocardial mass", float(function.mass_g or 0.0), "g", heart),
    ]
    rows += [(name.replace("_", " "), 100 * value, "%", heart) for name, value in measures.global_peak().items()]
    for segment, values in zip(SEGMENTS, measures.peak_strain(), strict=True):
        rows += [
            (f"peak {name} strain", 100 * float(value), "%", segment)
            for name, value in zip(STRAINS, values, strict=True)
            if np.isfinite(value)
        ]
    return [
        {"name": name, "value": round(float(value), 2), "unit": unit, "region": region}
        for name, value, unit, region in rows
    ]
