"""A reconstructed cine as a DICOM series of MR images, one per frame, which scanners' viewers play."""

from __future__ import annotations

import datetime
import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DSfloat

from clinbundles.data.atomic_file import atomic_path
from clinbundles.dicom.result_equipment import ResultEquipment
from clinbundles.dicom.segmentation_source import add_patient_and_study, set_frame_of_reference
from clinbundles.dicom.slice_geometry import slice_geometry
from clinbundles.dicom.source_header import read_header, result_series_number

_FULL_SCALE = 4095  # 12 bits: viewers for MR take it for granted
_SERIES_NUMBERS = 5000  # segmentations have 1000, maps 2000, reports 3000, image series 4000
_OF_THE_PATIENT = ("PatientPosition", "Laterality")
_UNKNOWN_STUDY = Dataset()


@disable_value_validation()  # its warnings quote the header
def write_dicom_cine(
    folder: str | os.PathLike[str],
    magnitude: npt.NDArray[np.floating],
    affine: npt.NDArray[np.floating],
    equipment: ResultEquipment,
    *,
    frame_ms: float = math.nan,
    cyclic: bool = True,
    acceleration: float = math.nan,
    name: str = "",
    description: str = "Cine",
    source_header: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Write one MR image per frame (0001.dcm, ...) with one rescale for all frames.

    A value read back differs by at most half of the largest / 4095. UIDs are new in every call. Patient and study come
    from ``source_header`` alone; without it the study is a new one and the patient is called after the case.

    Args:
        folder: takes the files.
        magnitude: (T, X, Y), at least 0; X runs along the columns and Y along the rows of the DICOM image.
        affine: 4x4 from (x, y, 0) to mm, RAS.
        equipment: which bundle made the cine; its notice is written into every file.
        frame_ms: time between frames; NaN where unknown, then no trigger times are written.
        cyclic: whether the frames are one heart beat.
        acceleration: lines of the matrix / sampled lines, for the derivation's description.
        name: of the case.
        description: what the series is.
        source_header: a DICOM file of the same examination, whose patient, study and frame of reference are taken.

    Raises:
        ValueError: values that are negative or not finite, another number of axes, a source that is no DICOM.
    """
    values = np.asarray(magnitude, dtype=np.float64)
    if values.ndim != 3 or not values.size:
        raise ValueError(f"the cine has the shape {values.shape}, expected (frames, readout, phase encoding)")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError("the cine has values that are negative or not finite, expected a magnitude")
    slope = float(f"{values.max() / _FULL_SCALE:.9g}") or 1.0
    stored = np.clip(np.round(values / slope), 0, _FULL_SCALE).astype("<u2")
    window = max(float(np.percentile(values, 99.5)), slope)
    source = None if source_header is None else read_header(source_header, _OF_THE_PATIENT)
    common = _common(source, affine, equipment, name, description)
    common.Columns, common.Rows = values.shape[1:]
    common.RescaleIntercept, common.RescaleSlope, common.RescaleType = 0, slope, "US"
    common.WindowCenter, common.WindowWidth = _decimal(window / 2), _decimal(window)
    common.NumberOfTemporalPositions = len(values)
    timed = math.isfinite(frame_ms) and frame_ms > 0
    if timed:
        common.TemporalResolution = _decimal(frame_ms)
        if cyclic:
            common.ScanOptions = "CG"  # cardiac gating
            common.CardiacNumberOfImages = len(values)
            common.NominalInterval = round(frame_ms * len(values))
            common.HeartRate = round(60_000 / (frame_ms * len(values)))
    if math.isfinite(acceleration):
        common.DerivationDescription += f" Undersampled {acceleration:.3g} times."
    paths = []
    for number, frame in enumerate(stored):
        image = Dataset()
        image.update(common)
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPInstanceUID, image.InstanceNumber = generate_uid(), number + 1
        image.TemporalPositionIdentifier = number + 1
        if timed:
            image.TriggerTime = _decimal(number * frame_ms)
        image.PixelData = frame.T.tobytes()
        path = Path(folder) / f"{number + 1:04d}.dcm"
        with atomic_path(path) as temporary:
            image.save_as(temporary, enforce_file_format=True)
        paths.append(path)
    return paths


def _common(
    source: Dataset | None, affine: npt.NDArray[np.floating], equipment: ResultEquipment, name: str, description: str
) -> Dataset:
    """What all frames share."""
    image, now = Dataset(), datetime.datetime.now()
    image.SOPClassUID, image.Modality = MRImageStorage, "MR"
    image.SeriesInstanceUID, image.SeriesDescription = generate_uid(), equipment.series_description(description)
    add_patient_and_study(image, source if source is not None else _UNKNOWN_STUDY)
    if source is None:
        image.StudyInstanceUID = generate_uid()
        image.PatientID = image.PatientName = name[:64].replace("\\", "/")
        image.FrameOfReferenceUID, image.PositionReferenceIndicator = generate_uid(), ""
        image.SeriesNumber = _SERIES_NUMBERS
    else:
        for keyword in _OF_THE_PATIENT:
            if keyword in source:
                image.add(source[keyword])
        set_frame_of_reference(image, source)
        image.SeriesNumber = result_series_number(source, _SERIES_NUMBERS)
        if source.get("SOPInstanceUID"):
            item = Dataset()
            item.ReferencedSOPClassUID = UID(str(source.get("SOPClassUID", MRImageStorage)))
            item.ReferencedSOPInstanceUID = source.SOPInstanceUID
            image.SourceImageSequence = [item]
    image.ContentDate, image.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    image.Manufacturer, image.ManufacturerModelName = equipment.manufacturer, equipment.model
    image.SoftwareVersions = equipment.software
    image.ImageType = ["DERIVED", "PRIMARY" if source is None else "SECONDARY", "M"]
    notice = f"{equipment.name} {equipment.version}. {equipment.notice or 'Research use only'}".strip()
    image.DerivationDescription = notice if notice.endswith(".") else f"{notice}."
    image.ImageComments = "Research use only"
    # types 1 and 2 of the MR image module; the sequence of the measurement is not known here
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "RM", "NONE", ""
    image.MRAcquisitionType = "2D"
    image.RepetitionTime = image.EchoTime = image.EchoTrainLength = None
    geometry = slice_geometry(affine, 1)
    image.ImagePositionPatient = [_decimal(value) for value in geometry.positions[0]]
    image.ImageOrientationPatient = [_decimal(value) for value in geometry.orientation]
    image.PixelSpacing = [_decimal(value) for value in geometry.pixel_spacing]
    image.SliceThickness = _decimal(geometry.slice_spacing)
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    return image


def _decimal(value: float) -> DSfloat:
    return DSfloat(float(value), auto_format=True)
