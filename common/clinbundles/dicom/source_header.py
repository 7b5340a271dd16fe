"""The headers of the images that a result is made of, as far as results need them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from clinbundles.dicom.segmentation_source import REQUIRED_OF_PATIENT_AND_STUDY

_NEEDED = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber", "SpecificCharacterSet"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "ImagePositionPatient", "SliceThickness"),
)


def read_header(file: str | os.PathLike[str], further: Sequence[str] = ()) -> Dataset:
    """The attributes of a file that results may need: patient, study and place, and ``further`` ones.

    Raises:
        ValueError: the file cannot be read as DICOM; the message quotes nothing of the header.
    """
    wanted = [*REQUIRED_OF_PATIENT_AND_STUDY, *_NEEDED, *further]
    try:
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=wanted)
    except Exception as error:
        raise ValueError(f"{Path(file).name}: cannot be read as DICOM ({type(error).__name__})") from None


def result_series_number(header: Dataset, offset: int) -> int:
    """Series Number of a result: an offset above its images', so that viewers tell the kinds of results apart."""
    return offset + int(header.get("SeriesNumber") or 0)
