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
from clinbundles.motion.displacement_field import DisplacementField, at_rest_at_ed
from clinbundles.motion.motion_errors import jacobian_errors, strain_at
from clinbundles.rasterizer.aha_segments import aha_segments, segment_means
from clinbundles.rasterizer.strain import engineering_strain
from clinbundles.rasterizer.ventricle_measures import VentricleMeasures, report_measurements, results_row
from clinbundles.rasterizer.ventricular_function import ventricular_function

MEASURES_KEY = "motion_measures"
_FRAMES_AT_ONCE = 10


@dataclass(frozen=True)
class MotionMeasures(VentricleMeasures):
    """Measures of one exam.

    Attributes:
        label_source: "network" or "given label".
        volumes_ml: (T, 4) of background, LV cavity, LV myocardium, RV cavity.
        jacobian: ``jacobian_error`` and ``folded_share`` in the wall, over the cycle.
    """

    label_source: str
    volumes_ml: NDArray[np.float64]
    jacobian: dict[str, float]


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

    ``pred`` (T, 7, I, J, K) becomes the fields (T, 3, I, J, K), a MetaTensor in mm on the domain t, zero at
    end-diastole. Added: ``tissue``
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
        fields = at_rest_at_ed(prediction[:, :3])
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
        sample["results"] = (
            results_row(measures)
            | {name: round(value, 4) for name, value in measures.jacobian.items()}
            | {"label_source": measures.label_source}
        )
        sample["measurements"] = report_measurements(measures)
        return sample
