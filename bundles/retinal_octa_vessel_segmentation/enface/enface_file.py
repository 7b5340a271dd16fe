"""Reading one en-face image file, whatever its format, as the raster that a viewer shows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clinbundles.data.nifti_values import read_nifti_values
from clinbundles.dicom import read_series
from clinbundles.dicom.pixel_decoding import read_pixels
from clinbundles.dicom.read_series import grey_values, series_headers

GREY_TOLERANCE = 3  # levels of 255 between channels that JPEG leaves in a grey image
OPT_B_SCANS = "1.2.840.10008.5.1.4.1.1.77.1.5.4"  # Ophthalmic Tomography Image Storage
_INCH, _CENTIMETRE = 2, 3  # TIFF 6.0, tag 296 ResolutionUnit


@dataclass
class EnFaceFile:
    """What a file holds.

    Attributes:
        raster: (H, W) array of the stored values, row 0 at the top, as a viewer shows it.
        full_scale: largest value of the stored type, None for floating point.
        pixel_mm: (row, column) pixel size by the metadata, None if there is none.
        medical: whether the format's pixel size means the object (DICOM, NIfTI).
        affine: 4x4 world affine whose first two columns are the raster's rows and columns; None if there is none.
        eye: "OD" or "OS" if the metadata say so.
        stored_axes: number of axes of the array in the file.
        file_format: "png", "tiff", "nifti", "dicom" (one image), "dicom_volume", ...
        notes: remarks for the reader of the result.
    """

    raster: np.ndarray
    full_scale: float | None
    pixel_mm: tuple[float, float] | None = None
    medical: bool = False
    affine: np.ndarray | None = None
    eye: str | None = None
    stored_axes: int = 2
    file_format: str = ""
    notes: list[str] = field(default_factory=list)


def read_enface_file(path: str | Path | Sequence[str | Path], projection_axis: int | None = None) -> EnFaceFile:
    """Read PNG, BMP, TIFF, JPEG, NIfTI or DICOM.

    No axis is swapped against what a viewer shows: NIfTI's first axis runs along the columns (as ITK and 3D Slicer
    read it), so its array is transposed once here; its file on disk and the other formats then give the same raster.

    Args:
        path: the file; several files are one DICOM series that makes a volume.
        projection_axis: axis of a NIfTI or DICOM volume (columns, rows, slices) along which the maximum is taken;
            None refuses volumes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: colour, several frames, or a file that cannot be read; says which and what to do.
    """
    files = [Path(path)] if isinstance(path, str | Path) else [Path(part) for part in path]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file.name}: no such file")
    if len(files) > 1:
        return _read_dicom(files, projection_axis)
    (path,) = files
    readers: dict[str, Callable[[], EnFaceFile]] = {
        "nifti": lambda: _read_nifti(path, projection_axis),
        "dicom": lambda: _read_dicom(files, projection_axis),
        "picture": lambda: _read_picture(path),
    }
    return readers[_kind_of(path)]()


def _kind_of(path: Path) -> str:
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return "nifti"
    if name.endswith((".dcm", ".dicom")):
        return "dicom"
    with path.open("rb") as file:
        return "dicom" if file.read(132)[128:] == b"DICM" else "picture"


def _full_scale(array: np.ndarray) -> float | None:
    if array.dtype == bool:
        return 1.0
    return float(np.iinfo(array.dtype).max) if np.issubdtype(array.dtype, np.integer) else None


def grey_channel(array: np.ndarray, where: str) -> np.ndarray:
    """The one channel of an (H, W), (H, W, 1), grey (H, W, 3) or (H, W, 4) array.

    Raises:
        ValueError: the channels differ, so the image is coloured.
    """
    if array.ndim == 2:
        return array
    if array.shape[-1] in (1, 2):  # grey, or grey and opacity
        return array[..., 0]
    colour = array[..., :3].astype(float)
    scale = (_full_scale(array) or 255.0) / 255.0
    coloured = (colour.max(axis=-1) - colour.min(axis=-1)) > GREY_TOLERANCE * scale
    if coloured.any():
        raise ValueError(
            f"{where}: the image is coloured ({coloured.mean():.1%} of its pixels): a screenshot with overlays or a "
            "colour-coded map? Export the plain grey-scale angiogram from the device"
        )
    return array[..., 0]


def _read_picture(path: Path) -> EnFaceFile:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                file_format = str(image.format or "").lower()
                frames = getattr(image, "n_frames", 1)
                pixel_mm = _picture_pixel_mm(image)
                if frames == 1:
                    image = _plain(image)
                    array = np.asarray(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(f"{path.name}: the picture is far larger than any en-face angiogram") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path.name}: cannot be read as an image, is it damaged or cut off?") from error
    if frames > 1:
        raise ValueError(
            f"{path.name}: holds {frames} pages: a volume or a series, not one en-face image. Give the en-face "
            "projection of the slab, one image per file"
        )
    raster = grey_channel(array, path.name)
    return EnFaceFile(raster, _full_scale(raster), pixel_mm, file_format=file_format)


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "P":
        return image.convert("RGB")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return image.convert("RGB")
    image.load()
    return image


def _picture_pixel_mm(image: Image.Image) -> tuple[float, float] | None:
    """(row, column) pixel size by TIFF tags with a unit, PNG pHYs or the BMP header; PIL gives all others as dpi."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is not None:
        unit = {_INCH: 25.4, _CENTIMETRE: 10.0}.get(tags.get(296, _INCH if 282 in tags else None))
        across, down = tags.get(282), tags.get(283)
        if unit is None or not across or not down or float(across) <= 0 or float(down) <= 0:
            return None
        return unit / float(down), unit / float(across)
    dpi = image.info.get("dpi")
    if not dpi or not all(value > 0 for value in dpi):
        return None
    return 25.4 / float(dpi[1]), 25.4 / float(dpi[0])


