"""Resampling to a pixel size in millimetres and back, without moving anything."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.transforms.utils import scale_affine
from monai.utils import TraceKeys

from retinal_octa_vessel_segmentation.augmentation.resolution_loss import area_average_matrix, bilinear_matrix
from retinal_octa_vessel_segmentation.enface.load_image_enface import pixel_size_mm
from retinal_octa_vessel_segmentation.networks import TRAINING_PIXEL_MM


def resample_image(image: torch.Tensor, size: Sequence[int], nearest: bool = False) -> torch.Tensor:
    """Resize (..., H, W) to (..., h, w): exact area average along an axis that shrinks, linear along one that grows.

    The field that the image covers stays the same, so pixel centres move by no more than the grids demand.
    """
    if nearest:
        batch = image.reshape(1, -1, *image.shape[-2:])
        resized = torch.nn.functional.interpolate(batch, size=tuple(size), mode="nearest-exact")
        return resized.reshape(*image.shape[:-2], *size)
    height, width = image.shape[-2:]
    rows, columns = size
    if rows != height:
        matrix = area_average_matrix(height, rows) if rows < height else bilinear_matrix(height, rows)
        image = matrix.to(image) @ image
    if columns != width:
        matrix = area_average_matrix(width, columns) if columns < width else bilinear_matrix(width, columns)
        image = image @ matrix.to(image).T
    return image


class ResampleToPixelSized(MapTransform, InvertibleTransform):
    """Resample (C, H, W) images to a pixel size in mm; MONAI's ``Invertd`` brings predictions back to the input grid.

    The new size is the nearest whole number of pixels, so the pixel size is met within half a pixel over the image;
    the affine states it exactly.

    Args:
        keys: MetaTensors with an affine in mm.
        pixel_size_mm: the wanted size of a pixel, for both axes; default that of the training.
        allow_missing_keys: skip keys that a sample lacks.

    Raises:
        ValueError: the pixel size is not positive.
    """

    def __init__(
        self, keys: KeysCollection, pixel_size_mm: float = TRAINING_PIXEL_MM, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not pixel_size_mm > 0:
            raise ValueError(f"pixel_size_mm is {pixel_size_mm}, expected a positive number of mm")
        self.pixel_size_mm = pixel_size_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample every key and note its former size."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            image = sample[key]
            shape = tuple(image.shape[-2:])
            size = [
                max(1, round(count * spacing / self.pixel_size_mm))
                for count, spacing in zip(shape, pixel_size_mm(image), strict=True)
            ]
            resampled = MetaTensor(resample_image(image.as_tensor(), size)).copy_meta_from(image)
            affine = torch.as_tensor(np.asarray(image.affine), dtype=torch.float64)
            step = torch.as_tensor(np.asarray(scale_affine(shape, size)), dtype=torch.float64)
            whole = torch.eye(4, dtype=torch.float64)
            whole[:2, :2], whole[:2, 3] = step[:2, :2], step[:2, 2]
            resampled.affine = affine @ whole
            # "mode" is what Invertd(nearest_interp=True) rewrites to "nearest"
            self.push_transform(resampled, orig_size=shape, extra_info={"mode": "bilinear", "affine": affine})
            sample[key] = resampled
        return sample

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring every key back to its former grid."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            noted = self.pop_transform(sample[key])
            image = sample[key]
            nearest = noted[TraceKeys.EXTRA_INFO]["mode"] == "nearest"
            size = [int(count) for count in noted[TraceKeys.ORIG_SIZE]]
            restored = MetaTensor(resample_image(image.as_tensor(), size, nearest)).copy_meta_from(image)
            restored.affine = torch.as_tensor(np.asarray(noted[TraceKeys.EXTRA_INFO]["affine"]), dtype=torch.float64)
            sample[key] = restored
        return sample
