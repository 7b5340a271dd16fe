"""The grid of voxels of an image file as the viewers see it, and how results and labels are put on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK

NIFTI = (".nii.gz", ".nii")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
OTHERS = (".nrrd", ".mha")
EXTENSIONS = NIFTI + PICTURES + OTHERS

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_PLACE = 0.1  # voxels: grids whose corners lie closer than this are the same; qform's rounding stays far below


class GridError(ValueError):
    """A file without a usable grid, or two grids that should be the same and are not."""


@dataclass(frozen=True)
class FileGrid:
    """Where the voxels of a file lie.

    Attributes:
        shape: stored axes: (I, J), (I, J, 1), (I, J, K) or (I, J, K, T); I runs along the columns of a picture.
        affine: 4x4, from indices (i, j, k) to RAS mm.
        picture: whether the file is a PNG or the like, whose raster (H, W) a viewer shows as (W, H, 1).
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    picture: bool = False

    @property
    def space(self) -> tuple[int, int, int]:
        """Numbers of voxels along i, j, k."""
        i, j, k = (*self.shape[:3], 1, 1)[:3]
        return i, j, k

    @property
    def frames(self) -> tuple[int, ...]:
        """(T,) of a time series, () otherwise."""
        return tuple(size for size in self.shape[3:] if size > 1)


def extension_of(path: str | os.PathLike[str]) -> str:
    """The known ending of a file name in lower case, ``.nii.gz`` as one; "" for others."""
    name = Path(path).name.lower()
    return next((extension for extension in EXTENSIONS if name.endswith(extension)), "")


def read_grid(path: str | os.PathLike[str]) -> FileGrid:
    """The grid of an image file; only the header is read.

    Raises:
        GridError: the file cannot be read; names it.
    """
    try:
        if extension_of(path) in NIFTI:
            image: Any = nibabel.load(path)
            return FileGrid(tuple(int(size) for size in image.shape), np.asarray(image.affine, dtype=float))
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(os.fspath(path))
        reader.ReadImageInformation()
    except Exception as error:  # nibabel and ITK raise a dozen kinds
        raise GridError(f"{Path(path).name}: cannot be read as an image ({type(error).__name__})") from error
    return _itk_grid(reader, extension_of(path) in PICTURES)


def read_labels(path: str | os.PathLike[str]) -> tuple[np.ndarray, FileGrid]:
    """The numbers of a label file with axes (i, j, k) or (i, j, k, t), and its grid.

    Raises:
        GridError: the file cannot be read; names it.
    """
    try:
        if extension_of(path) in NIFTI:
            return np.asarray(nibabel.load(path).dataobj), read_grid(path)
        image = SimpleITK.ReadImage(os.fspath(path))
    except GridError:
        raise
    except Exception as error:
        raise GridError(f"{Path(path).name}: cannot be read as a label map ({type(error).__name__})") from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise GridError(f"{Path(path).name}: is coloured, expected one number per pixel")
    grid = _itk_grid(image, extension_of(path) in PICTURES)
    return SimpleITK.GetArrayFromImage(image).T.reshape(grid.shape), grid


def refuse_other_grid(label: FileGrid, image: FileGrid, where: str) -> None:
    """Compare the grid of a label with that of its image.

    Raises:
        GridError: shape or place differ; says both.
    """
    if (label.space, label.frames) != (image.space, image.frames):
        raise GridError(
            f"{where}: the label has {_size(label)} voxels, its image {_size(image)}; expected a label on the grid of "
            "the image: export it with the image as reference geometry"
        )
    if label.picture and image.picture:  # what a picture says of its pixel size is no place
        return
    corners = np.array(np.meshgrid(*([0.0, size - 1.0] for size in image.space), [1.0])).reshape(4, -1)
    distance = _inverse(image.affine, where) @ label.affine @ corners - corners
    furthest = float(np.abs(distance[:3]).max())
    if not furthest <= _SAME_PLACE:
        raise GridError(
            f"{where}: the label lies elsewhere than its image, by up to {furthest:.3g} voxels (axes "
            f"{_axes(label)}, origin {_point(label)}; image: axes {_axes(image)}, origin {_point(image)}); expected "
            "the same affine: export it with the image as reference geometry"
        )


