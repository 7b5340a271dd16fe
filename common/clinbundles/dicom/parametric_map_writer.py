"""Maps of numbers as DICOM Parametric Map: probabilities, quantitative images, each value as it is (float32)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom.config import disable_value_validation
from pydicom.sr.codedict import codes

from clinbundles.data.atomic_file import atomic_path
from clinbundles.dicom.read_series import series_headers
from clinbundles.dicom.result_equipment import ResultEquipment
from clinbundles.dicom.segmentation_source import add_patient_and_study, source_images
from clinbundles.dicom.series_frames import frames_of
from clinbundles.dicom.series_geometry import series_grid
from clinbundles.dicom.slice_geometry import slice_geometry
from clinbundles.dicom.source_header import result_series_number

_SERIES_NUMBERS = 2000  # segmentations have 1000, reports 3000, images 4000
_LABEL_LENGTH = 16  # characters of the value representation SH
_LONGEST_EXPLANATION = 64


@disable_value_validation()  # its warnings quote the header
def write_parametric_map(
    path: str | os.PathLike[str],
    values: np.ndarray,
    channels: Sequence[str],
    affine: np.ndarray,
    source_files: Sequence[str | os.PathLike[str]],
    equipment: ResultEquipment,
    *,
    description: str = "Probability maps",
    value_range: tuple[float, float] | None = None,
) -> None:
    """Write maps that lie on the grid of a series, atomically.

    Args:
        path: the file.
        values: (C, I, J, K), I along the columns and J along the rows of a slice.
        channels: name of each of the C maps.
        affine: 4x4 in RAS mm.
        source_files: the images of the series.
        equipment: which bundle made the maps.
        description: what the series is.
        value_range: smallest and largest value that may occur; default: what does occur.

    Raises:
        ValueError: no volume, the number of names is not C, or a value is not finite.
        SeriesError: the images are no regular series.
    """
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 4:
        raise ValueError(f"the map has the shape {values.shape}, expected (channels, columns, rows, slices)")
    if len(channels) != len(values):
        raise ValueError(f"{len(values)} maps have {len(channels)} names ({', '.join(channels)}): give one each")
    if not np.isfinite(values).all():
        raise ValueError(f"the map has {int((~np.isfinite(values)).sum())} values that are not finite")
    low, high = value_range or (float(values.min()), float(values.max()))
    headers = series_headers([Path(file) for file in source_files])
    where = Path(source_files[0]).name
    frames = [frame for number, header in enumerate(headers) for frame in frames_of(header, number, where)]
    images, _ = source_images(headers, series_grid(frames, where))
    mappings = [
        [
            RealWorldValueMapping(
                lut_label=name[:_LABEL_LENGTH],
                lut_explanation=name[:_LONGEST_EXPLANATION],
                unit=codes.UCUM.NoUnits,
                value_range=(low, high),
                slope=1.0,
                intercept=0.0,
            )
        ]
        for name in channels
    ]
    result = ParametricMap(
        source_images=images,
        pixel_array=np.ascontiguousarray(values.transpose(3, 2, 1, 0)),
        series_instance_uid=hd.UID(),
        series_number=result_series_number(headers[0], _SERIES_NUMBERS),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=equipment.manufacturer,
        manufacturer_model_name=equipment.model,
        software_versions=equipment.software,
        device_serial_number=equipment.serial_number,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=mappings,
        voi_lut_transformations=[
            hd.VOILUTTransformation(window_center=(low + high) / 2, window_width=max(high - low, 1e-6))
        ],
        content_description=description[:_LONGEST_EXPLANATION],
        series_description=equipment.series_description(description),
        **_functional_groups(affine, values.shape[3]),
    )
    add_patient_and_study(result, headers[0])
    with atomic_path(path) as temporary:
        result.save_as(temporary)


def _functional_groups(affine: np.ndarray, slices: int) -> dict[str, Any]:
    geometry = slice_geometry(affine, slices)
    patient = hd.CoordinateSystemNames.PATIENT
    return {
        "pixel_measures": hd.PixelMeasuresSequence(
            pixel_spacing=geometry.pixel_spacing,
            slice_thickness=geometry.slice_spacing,
            spacing_between_slices=geometry.slice_spacing,
        ),
        "plane_orientation": hd.PlaneOrientationSequence(patient, geometry.orientation),
        "plane_positions": [hd.PlanePositionSequence(patient, position) for position in geometry.positions],
    }