def _read_nifti(path: Path, projection_axis: int | None) -> EnFaceFile:
    image, array = read_nifti_values(path)
    affine = np.asarray(image.affine, dtype=float)
    if array.dtype.names is not None:  # RGB24
        array = np.stack([array[name] for name in array.dtype.names], axis=-1)
        array = grey_channel(array.reshape(*array.shape[:2], -1), path.name)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    stored_axes = array.ndim
    if array.ndim == 2:
        array = array[..., None]
    file = _projected(array, affine, path.name, projection_axis)
    file.stored_axes, file.file_format = stored_axes, "nifti"
    return file


def _projected(array: np.ndarray, affine: np.ndarray, where: str, projection_axis: int | None) -> EnFaceFile:
    """The en-face raster of a volume (columns, rows, ...), whose axes are those of its affine."""
    notes: list[str] = []
    if array.ndim != 3 or (min(array.shape) > 1 and projection_axis is None):
        shape = " x ".join(str(size) for size in array.shape)
        raise ValueError(
            f"{where}: is a volume of {shape} voxels: give its en-face projection, or set projection_axis to "
            "the axis (0, 1 or 2) that runs into the depth of the retina to take the maximum along it"
        )
    if projection_axis is not None and min(array.shape) > 1:
        if projection_axis not in (0, 1, 2):
            raise ValueError(f"projection_axis is {projection_axis}, expected 0, 1 or 2")
        depth = array.shape[projection_axis]
        array = array.max(axis=projection_axis, keepdims=True)
        notes.append(f"maximum projection of {depth} voxels along axis {projection_axis}")
        flat = projection_axis
    else:
        flat = 2 if array.shape[2] == 1 else int(np.argmin(array.shape))
    columns, rows = (axis for axis in range(3) if axis != flat)
    raster = np.squeeze(array, axis=flat).T
    world = affine[:, [rows, columns, flat, 3]]
    spacing = np.linalg.norm(world[:3, :2], axis=0)
    known = bool(np.isfinite(spacing).all() and (spacing > 0).all())
    pixel_mm = (float(spacing[0]), float(spacing[1])) if known else None
    return EnFaceFile(raster, _full_scale(raster), pixel_mm, medical=True, affine=world, notes=notes)


def _read_dicom(files: Sequence[Path], projection_axis: int | None) -> EnFaceFile:
    name = files[0].name
    (header,) = series_headers(files[:1])
    frames = int(header.get("NumberOfFrames", 1) or 1) * len(files)
    if frames > 1 or str(header.get("SOPClassUID", "")) == OPT_B_SCANS:
        if projection_axis is None:
            raise ValueError(
                f"{name}: DICOM with {frames} frames (OCT cross-sections or a volume), not one en-face image. Export "
                "the en-face angiogram (Ophthalmic OCT En Face Image), or set projection_axis to the axis (0, 1 or 2) "
                "that runs into the depth of the retina to take the maximum along it"
            )
        return _read_dicom_volume(files, header, projection_axis)
    header, stored = read_pixels(files[0])
    raster = grey_values(header, stored, name)[0]
    return EnFaceFile(
        raster,
        _dicom_full_scale(header),
        _dicom_pixel_mm(header),
        medical=True,
        eye=_dicom_eye(header),
        file_format="dicom",
    )


def _read_dicom_volume(files: Sequence[Path], header: Any, projection_axis: int) -> EnFaceFile:
    volume = read_series(files)
    name = files[0].name
    known = bool(volume.meta["spacing_known"])
    file = _projected(np.asarray(volume.as_tensor())[0], np.asarray(volume.affine), name, projection_axis)
    file.stored_axes, file.file_format, file.eye = 3, "dicom_volume", _dicom_eye(header)
    file.pixel_mm = file.pixel_mm if known else None
    # rescaled values are no longer counts of the stored type
    file.full_scale = _dicom_full_scale(header) if np.equal(np.mod(file.raster, 1), 0).all() else None
    return file


def _dicom_eye(header: Any) -> str | None:
    return {"R": "OD", "L": "OS"}.get(str(header.get("ImageLaterality", header.get("Laterality", ""))))


def _dicom_full_scale(header: Any) -> float | None:
    """Largest stored value of an integer image."""
    if "BitsStored" not in header:
        return None
    signed = int(header.get("PixelRepresentation", 0)) == 1
    return float(2 ** (int(header.BitsStored) - int(signed)) - 1)


def _dicom_pixel_mm(header: Any) -> tuple[float, float] | None:
    sources = [header]
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in header.get(groups, []) or []:
            sources += list(group.get("PixelMeasuresSequence", []) or [])
    for source in sources:
        spacing = source.get("PixelSpacing")
        if spacing is not None and len(spacing) == 2 and all(float(value) > 0 for value in spacing):
            return float(spacing[0]), float(spacing[1])
    return None