def place_on_grid(result: np.ndarray, affine: np.ndarray, grid: FileGrid, where: str) -> np.ndarray:
    """Bring a result to the axis order of a file, without interpolation.

    Args:
        result: (I, J), (I, J, K) or (I, J, K, T) on the voxels of the file, axes in any order and direction; of a
            picture the raster (H, W).
        affine: 4x4, from the result's indices to RAS mm.
        grid: the file's.
        where: what to call it in messages.

    Returns:
        The values with the shape ``grid.shape``; of a picture (W, H, 1).

    Raises:
        GridError: the result does not lie on the voxels of the file.
    """
    if grid.picture:
        rows = result.reshape(result.shape[:2]) if result.ndim == 3 and result.shape[2] == 1 else result
        if rows.shape != (grid.space[1], grid.space[0]):
            raise GridError(f"{where}: the result has the shape {result.shape}, the picture {grid.space[1::-1]}")
        return np.ascontiguousarray(rows.T).reshape(grid.shape)
    result = result.reshape(*result.shape, *[1] * (3 - result.ndim))
    steps = _inverse(grid.affine, where) @ np.asarray(affine, dtype=float)
    turn = np.rint(steps[:3, :3])
    order = np.abs(turn).argmax(axis=1)  # axis of the result that runs along each axis of the file
    fits = np.allclose(steps[:3, :3], turn, atol=1e-2) and sorted(order) == [0, 1, 2] and np.abs(turn).sum() == 3
    if fits:
        moved = result.transpose(*order, *range(3, result.ndim))
        backwards = [axis for axis in range(3) if turn[axis, order[axis]] < 0]
        start = np.array([size - 1.0 if axis in backwards else 0.0 for axis, size in enumerate(moved.shape[:3])])
        if np.abs(steps[:3, 3] - start).max() <= _SAME_PLACE and moved.shape[:3] == grid.space:
            frames = tuple(size for size in moved.shape[3:] if size > 1)
            if frames == grid.frames:
                return np.ascontiguousarray(np.flip(moved, backwards)).reshape(grid.shape)
    raise GridError(
        f"{where}: the result of {' x '.join(map(str, result.shape))} voxels does not lie on the {_size(grid)} voxels "
        "of the image, so a viewer could not lay it over"
    )


def _itk_grid(image: Any, picture: bool) -> FileGrid:
    axes = image.GetDimension()
    if axes not in (2, 3):
        raise GridError(f"an image of {axes} axes: expected 2 or 3; NIfTI may have a fourth for time")
    affine = np.eye(4)
    affine[:axes, :axes] = np.reshape(image.GetDirection(), (axes, axes)) * np.asarray(image.GetSpacing())
    affine[:axes, 3] = image.GetOrigin()
    shape = (*(int(size) for size in image.GetSize()), 1)[:3]
    return FileGrid(shape, _LPS_TO_RAS @ affine, picture and shape[2] == 1)


def _inverse(affine: np.ndarray, where: str) -> np.ndarray:
    try:
        return np.linalg.inv(affine)
    except np.linalg.LinAlgError as error:
        raise GridError(f"{where}: the image's affine has no inverse, so nobody knows where voxels lie") from error


def _size(grid: FileGrid) -> str:
    return " x ".join(str(size) for size in (*grid.space, *grid.frames))


def _axes(grid: FileGrid) -> str:
    return "".join(str(code) for code in nibabel.aff2axcodes(grid.affine))


def _point(grid: FileGrid) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in grid.affine[:3, 3]) + ") mm"
