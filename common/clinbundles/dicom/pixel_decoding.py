"""The stored pixel values of a DICOM file, compressed or not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from clinbundles.dicom.series_error import SeriesError

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PIXEL_GROUPS = (0x0028, 0x7FE0)
_UNCOMPRESSED = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
_RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType")


def read_pixels(path: Path) -> tuple[Any, np.ndarray]:
    """The header of a file, and its stored values (frames, rows, columns) or (frames, rows, columns, channels).

    Bits beyond BitsStored are cleared, or follow the sign. Compressed files are decoded by pydicom and its plugins, or
    else by GDCM through ITK, if that is installed.

    Raises:
        SeriesError: cut off, or compressed in a way that neither can decode; names the transfer syntax.
    """
    try:
        header: Any = pydicom.dcmread(path)
    except Exception as error:  # the message of the library may quote the header
        raise SeriesError(
            f"{path.name}: cannot be read as a DICOM image, is it damaged or cut off? ({type(error).__name__})"
        ) from None
    if not any(name in header for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise SeriesError(f"{path.name}: cannot be read as a DICOM image: it holds no pixel data, is it cut off?")
    values = _stored_bits(_decode(header, path), header)
    count, colours = int(header.get("NumberOfFrames", 1) or 1), int(header.get("SamplesPerPixel", 1) or 1)
    shape = (count, int(header.Rows), int(header.Columns), *((colours,) if colours > 1 else ()))
    if values.size != np.prod(shape):
        raise SeriesError(
            f"{path.name}: cannot be read as a DICOM image: it holds {values.size} pixel values, expected "
            f"{np.prod(shape)}; is it damaged?"
        )
    return header, values.reshape(shape)


def _decode(header: Any, path: Path) -> np.ndarray:
    try:
        return header.pixel_array
    except Exception as error:  # missing plugins and broken streams come as many kinds
        syntax: UID = header.file_meta.get("TransferSyntaxUID", ExplicitVRLittleEndian)
        if syntax in _UNCOMPRESSED:
            raise SeriesError(
                f"{path.name}: cannot be read as a DICOM image: its pixel data do not fit its size; is it damaged or "
                f"cut off? ({type(error).__name__})"
            ) from None
        decoded = _decode_by_gdcm(path)
        if decoded is None:
            raise SeriesError(
                f"{path.name}: cannot be read as a DICOM image: no decoder for its compression {syntax.name} "
                f"({syntax}). Send it uncompressed (Explicit VR Little Endian), or install a decoder for pydicom, such "
                "as pylibjpeg"
            ) from None
        return decoded


def _decode_by_gdcm(path: Path) -> np.ndarray | None:
    """Decode with ITK; None where it is not installed or cannot.

    ITK would apply the rescaling and the inversion of MONOCHROME1 in its own way, so it is given a file that holds the
    pixels alone; nothing of the patient goes onto the disk.
    """
    try:
        import itk
    except ImportError:  # MONAI Deploy's environment has other decoders
        return None
    pixels: Any = pydicom.dcmread(path)
    for element in list(pixels):
        if element.tag.group not in _PIXEL_GROUPS or element.keyword in _RESCALE or element.VR == "SQ":
            del pixels[element.tag]
    if pixels.PhotometricInterpretation == "MONOCHROME1":
        pixels.PhotometricInterpretation = "MONOCHROME2"
    pixels.SOPClassUID, pixels.SOPInstanceUID = _SECONDARY_CAPTURE, "1.2.3"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pixels.dcm"
        try:
            pixels.save_as(file)
            return np.asarray(itk.imread(str(file)))
        except Exception:  # whatever it is, GDCM cannot decode it either
            return None


def _stored_bits(values: np.ndarray, header: Any) -> np.ndarray:
    """Clear the bits above BitsStored, in which old files keep overlays; carry the sign into them."""
    stored = int(header.get("BitsStored", 0) or 0)
    spare = 8 * values.dtype.itemsize - stored
    if not np.issubdtype(values.dtype, np.integer) or stored <= 0 or spare <= 0:
        return values
    return np.right_shift(np.left_shift(values, spare), spare)
