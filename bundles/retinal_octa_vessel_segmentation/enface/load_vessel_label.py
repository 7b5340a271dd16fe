"""Loading of vessel masks that belong to an en-face image."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImaged, MapTransform

from retinal_octa_vessel_segmentation.enface.enface_file import read_enface_file
from retinal_octa_vessel_segmentation.measurement.binary_mask import binary_mask


def read_vessel_mask(path: str | Path) -> np.ndarray:
    """(H, W) boolean mask from a file with the values {0, 1} or {0, 255}.

    Raises:
        ValueError: other values; JPEG leaves grey values at the edges.
    """
    return binary_mask(read_enface_file(path).raster, Path(path).name)


def read_vessel_labels(path: str | Path) -> np.ndarray:
    """(2, H, W) boolean, all vessels and larger vessels, from a label map: 0 background, 1 capillary, 2 larger vessel.

    Raises:
        ValueError: other values.
    """
    labels = read_enface_file(path).raster
    values = np.unique(labels)
    if not np.isin(values, (0, 1, 2)).all():
        shown = ", ".join(f"{value:g}" for value in values[:6])
        raise ValueError(f"{Path(path).name} holds the values {shown}, expected a label map of 0, 1 and 2 only")
    return np.stack([labels > 0, labels == 2])


class LoadImageVesselLabeld(LoadImaged):
    """Load the vessel labels of an image as (C, H, W) float32 in {0, 1}, on the grid of the image.

    A case names one mask (all vessels), a list of masks (all vessels, larger vessels), or with ``label_map`` one label
    map, which becomes two channels. Keys that hold an array are left alone. Comes after the image has been loaded,
    whose geometry the label takes.

    Args:
        keys: keys of the label files.
        image_key: key of the loaded image (1, H, W).
        label_map: files hold 0 background, 1 capillary, 2 larger vessel instead of a mask.
        allow_missing_keys: skip keys that a case lacks.

    Raises:
        ValueError: a mask with values other than {0, 1} or {0, 255}; another shape than the image.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        label_map: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.image_key = image_key
        self.label_map = label_map

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Load every key that holds a path or a list of paths."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            paths = sample[key]
            if isinstance(paths, (str, os.PathLike)):
                paths = [paths]
            if isinstance(paths, (list, tuple)):
                sample[key] = self._load(paths, sample[self.image_key])
        return sample

    def _load(self, paths: Sequence[str | Path], image: MetaTensor) -> MetaTensor:
        channels = []
        for path in paths:
            labels = read_vessel_labels(path) if self.label_map else read_vessel_mask(path)[None]
            if labels.shape[-2:] != tuple(image.shape[-2:]):
                raise ValueError(
                    f"label {Path(path).name} has {labels.shape[-2]} x {labels.shape[-1]} pixels but its image "
                    f"{Path(str(image.meta.get('filename_or_obj', 'image'))).name} has {image.shape[-2]} x "
                    f"{image.shape[-1]}: they must be the same grid"
                )
            channels.append(labels)
        return MetaTensor(torch.from_numpy(np.concatenate(channels)).float(), affine=image.affine)
