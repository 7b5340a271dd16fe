"""DICOM files made from arrays and NIfTI, with a patient whose name must not turn up anywhere."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

PATIENT_NAME, PATIENT_ID = "Nevermore^Edgar", "PID-770077"
OPERATOR, INSTITUTION = "Usher^Roderick", "Hospital of Amontillado"
SECRETS = ("Nevermore", PATIENT_ID, "Usher", "Amontillado", "19010119")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
EN_FACE = "1.2.840.10008.5.1.4.1.1.77.1.5.7"  # Ophthalmic Optical Coherence Tomography En Face Image Storage
_DIRECTIONS = np.array([[0.1, -0.9, 0.2], [0.95, 0.15, 0.1], [-0.1, 0.2, 0.9]])
_ROTATION = np.linalg.svd(_DIRECTIONS)[0] @ np.linalg.svd(_DIRECTIONS)[2]  # the nearest one with orthogonal axes
OBLIQUE = np.block([[_ROTATION * [1.4, 1.1, -2.5], np.array([[31.0], [-12.5], [7.25]])], [np.zeros((1, 3)), 1.0]])
"""Oblique in all planes with three spacings, and orthogonal, as DICOM's planes must be; axis 2 runs against DICOM's."""
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def header(
    kind: str = MRImageStorage, modality: str = "MR", study: str = "1.2.3.4", series: str = "1.2.3.4.1"
) -> Dataset:
    """An image without pixels and place, of a patient with a name, an operator and an institution."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = kind, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = (
        PATIENT_NAME,
        PATIENT_ID,
        "19010119",
        "O",
    )
    image.PatientAge, image.PatientAddress = "095Y", "1 Usher Lane"
    image.OperatorsName, image.InstitutionName = OPERATOR, INSTITUTION
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20240102", "101112", "7", "A77"
    image.ReferringPhysicianName, image.StudyDescription = "", "Study of Nevermore"
    image.Modality, image.SeriesNumber, image.SeriesDescription = modality, 1, "Nevermore axial"
    image.Manufacturer, image.StationName = "ACME", "Usher 1"
    image.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    if kind == MRImageStorage:
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions, image.MRAcquisitionType = (
            "GR",
            "NONE",
            "",
            "3D",
        )
        image.RepetitionTime, image.EchoTime, image.EchoTrainLength = 10.0, 3.0, 1
    if kind == CTImageStorage:
        image.KVP, image.AcquisitionNumber = 120.0, 1
        image.RescaleIntercept, image.RescaleSlope = 0.0, 1.0
    return image


def set_pixels(image: Dataset, rows: np.ndarray) -> None:
    """Put an array of integers, grey (rows, columns) or coloured (rows, columns, 3), into an image."""
    stored = np.ascontiguousarray(rows)
    bits = 8 * stored.dtype.itemsize
    image.Rows, image.Columns = stored.shape[:2]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    if stored.ndim == 3:
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = bits, bits, bits - 1
    image.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    image.PixelData = stored.tobytes()


def save(image: Dataset, path: Path) -> Path:
    """Write one image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if int(pydicom.__version__.split(".")[0]) < 3:  # MONAI Label's environment
        image.is_little_endian, image.is_implicit_VR = True, False
        image.save_as(path, write_like_original=False)
    else:
        image.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    volume: np.ndarray,
    affine: np.ndarray,
    kind: str = MRImageStorage,
    modality: str = "MR",
    series: str | None = None,
    phase: int | None = None,
    study: str = "1.2.3.4",
    frame_ms: float = 40.0,
) -> list[Path]:
    """Write (I, J, K) integers with an affine in RAS mm as one file per slice, in an order that is not that of slices.

    Args:
        folder: takes the files.
        volume: I along the columns, J along the rows of a slice.
        affine: 4x4.
        kind: SOP class.
        modality: Modality.
        series: Series Instance UID.
        phase: point in time of a cine.
        study: Study Instance UID.
        frame_ms: time from one phase to the next.
    """
    lps = RAS_TO_LPS @ affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    directions = lps[:3, :3] / lengths
    series = series or generate_uid()
    frame = "1.2.3.4.99"
    paths = []
    for k in range(volume.shape[2]):
        image = header(kind, modality, study, series)
        image.FrameOfReferenceUID, image.PositionReferenceIndicator = frame, ""
        image.ImageOrientationPatient = [f"{value:.12f}"[:16] for value in directions[:, :2].T.ravel()]
        image.ImagePositionPatient = [f"{value:.12f}"[:16] for value in lps[:3, 3] + k * lps[:3, 2]]
        image.PixelSpacing = [f"{lengths[1]:.12f}"[:16], f"{lengths[0]:.12f}"[:16]]
        image.SliceThickness, image.PatientPosition = float(f"{lengths[2]:.10g}"), "HFS"
        image.InstanceNumber = k + 1
        if phase is not None:
            image.TriggerTime = float(f"{frame_ms * phase:.10g}")
        set_pixels(image, volume[:, :, k].T)
        number = (7 * k + 3) % volume.shape[2] if np.gcd(7, volume.shape[2]) == 1 else k  # names do not tell the order
        paths.append(save(image, folder / f"IM{number:04d}_{phase or 0:02d}.dcm"))
    return paths


def series_from_nifti(folder: Path, nifti: Path, **kwargs: str) -> list[Path]:
    """Write a NIfTI volume of whole numbers as a series."""
    image = nibabel.load(nifti)
    return write_series(folder, np.asarray(image.dataobj).astype(np.int16), image.affine, **kwargs)


def write_en_face(path: Path, raster: np.ndarray, pixel_mm: float = 3 / 304, modality: str = "OPT") -> Path:
    """Write an (H, W) raster of 8 bits as an en-face image of the retina, without patient coordinates."""
    image = header(EN_FACE, modality)
    image.PixelSpacing = [f"{pixel_mm:.12f}"[:16]] * 2
    image.InstanceNumber = 1
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = "1.2.3.4.98", ""
    set_pixels(image, raster)
    return save(image, path)


def write_colour(path: Path, raster: np.ndarray, modality: str = "XC") -> Path:
    """Write an (H, W, 3) raster of 8 bits as secondary capture, without patient coordinates."""
    image = header(SECONDARY_CAPTURE, modality)
    image.InstanceNumber, image.ConversionType = 1, "WSD"
    set_pixels(image, raster)
    return save(image, path)
