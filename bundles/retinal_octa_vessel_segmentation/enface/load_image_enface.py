"""Loading of en-face OCT angiographs as MONAI images with a pixel size in millimetres."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImaged, MapTransform

from retinal_octa_vessel_segmentation.enface.enface_file import EnFaceFile, read_enface_file
from retinal_octa_vessel_segmentation.enface.enface_image import scaled_enface
from retinal_octa_vessel_segmentation.enface.enface_pixel_size import resolve_pixel_size

CHECKED = "enface_checked"  # metadata entry of an image that has passed all checks


def pixel_size_mm(image: MetaTensor) -> tuple[float, float]:
    """(row, column) pixel size in mm of a (C, H, W) image, from its affine."""
    affine = np.asarray(image.affine, dtype=float)
    rows, columns = np.linalg.norm(affine[:-1, :2], axis=0)
    return float(rows), float(columns)


def enface_tensor(
    file: EnFaceFile, where: str, case: Mapping[Hashable, Any], fov_mm: float | Sequence[float] | None = None
) -> MetaTensor:
    """Check and scale one image: (1, H, W) float32 in [0, 1] with a 4x4 affine in mm.

    Axis 0 of the affine runs along the rows (downwards), axis 1 along the columns. The metadata hold ``study``,
    ``eye``, ``layer``, ``file_format``, ``notes`` (one remark a line) and ``file_affine``, the file's own affine for
    writing (equal to the affine where the file has none).

    Args:
        file: what was read.
        where: what to call the image in messages.
        case: entries ``spacing_mm``, ``fov_mm``, ``eye``, ``layer``, ``study`` of this image, all optional.
        fov_mm: field of view where the case states none.

    Raises:
        ValueError: see :func:`scaled_enface` and :func:`resolve_pixel_size`.
    """
    image, scale_notes = scaled_enface(file.raster, file.full_scale, where)
    stated = case.get("fov_mm")
    pixel_mm, size_notes = resolve_pixel_size(
        (image.shape[0], image.shape[1]),
        where,
        file_mm=file.pixel_mm,
        file_is_medical=file.medical,
        fov_mm=fov_mm if stated is None else stated,
        spacing_mm=case.get("spacing_mm"),
    )
    affine = np.diag([*pixel_mm, 1.0, 1.0])
    if file.affine is not None:
        lengths = np.linalg.norm(file.affine[:3, :2], axis=0)
        affine = file.affine.copy()
        affine[:3, :2] *= np.asarray(pixel_mm) / np.where(lengths > 0, lengths, 1.0)
    file_affine = affine if file.affine is None else file.affine
    meta = {
        "study": str(case.get("study", where)),
        "eye": str(case.get("eye") or file.eye or ""),
        "layer": str(case.get("layer") or ""),
        "file_format": file.file_format,
        "stored_axes": file.stored_axes,
        "file_affine": torch.as_tensor(file_affine, dtype=torch.float64),
        "notes": "\n".join([*file.notes, *scale_notes, *size_notes]),
        "spatial_shape": np.asarray(image.shape),
        "original_channel_dim": 0,
        CHECKED: 1,
    }
    if meta["eye"] not in ("", "OD", "OS"):
        raise ValueError(f"{where}: eye is '{meta['eye']}', expected OD (right) or OS (left)")
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None]
    return MetaTensor(tensor, affine=torch.as_tensor(affine, dtype=torch.float64), meta=meta)


class LoadImageEnFaced(LoadImaged):
    """Load an en-face OCTA: PNG, BMP, TIFF, JPEG, NIfTI or DICOM, as (1, H, W) float32 in [0, 1].

    Also called: en-face projection, OCT angiogram, C-scan. The raster is what a viewer shows: row 0 at the top, no axis
    swapped (MONAI's PIL reader swaps them). The pixel size comes from the file or from the field of view. A key that
    may also hold the list of the files of a DICOM series; one that already holds an image (MONAI Label, MONAI Deploy)
    is left to :class:`EnFaceImaged`.

    Args:
        keys: keys of the file names.
        fov_mm: height and width of the image on the retina in mm, or one number for both; used where neither the case
            (its entries ``spacing_mm`` or ``fov_mm``) nor, for ``None``, the file states it.
        eye: "OD" or "OS" where neither the case nor the file says so.
        projection_axis: axis of a NIfTI or DICOM volume along which the maximum is taken; ``None`` refuses volumes.
        allow_missing_keys: skip keys that a case lacks.

    Raises:
        ValueError: an image that cannot be measured; the message says what was found and how to mend it.
    """

    def __init__(
        self,
        keys: KeysCollection,
        fov_mm: float | Sequence[float] | None = None,
        eye: str | None = None,
        projection_axis: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        # LoadImaged is the base so that MONAI Label knows the reader; its own loader, which would look for every
        # reader package, is left out but for the switch that MONAI Label sets
        MapTransform.__init__(self, keys, allow_missing_keys)
        self._loader = SimpleNamespace(image_only=True)
        self.fov_mm = fov_mm
        self.eye = eye
        self.projection_axis = projection_axis

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Load every key that holds a path or a list of paths."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            given = sample[key]
            paths = [given] if isinstance(given, (str, os.PathLike)) else given
            if not isinstance(paths, (list, tuple)) or not all(isinstance(p, (str, os.PathLike)) for p in paths):
                continue
            path = os.fspath(paths[0])
            file = read_enface_file([os.fspath(p) for p in paths], self.projection_axis)
            file.eye = file.eye or self.eye
            where = os.path.basename(path)
            image = enface_tensor(file, where, sample, self.fov_mm)
            image.meta["filename_or_obj"] = str(path)
            sample[key] = image
            if not self._loader.image_only:  # MONAI Label asks for the metadata beside the image
                sample[f"{key}_meta_dict"] = image.meta
        return sample


class EnFaceImaged(MapTransform):
    """Check and scale an en-face image that a host has loaded: an array (H, W), (H, W, 1), (1, H, W) or (1, H, W, 1).

    Axes keep their order; the pixel size is that of the MetaTensor's affine, else ``fov_mm``. An image that
    :class:`LoadImageEnFaced` has loaded passes unchanged.

    Args:
        keys: keys of the images.
        fov_mm: as for :class:`LoadImageEnFaced`.
        allow_missing_keys: skip keys that a case lacks.

    Raises:
        ValueError: as for :class:`LoadImageEnFaced`.
    """

    def __init__(
        self, keys: KeysCollection, fov_mm: float | Sequence[float] | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.fov_mm = fov_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check every key."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            image = sample[key]
            if isinstance(image, MetaTensor) and image.meta.get(CHECKED):
                continue
            sample[key] = self._from_array(image, sample)
        return sample

    def _from_array(self, image: Any, sample: Mapping[Hashable, Any]) -> MetaTensor:
        array = np.asarray(image.detach().cpu() if isinstance(image, torch.Tensor) else image)
        where = "the image"
        affine: np.ndarray | None = None
        if isinstance(image, MetaTensor):
            affine = np.asarray(image.affine, dtype=float)
            where = os.path.basename(str(image.meta.get("filename_or_obj", where)))
        if array.ndim in (3, 4) and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim == 3 and array.shape[0] == 1:
            array = array[0]
        if array.ndim != 2:
            raise ValueError(
                f"{where}: has the shape {tuple(array.shape)}: a volume or a coloured image, expected one en-face "
                "image (height, width); take the maximum projection of the slab first"
            )
        spacing = None if affine is None else np.linalg.norm(affine[:-1, :2], axis=0)
        known = spacing is not None and not np.allclose(spacing, 1.0)  # 1 is what MONAI writes for "unknown"
        integer = np.issubdtype(array.dtype, np.integer)
        file = EnFaceFile(
            array,
            float(np.iinfo(array.dtype).max) if integer else None,
            (float(spacing[0]), float(spacing[1])) if known and spacing is not None else None,
            medical=known,
            affine=affine if affine is not None and affine.shape == (4, 4) else None,
            file_format="array",
        )
        tensor = enface_tensor(file, where, sample, self.fov_mm)
        if isinstance(image, MetaTensor) and "filename_or_obj" in image.meta:
            tensor.meta["filename_or_obj"] = image.meta["filename_or_obj"]
        return tensor
