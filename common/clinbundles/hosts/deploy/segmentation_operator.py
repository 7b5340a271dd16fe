"""The label map of a study as DICOM segmentation."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np

from clinbundles.data.atomic_file import atomic_path
from clinbundles.dicom.segmentation_writer import write_segmentation
from clinbundles.hosts.deploy.study_result import StudyResult
from clinbundles.hosts.deploy.study_writer import StudyWriter
from clinbundles.hosts.hosted_bundle import HostedBundle

FILE, CINE_FILE = "segmentation.dcm", "labels.nii.gz"


class SegmentationOperator(StudyWriter):
    """Write ``pred`` as DICOM SEG; with a time axis, which DICOM SEG has none for, as NIfTI.

    Args:
        bundle: the bundle, which describes its segments.
        args, kwargs: see :class:`StudyWriter`.
    """

    def __init__(self, *args: Any, bundle: HostedBundle, **kwargs: Any) -> None:
        self.bundle = bundle
        super().__init__(*args, **kwargs)

    def write(self, study: StudyResult) -> dict[str, str]:
        """Write the label map."""
        labels = study.prediction[0].astype(np.uint8)
        if labels.ndim == 4:
            with atomic_path(self.folder / CINE_FILE) as temporary:
                nibabel.save(nibabel.Nifti1Image(labels, study.affine), temporary)
            return {CINE_FILE: "label map of each point in time, NIfTI: DICOM segmentations have no time axis"}
        write_segmentation(
            self.folder / FILE,
            labels if labels.ndim == 3 else labels.T[..., None],  # a raster has its rows first
            study.files,
            self.bundle.segments,
            self.bundle.algorithm,
            self.equipment.series_description("Segmentation"),
        )
        return {FILE: "DICOM segmentation: " + ", ".join(study.label_names.values())}
