"""Writing what a bundle found as a file that 3D Slicer or OHIF lays over the image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK

from clinbundles.data.atomic_file import atomic_path
from clinbundles.hosts.label.file_grid import NIFTI, FileGrid, GridError, extension_of, place_on_grid, read_grid

RESULT_EXTENSIONS = (*NIFTI, ".nrrd")
_INTEGERS = ("uint8", "uint16", "int16", "int32")  # what a viewer may ask a label map to be
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def result_on_grid(pred: Any, grid: FileGrid, where: str) -> np.ndarray:
    """The values of a postprocessed ``pred`` (1, *spatial) on the grid of the image file.

    Raises:
        GridError: ``pred`` has several channels, or does not lie on the voxels of the file.
    """
    array = np.asarray(pred.detach().cpu())
    if array.shape[0] != 1:
        raise GridError(f"{where}: the result has {array.shape[0]} channels, expected one")
    affine = pred.meta.get("file_affine", pred.affine)
    return place_on_grid(array[0], np.asarray(affine, dtype=float), grid, where)


def write_result(values: np.ndarray, image: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write values on the grid of an image as NIfTI or NRRD, whole or not at all.

    Args:
        values: array of the shape of the image's grid.
        image: the image file, whose geometry is copied: exactly for NIfTI.
        path: the result; its ending chooses the format.

    Raises:
        GridError: an ending that is not written; a time series as NRRD.
    """
    extension = extension_of(path)
    if extension not in RESULT_EXTENSIONS:
        raise GridError(f"results are written as {', '.join(RESULT_EXTENSIONS)}, not as {Path(path).name}")
    with atomic_path(path) as draft:
        if extension in NIFTI:
            nibabel.save(_nifti(values, image), draft)
        else:
            SimpleITK.WriteImage(_itk(values, read_grid(image)), str(draft), useCompression=False)


def label_type(labels: np.ndarray, asked: str | None = None) -> np.dtype[Any]:
    """The number format of a label map: what the viewer asked for, or the smallest that holds it.

    Raises:
        ValueError: another format than integers was asked for, or one that is too small.
    """
    if asked is None:
        return np.dtype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
    if asked not in _INTEGERS or labels.max(initial=0) > np.iinfo(asked).max:
        raise ValueError(f"result_dtype is {asked!r}, expected one of {', '.join(_INTEGERS)} that holds every label")
    return np.dtype(asked)


def _nifti(values: np.ndarray, image: str | os.PathLike[str]) -> Any:
    if extension_of(image) in NIFTI:
        header = nibabel.load(image).header.copy()
        header.set_data_dtype(values.dtype)
        header.set_slope_inter(1.0, 0.0)
        header["cal_min"] = header["cal_max"] = 0.0
        header["descrip"] = header["aux_file"] = header["db_name"] = b""  # free text of the image may name a patient
        header.extensions.clear()
        return type(nibabel.load(image))(values, None, header=header)
    result = nibabel.Nifti1Image(values, read_grid(image).affine)
    result.header.set_xyzt_units("mm")
    result.set_sform(result.affine, 1)
    result.set_qform(result.affine, 1)
    return result


def _itk(values: np.ndarray, grid: FileGrid) -> Any:
    if grid.frames:
        raise GridError("a time series cannot be written as NRRD here: ask for result_extension .nii.gz")
    image = SimpleITK.GetImageFromArray(values.reshape(grid.space).T)
    affine = _LPS_TO_RAS @ grid.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image
