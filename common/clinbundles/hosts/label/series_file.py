"""A DICOM series as the NIfTI file that viewers and bundles read here."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np

from clinbundles.dicom import read_series


def write_series_as_nifti(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Convert the one series in a folder; nothing of its headers but the geometry goes into the file.

    Raises:
        SeriesError: the files are not one image on a regular grid; says what was found.
    """
    image = read_series(folder)
    converted = nibabel.Nifti1Image(np.asarray(image)[0], np.asarray(image.affine, dtype=float))
    converted.header.set_xyzt_units("mm")
    nibabel.save(converted, path)
    return Path(path)
