"""The headers that a derived DICOM object refers to, reduced to what the standard makes it copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import DSfloat

from clinbundles.dicom.series_error import SeriesError
from clinbundles.dicom.series_frames import Frame
from clinbundles.dicom.series_geometry import SeriesGrid

# Patient and General Study modules: their attributes of type 1 and 2, which every object must have.
REQUIRED_OF_PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
_OF_THE_IMAGE = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"),
    *("Modality", "Rows", "Columns"),
)
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def reduced_header(header: Any) -> Dataset:
    """A copy with what a library needs of the image; patient and study are empty but for the study's UID.

    Libraries copy every attribute of the patient that they find, and warn with the patient's name where they dislike
    it: :func:`add_patient_and_study` puts what is required into the result afterwards.

    Raises:
        SeriesError: no UID of instance, series or study: a result could not be filed with its images.
    """
    reduced = Dataset()
    for name in REQUIRED_OF_PATIENT_AND_STUDY:
        setattr(reduced, name, None)
    for name in (*_OF_THE_IMAGE, *_LOSSY):
        if header.get(name) not in (None, ""):
            setattr(reduced, name, header.get(name))
    missing = [
        name
        for name in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
        if not reduced.get(name)
    ]
    if missing:
        raise SeriesError(f"the images state no {', '.join(missing)}: a DICOM result could not refer to them")
    if "Modality" not in reduced:
        reduced.Modality = "OT"
    return reduced


def add_patient_and_study(result: Dataset, header: Any) -> None:
    """Put what the standard requires of patient and study into a result, in UTF-8: names come in any script."""
    for name in REQUIRED_OF_PATIENT_AND_STUDY:
        setattr(result, name, header.get(name) or "")
    result.SpecificCharacterSet = "ISO_IR 192"


def source_images(headers: Sequence[Any], grid: SeriesGrid) -> tuple[list[Dataset], list[Frame]]:
    """The images that a segmentation on ``grid`` refers to, and the frame that each of its planes belongs to.

    One header per slice for a classic series, one with functional groups for a file with several frames. Positions
    are those of the images to the digit.

    Raises:
        SeriesError: the images lack a UID, are several files of several frames, or several frames without a place.
    """
    frames = [group[0] for group in grid.frames]
    if len(headers) > 1 and any(int(header.get("NumberOfFrames", 1) or 1) > 1 for header in headers):
        raise SeriesError(
            f"{len(headers)} files of several frames each: a DICOM segmentation can refer to one such file"
        )
    if len(headers) == 1 and int(headers[0].get("NumberOfFrames", 1) or 1) > 1:
        return [_multi_frame(headers[0], grid)], sorted(frames, key=lambda frame: frame.number)
    return [_single_frame(headers[frame.file], frame, grid) for frame in frames], frames


def _single_frame(header: Any, frame: Frame, grid: SeriesGrid) -> Dataset:
    image = reduced_header(header)
    if grid.spacing_known:
        image.PixelSpacing = _decimals(frame.spacing)
        image.SliceThickness = DSfloat(_slice_thickness(frame, grid), auto_format=True)
    if grid.patient_coordinates:
        set_frame_of_reference(image, header)
        image.ImagePositionPatient = _decimals(frame.position)
        image.ImageOrientationPatient = _decimals(np.asarray(grid.frames[0][0].orientation).ravel())
    return image


def _multi_frame(header: Any, grid: SeriesGrid) -> Dataset:
    image = reduced_header(header)
    if not grid.patient_coordinates:
        raise SeriesError(
            "the frames state no place in the patient: a DICOM segmentation of several frames needs it; the result is "
            "written in the other formats only"
        )
    set_frame_of_reference(image, header)
    frames = sorted((group[0] for group in grid.frames), key=lambda frame: frame.number)
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = _decimals(frames[0].spacing or (1.0, 1.0))
    measures.SliceThickness = DSfloat(_slice_thickness(frames[0], grid), auto_format=True)
    orientation.ImageOrientationPatient = _decimals(np.asarray(frames[0].orientation).ravel())
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = []
    for frame in frames:
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = _decimals(frame.position)
        group.PlanePositionSequence = [position]
        image.PerFrameFunctionalGroupsSequence.append(group)
    image.NumberOfFrames = len(frames)
    return image


def set_frame_of_reference(image: Dataset, header: Any) -> None:
    """Give a result the frame of reference of its source.

    Some anonymisers drop it, and without it a position means nothing: then the series gets one of its own, the same for
    every result.
    """
    stated = header.get("FrameOfReferenceUID")
    image.FrameOfReferenceUID = stated or generate_uid(entropy_srcs=[str(header.SeriesInstanceUID)])
    image.PositionReferenceIndicator = header.get("PositionReferenceIndicator", "") or ""


def _slice_thickness(frame: Frame, grid: SeriesGrid) -> float:
    return frame.thickness or float(np.linalg.norm(grid.affine[:3, 2]))


def _decimals(values: Any) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]
