"""Reading one image patch from a file, whatever its format, as the raster that a viewer shows."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from clinbundles.data.nifti_values import read_nifti_values
from clinbundles.dicom.pixel_decoding import read_pixels
from clinbundles.dicom.series_listing import is_dicom

_YBR = "YBR"
_PLAIN = ("1", "L", "LA", "I;16", "I", "F", "RGB", "RGBA")  # what Pillow need not convert


@dataclass(frozen=True)
class PatchFile:
    """What a file holds.

    Attributes:
        raster: (H, W, C) stored values, row 0 at the top, C = 1 or 3.
        full_scale: greatest value of the stored type; None for floating point.
    """

    raster: np.ndarray
    full_scale: float | None


def read_patch_file(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> PatchFile:
    """Read PNG, BMP, TIFF, JPEG, NIfTI or a DICOM image of one frame.

    NIfTI's first axis runs along the columns, so its array is transposed once; all formats then give the same raster.

    Args:
        path: the file; a list of one file will do (a DICOM series of one image).

    Raises:
        FileNotFoundError: no such file.
        ValueError: several frames or slices, or a file that cannot be read; says which and what to do.
    """
    files = [Path(path)] if isinstance(path, str | os.PathLike) else [Path(part) for part in path]
    if len(files) != 1:
        raise ValueError(
            f"{files[0].name if files else 'no file'}: the series has {len(files)} images, expected one 2D image: "
            "give one image patch per file, in a folder or series of its own"
        )
    (file,) = files
    if not file.is_file():
        raise FileNotFoundError(f"{file.name}: no such file")
    name = file.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return _read_nifti(file)
    if name.endswith((".dcm", ".dicom")) or is_dicom(file):
        return _read_dicom(file)
    return _read_picture(file)


def _read_picture(path: Path) -> PatchFile:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                frames = getattr(image, "n_frames", 1)
                image.load()
                array = np.asarray(image if image.mode in _PLAIN else image.convert("RGB"))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(f"{path.name}: the picture is far larger than an image patch: cut out the patch") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path.name}: cannot be read as an image, is it damaged or cut off?") from error
    if frames > 1:
        raise ValueError(f"{path.name}: holds {frames} pages, expected one 2D image: give one image patch per file")
    raster = array[..., None] if array.ndim == 2 else array
    raster = raster[..., :1] if raster.shape[-1] == 2 else raster[..., :3]  # opacity is no colour
    if raster.dtype == np.int32:  # PIL's mode I, in which it gives 16-bit PNG
        return PatchFile(raster, 65535.0)
    return PatchFile(raster, _full_scale(raster))


def _read_nifti(path: Path) -> PatchFile:
    _, array = read_nifti_values(path)
    if array.dtype.names is not None:  # RGB24
        array = np.stack([array[name] for name in array.dtype.names[:3]], axis=-1)
        colours = array.reshape(*array.shape[:2], -1, 3) if array.ndim >= 3 else array
    else:
        colours = array.reshape(*array.shape, *([1] * max(4 - array.ndim, 0)))
    if colours.ndim != 4 or colours.shape[2] != 1 or colours.shape[3] not in (1, 3):
        shape = " x ".join(str(size) for size in array.shape)
        raise ValueError(
            f"{path.name}: holds {shape} voxels, expected one 2D image (columns, rows, 1), with colours as RGB24 or "
            "as a fourth axis of 3: give one slice per file"
        )
    raster = colours[:, :, 0].transpose(1, 0, 2)
    return PatchFile(raster, _full_scale(raster))


def _read_dicom(path: Path) -> PatchFile:
    header, stored = read_pixels(path)
    if len(stored) != 1:
        raise ValueError(
            f"{path.name}: DICOM with {len(stored)} frames, expected one 2D image: export one frame per file"
        )
    raster = stored[0] if stored.ndim == 4 else stored[0][..., None]
    kind = str(header.get("PhotometricInterpretation", ""))
    if kind.startswith(_YBR) and int(pydicom.__version__.split(".")[0]) < 3:  # pydicom 3 gives RGB by itself
        from pydicom.pixel_data_handlers.util import convert_color_space

        raster = convert_color_space(raster, kind, "RGB")
    elif kind == "PALETTE COLOR":
        raise ValueError(f"{path.name}: DICOM with a colour palette: export it as RGB or as grey values")
    signed = int(header.get("PixelRepresentation", 0)) == 1
    full = float(2 ** (int(header.BitsStored) - int(signed)) - 1)
    if kind == "MONOCHROME1":
        raster = full - raster
    return PatchFile(raster, full)


def _full_scale(array: np.ndarray) -> float | None:
    if array.dtype == bool:
        return 1.0
    return float(np.iinfo(array.dtype).max) if np.issubdtype(array.dtype, np.integer) else None
