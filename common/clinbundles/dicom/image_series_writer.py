"""A computed image as a derived DICOM series of the same kind as its source, which every viewer shows."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from clinbundles.data.atomic_file import atomic_path
from clinbundles.dicom.result_equipment import ResultEquipment
from clinbundles.dicom.segmentation_source import add_patient_and_study, set_frame_of_reference
from clinbundles.dicom.slice_geometry import SliceGeometry, slice_geometry
from clinbundles.dicom.source_header import read_header, result_series_number

# Types 1 and 2 of the image modules beyond what is written below (PS3.3, C.8.3.1 and C.8.2.1): copied where stated.
_OF_THE_ACQUISITION = {
    "1.2.840.10008.5.1.4.1.1.4": (  # MR Image Storage
        "ScanningSequence",
        "SequenceVariant",
        "ScanOptions",
        "MRAcquisitionType",
        "RepetitionTime",
        "EchoTime",
        "EchoTrainLength",
    ),
    "1.2.840.10008.5.1.4.1.1.2": ("KVP", "AcquisitionNumber"),  # CT Image Storage
}
_OF_THE_SERIES = ("Modality", "PatientPosition", "Laterality")
_FULL_SCALE = 65535
_SERIES_NUMBERS = 4000  # segmentations have 1000, maps 2000, reports 3000


def takes_image_series(source_file: str | os.PathLike[str]) -> bool:
    """Whether a series like this file's can be written: one MR or CT slice per file."""
    return str(read_header(source_file).get("SOPClassUID", "")) in _OF_THE_ACQUISITION


@disable_value_validation()  # its warnings quote the header
def write_image_series(
    folder: str | os.PathLike[str],
    values: np.ndarray,
    affine: np.ndarray,
    source_files: Sequence[str | os.PathLike[str]],
    equipment: ResultEquipment,
    *,
    description: str,
) -> list[Path]:
    """Write one file per slice, 16 bits with a rescale that spans the values.

    A value read back differs by at most half of (largest - smallest) / 65535.

    Args:
        folder: takes ``0001.dcm``, ...
        values: (I, J, K), I along the columns and J along the rows of a slice.
        affine: 4x4 in RAS mm.
        source_files: the images of the series, one slice each, in any order.
        equipment: which bundle made the image.
        description: what the series is.

    Returns:
        The files, by slice.

    Raises:
        ValueError: a source of another kind, a slice without a source, values that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 3:
        raise ValueError(f"the image has {values.ndim} axes {values.shape}, expected three: columns, rows, slices")
    if not np.isfinite(values).all():
        raise ValueError(f"the image has {int((~np.isfinite(values)).sum())} voxels that are not finite")
    geometry = slice_geometry(affine, values.shape[2])
    sources = _sources_by_slice(source_files, geometry)
    low = float(f"{values.min():.9g}")
    slope = float(f"{(values.max() - low) / _FULL_SCALE:.9g}") or 1.0
    stored = np.clip(np.round((values - low) / slope), 0, _FULL_SCALE).astype("<u2")
    series_uid, now = generate_uid(), datetime.datetime.now()
    paths = []
    for k, source in enumerate(sources):
        image = _image(source, geometry, k, equipment)
        image.SeriesInstanceUID = series_uid
        image.SeriesDescription = equipment.series_description(description)
        image.ContentDate, image.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        image.RescaleIntercept, image.RescaleSlope, image.RescaleType = low, slope, "US"
        image.WindowCenter = float(f"{(values.min() + values.max()) / 2:.9g}")
        image.WindowWidth = float(f"{max(values.max() - values.min(), slope):.9g}")
        image.Columns, image.Rows = values.shape[:2]
        image.PixelData = stored[:, :, k].T.tobytes()
        path = Path(folder) / f"{k + 1:04d}.dcm"
        with atomic_path(path) as temporary:
            image.save_as(temporary, enforce_file_format=True)
        paths.append(path)
    return paths


def _sources_by_slice(files: Sequence[str | os.PathLike[str]], geometry: SliceGeometry) -> list[Dataset]:
    further = [*_OF_THE_SERIES, *(name for names in _OF_THE_ACQUISITION.values() for name in names)]
    headers = [read_header(file, further) for file in files]
    kinds = {UID(str(header.get("SOPClassUID", ""))) for header in headers}
    if not kinds <= _OF_THE_ACQUISITION.keys():
        names = ", ".join(sorted(kind.name or "unnamed" for kind in kinds))
        raise ValueError(f"a derived series needs a source of MR or CT images with one slice per file, found {names}")
    places = np.asarray([[float(value) for value in header.ImagePositionPatient] for header in headers])
    found = []
    for k, position in enumerate(geometry.positions):
        distance = np.linalg.norm(places - position, axis=1)
        if distance.min() > geometry.slice_spacing / 2:  # headers are rounded, so slices may miss their place a little
            raise ValueError(
                f"slice {k + 1} of the result lies {distance.min():.3g} mm from the nearest image of the series: the "
                "result is not on the grid of its input"
            )
        found.append(headers[int(distance.argmin())])
    return found


def _image(source: Dataset, geometry: SliceGeometry, k: int, equipment: ResultEquipment) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = source.SOPClassUID, generate_uid()
    add_patient_and_study(image, source)
    for keyword in (*_OF_THE_SERIES, *_OF_THE_ACQUISITION[source.SOPClassUID]):
        if keyword in source:
            image.add(source[keyword])
    image.SeriesNumber, image.InstanceNumber = result_series_number(source, _SERIES_NUMBERS), k + 1
    image.Manufacturer, image.ManufacturerModelName = equipment.manufacturer, equipment.model
    image.SoftwareVersions = equipment.software
    image.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    image.DerivationDescription = f"{equipment.name} {equipment.version}. {equipment.notice}".strip()
    image.SourceImageSequence = [_reference(source)]
    set_frame_of_reference(image, source)
    image.ImagePositionPatient = [_decimal(value) for value in geometry.positions[k]]
    image.ImageOrientationPatient = [_decimal(value) for value in geometry.orientation]
    image.PixelSpacing = [_decimal(value) for value in geometry.pixel_spacing]
    image.SliceThickness = source.get("SliceThickness")
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    return image


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return item


def _decimal(value: float) -> str:
    """A number as a decimal string: at most 16 characters."""
    return next(text for digits in range(15, 0, -1) if len(text := f"{value:.{digits}g}") <= 16)
