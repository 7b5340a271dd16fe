"""What passes from the operator that runs a bundle to the operators that write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clinbundles.dicom.series_listing import DicomSeries


@dataclass(frozen=True)
class StudyResult:
    """One series or exam and what the bundle made of it.

    Attributes:
        series: the series that were chosen: one, or those of an exam.
        sample: the sample after postprocessing; ``pred`` is the result.
        label_names: number to name of each label or class.
        written: files that the bundle's own writers have left, relative to the output folder, and what they are.
    """

    series: tuple[DicomSeries, ...]
    sample: Mapping[str, Any] = field(repr=False)
    label_names: Mapping[int, str] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of all series."""
        return tuple(file for series in self.series for file in series.files)

    @property
    def prediction(self) -> np.ndarray:
        """``pred`` as an array, channel first."""
        return np.asarray(self.sample["pred"].detach().cpu())

    @property
    def affine(self) -> np.ndarray | None:
        """4x4 affine of ``pred`` in RAS mm; None for a raster without patient coordinates."""
        prediction = self.sample["pred"]
        if prediction.ndim < 4:
            return None
        affine = prediction.meta.get("file_affine", prediction.affine)
        return np.asarray(affine, dtype=float)

    @property
    def probabilities(self) -> dict[str, float]:
        """Name to probability of each class, for a classification."""
        return {name: float(self.prediction[number]) for number, name in self.label_names.items()}
