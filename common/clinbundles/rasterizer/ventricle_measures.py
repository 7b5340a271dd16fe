"""What every measurement of a moving left ventricle tells: function, peak strain, rows of tables and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from clinbundles.rasterizer.aha_segments import SEGMENTS
from clinbundles.rasterizer.bulls_eye import bulls_eye_figure
from clinbundles.rasterizer.ventricular_function import VentricularFunction

STRAINS = ("radial", "circumferential", "longitudinal")


@dataclass(frozen=True)
class VentricleMeasures:
    """Measures of one exam over T frames, frame 0 being end-diastole.

    Attributes:
        times_ms: (T,) NaN where unknown.
        function: ED, ES, volumes, mass.
        segment_strain: (T, 17, 3) mean engineering strain in the order of :data:`STRAINS`; NaN: no wall there.
        global_strain: (T, 3) of the whole wall.
    """

    times_ms: NDArray[np.float64]
    function: VentricularFunction
    segment_strain: NDArray[np.float64]
    global_strain: NDArray[np.float64]

    def peak_strain(self) -> NDArray[np.float64]:
        """(17, 3): radial maximum, circumferential and longitudinal minimum over the cycle; NaN: no wall there."""
        return np.concatenate([self.segment_strain[..., :1].max(0), self.segment_strain[..., 1:].min(0)], axis=-1)

    def time_to_peak(self) -> NDArray[np.int64]:
        """(17, 3) frame of the peak; 0 where there is no wall."""
        filled = np.nan_to_num(self.segment_strain)
        return np.concatenate([filled[..., :1].argmax(0), filled[..., 1:].argmin(0)], axis=-1)

    def global_peak(self) -> dict[str, float]:
        """Peaks of the whole wall's strain: GRS the greatest, GCS and GLS the least."""
        radial, around, along = self.global_strain.T
        return {
            "global_radial_strain": float(radial.max()),
            "global_circumferential_strain": float(around.min()),
            "global_longitudinal_strain": float(along.min()),
        }

    def time_cells(self) -> list[str]:
        """(T,) times in ms for tables, empty where unknown."""
        return [f"{time:.1f}" if np.isfinite(time) else "" for time in self.times_ms]


def peak_strain_figure(measures: VentricleMeasures) -> Figure:
    """Bull's-eyes of the segments' peak strains in per cent, the same scales for all exams."""
    peaks = 100 * measures.peak_strain()
    limits = [(0.0, 70.0), (-35.0, 0.0), (-30.0, 0.0)]
    return bulls_eye_figure(
        [(f"peak {name} strain", peaks[:, part], "%", limits[part]) for part, name in enumerate(STRAINS)]
    )


def results_row(measures: VentricleMeasures) -> dict[str, Any]:
    """Function and global strain of one exam, the beginning of its row in the table of the folder."""
    function = measures.function
    return {
        "frames": len(measures.segment_strain),
        "es_frame": function.es_frame,
        "edv_ml": round(function.edv_ml, 1),
        "esv_ml": round(function.esv_ml, 1),
        "stroke_volume_ml": round(function.stroke_volume_ml, 1),
        "ejection_fraction": round(function.ejection_fraction, 3),
        "mass_g": round(float(function.mass_g or 0.0), 1),
    } | {name: round(value, 3) for name, value in measures.global_peak().items()}


def report_measurements(
    measures: VentricleMeasures, of_segments: Mapping[str, tuple[NDArray[np.floating], str]] | None = None
) -> list[dict[str, Any]]:
    """Measurements with UCUM units for DICOM reports and tables; what is not known is left out.

    Args:
        measures: of one exam.
        of_segments: further measurements of the segments: name -> (values (17,), unit).
    """
    function, heart = measures.function, "left ventricle"
    rows = [
        ("end-diastolic volume", function.edv_ml, "mL", heart),
        ("end-systolic volume", function.esv_ml, "mL", heart),
        ("stroke volume", function.stroke_volume_ml, "mL", heart),
        ("ejection fraction", 100 * function.ejection_fraction, "%", heart),
        ("myocardial mass", float(function.mass_g or 0.0), "g", heart),
    ]
    rows += [(name.replace("_", " "), 100 * value, "%", heart) for name, value in measures.global_peak().items()]
    for number, (segment, peaks) in enumerate(zip(SEGMENTS, measures.peak_strain(), strict=True)):
        rows += [(f"peak {name} strain", 100 * peak, "%", segment) for name, peak in zip(STRAINS, peaks, strict=True)]
        rows += [(name, values[number], unit, segment) for name, (values, unit) in (of_segments or {}).items()]
    return [
        {"name": name, "value": round(float(value), 2), "unit": unit, "region": region}
        for name, value, unit, region in rows
        if np.isfinite(value)
    ]
