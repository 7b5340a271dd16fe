"""Reading a DICOM series as one image with its geometry."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from monai.data import MetaTensor
from pydicom.config import disable_value_validation

from clinbundles.dicom.pixel_decoding import read_pixels
from clinbundles.dicom.series_error import SeriesError
from clinbundles.dicom.series_frames import Frame, frames_of
from clinbundles.dicom.series_geometry import SeriesGrid, series_grid
from clinbundles.dicom.series_listing import DicomSeries, scan_series

DICOM_FORMAT = "dicom"
_NO_COLOUR = 128  # of Cb and Cr in 8 bits
GREY_TOLERANCE = 3  # levels between channels that JPEG leaves in a grey image
# The value means something in itself (HU, Bq/ml, counts), so it stays whatever MONOCHROME1 asks of the display.
_QUANTITATIVE = ("CT", "PT", "NM")


@disable_value_validation()  # pydicom's warnings would carry values of the header into the log
def read_series(
    series: DicomSeries | str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, time: bool = False
) -> MetaTensor:
    """Read one series, classic (a file per slice) or enhanced (several frames in a file).

    Args:
        series: a listed series, or its files, in any order, or the folder that holds it alone.
        time: whether several frames at one position are points in time (a cine); they become the last axis.

    Returns:
        float32 (1, I, J, K), with ``time`` (1, I, J, K, T): i counts the columns, j the rows, k the slices along the
        normal of the planes, as ITK and NIfTI do. Values are rescaled frame by frame (modality units such as HU);
        MONOCHROME1 is turned round so that bright is large, except where values are measurements (CT, PET, NM). The
        affine is in RAS mm, float64. The metadata hold ``dicom_files`` (one path a line, in order of slices; see
        :func:`dicom_files`), ``file_format`` "dicom", ``filename_or_obj`` (the first file), ``spatial_shape``,
        ``original_affine``, ``original_channel_dim`` 0, ``patient_coordinates`` and ``spacing_known`` (whether the
        files state place and pixel size), and with ``time`` ``frame_times_ms`` (T,), NaN where they state an order
        only.

    Raises:
        SeriesError: the files are not one image on one regular grid; says what was found. See :func:`series_grid`.
        FileNotFoundError: no such file.
    """
    files = series_files(series)
    where = files[0].name if len(files) == 1 else f"series of {len(files)} files from {files[0].name}"
    grid = series_grid(_frames(files), where, time)
    slices, times = len(grid.frames), len(grid.frames[0])
    first = grid.frames[0][0]
    volume = np.empty((slices, times, first.rows, first.columns), dtype=np.float32)
    _fill(volume, files, grid)
    # (K, T, J, I) -> (1, I, J, K, T)
    image = np.ascontiguousarray(volume.transpose(3, 2, 0, 1)[None])
    if not time:
        image = image[..., 0]
    affine = torch.as_tensor(grid.affine, dtype=torch.float64)
    in_order = list(dict.fromkeys(files[frame.file] for group in grid.frames for frame in group))
    meta: dict[str, Any] = {
        "dicom_files": "\n".join(map(str, in_order)),
        "file_format": DICOM_FORMAT,
        "filename_or_obj": str(in_order[0]),
        "spatial_shape": np.asarray(image.shape[1:4]),
        "original_affine": grid.affine.copy(),
        "original_channel_dim": 0,
        "space": "RAS",
        "patient_coordinates": int(grid.patient_coordinates),
        "spacing_known": int(grid.spacing_known),
    }
    if time:
        meta["frame_times_ms"] = grid.times_ms
    return MetaTensor(torch.from_numpy(image), affine=affine, meta=meta)


def dicom_files(image: MetaTensor) -> list[Path]:
    """The files that an image of :func:`read_series` came from, in order of slices; [] for any other image."""
    return [Path(line) for line in str(image.meta.get("dicom_files", "")).splitlines()]


def series_files(series: DicomSeries | str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The files of the one series that is given, sorted by path.

    Raises:
        SeriesError: no image, several series, or a file that is no DICOM.
        FileNotFoundError: no such file.
    """
    if isinstance(series, DicomSeries):
        return list(usable(series).files)
    given = [series] if isinstance(series, str | os.PathLike) else list(series)
    if not given:
        raise SeriesError("no file is given, expected the files of one DICOM series")
    is_folder = len(given) == 1 and Path(given[0]).is_dir()
    scan = scan_series(given)
    if scan.skipped and not is_folder:
        raise SeriesError(f"{scan.skipped[0].name}: is no DICOM file, or one without the DICOM preamble")
    images = [found for found in scan.series if found.has_image] if is_folder else scan.series
    name = Path(given[0]).name
    if not images:
        raise SeriesError(f"{name}: holds no DICOM image")
    damaged = [found for found in images if found.damaged]
    if damaged:
        usable(damaged[0])
    if len(images) > 1:
        listed = ", ".join(str(found) for found in images[:5]) + (" ..." if len(images) > 5 else "")
        raise SeriesError(
            f"{name}: {len(images)} series where one is expected: {listed}. Give the files of one of them"
        )
    return list(usable(images[0]).files)


