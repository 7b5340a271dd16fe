"""A computed image (a reconstruction, an enhanced image) as DICOM and as NIfTI."""

from __future__ import annotations

import nibabel
import numpy as np

from clinbundles.data.atomic_file import atomic_path
from clinbundles.dicom.image_series_writer import takes_image_series, write_image_series
from clinbundles.dicom.parametric_map_writer import write_parametric_map
from clinbundles.hosts.deploy.study_result import StudyResult
from clinbundles.hosts.deploy.study_writer import StudyWriter
from clinbundles.hosts.hosted_bundle import BundleError

SERIES_FOLDER, MAP_FILE, NIFTI_FILE = "image", "image.dcm", "image.nii.gz"


class ImageOperator(StudyWriter):
    """Write ``pred`` (1, I, J, K) as a derived series of the source's kind (MR, CT; 16 bits with a rescale), for any
    other source as a parametric map (float32), and always as NIfTI (float32).
    """

    def write(self, study: StudyResult) -> dict[str, str]:
        """Write the image.

        Raises:
            BundleError: the result is no volume of one channel.
        """
        values, affine = study.prediction, study.affine
        if affine is None or len(values) != 1:
            raise BundleError(
                f"bundle {self.equipment.name} gives an image of the shape {values.shape}, expected (1, columns, rows, "
                "slices): other results have no DICOM form here, use the command line"
            )
        with atomic_path(self.folder / NIFTI_FILE) as temporary:
            nibabel.save(nibabel.Nifti1Image(values[0].astype(np.float32), affine), temporary)
        written = {NIFTI_FILE: "image, NIfTI (float32)"}
        description = "Computed image"
        if takes_image_series(study.files[0]):
            files = write_image_series(
                self.folder / SERIES_FOLDER, values[0], affine, study.files, self.equipment, description=description
            )
            return written | {f"{SERIES_FOLDER}/{file.name}": "image, one slice of a DICOM series" for file in files}
        write_parametric_map(
            self.folder / MAP_FILE, values, ["image"], affine, study.files, self.equipment, description=description
        )
        return written | {MAP_FILE: "image, DICOM parametric map"}