def usable(series: DicomSeries) -> DicomSeries:
    """The series, if it is an image by its listing.

    Raises:
        SeriesError: it is not.
    """
    if series.damaged:
        raise SeriesError(f"{series.files[0].name}: cannot be read as DICOM, is it damaged or cut off?")
    if not series.has_image:
        raise SeriesError(f"{series}: holds no image (it is a {series.sop_class})")
    return series


def series_headers(files: Iterable[Path]) -> list[Any]:
    """The headers of files, without pixels.

    Raises:
        SeriesError: a file that cannot be read.
    """
    headers = []
    for file in files:
        try:
            headers.append(pydicom.dcmread(file, stop_before_pixels=True))
        except Exception as error:  # the message of the library may quote the header
            raise SeriesError(
                f"{file.name}: cannot be read as DICOM, is it damaged or cut off? ({type(error).__name__})"
            ) from None
    return headers


def _frames(files: list[Path]) -> list[Frame]:
    frames: list[Frame] = []
    for number, file in enumerate(files):
        (header,) = series_headers([file])
        frames += frames_of(header, number, file.name)
    return frames


def _fill(volume: np.ndarray, files: list[Path], grid: SeriesGrid) -> None:
    """Put the values of every frame into (K, T, J, I), file by file so that only one is held."""
    members: dict[int, list[tuple[int, int, Frame]]] = {}
    for k, group in enumerate(grid.frames):
        for t, frame in enumerate(group):
            members.setdefault(frame.file, []).append((k, t, frame))
    for number, placed in members.items():
        header, stored = read_pixels(files[number])
        grey = grey_values(header, stored, files[number].name)
        for k, t, frame in placed:
            volume[k, t] = grey[frame.number].astype(np.float64) * frame.slope + frame.intercept


def grey_values(header: Any, stored: np.ndarray, where: str) -> np.ndarray:
    """(frames, rows, columns) stored values, bright being large; grey pictures in colour lose their copies.

    Raises:
        SeriesError: colour, or a table between stored and true values.
    """
    if "ModalityLUTSequence" in header:
        raise SeriesError(f"{where}: its values are given by a table (Modality LUT), not by slope and intercept")
    photometric = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if stored.ndim == 4:
        coloured = stored.astype(np.int64)
        grey = np.ptp(coloured, axis=-1).max() <= GREY_TOLERANCE
        if photometric.startswith("YBR"):  # decoders differ in whether they turn it into RGB
            grey = grey or np.abs(coloured[..., 1:] - _NO_COLOUR).max() <= GREY_TOLERANCE
        if not grey:
            raise SeriesError(f"{where}: is a colour image ({photometric}), expected grey values")
        return stored[..., 0]
    if photometric == "PALETTE COLOR":
        raise SeriesError(f"{where}: is a colour image (PALETTE COLOR), expected grey values")
    if photometric == "MONOCHROME1" and str(header.get("Modality", "")) not in _QUANTITATIVE:
        if not np.issubdtype(stored.dtype, np.integer):
            return -stored
        signed = int(header.get("PixelRepresentation", 0)) == 1
        largest = -1 if signed else 2 ** int(header.BitsStored) - 1
        return largest - stored.astype(np.int64)
    return stored
