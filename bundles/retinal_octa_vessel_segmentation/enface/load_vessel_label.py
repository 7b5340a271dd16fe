"""Loading of the known vessels of an en-face image, from a mask or from a label map."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImaged, MapTransform

from retinal_octa_vessel_segmentation.enface.enface_file import read_enface_file
from retinal_octa_vessel_segmentation.enface.vessel_label_map import LARGER_VESSEL
from retinal_octa_vessel_segmentation.measurement.binary_mask import binary_mask


def read_vessel_labels(path: str | Path) -> np.ndarray:
    """The known vessels (C, H, W) boolean of one file.

    A label map (0 background, 1 capillary, 2 larger vessel; recognised by the value 2) gives two channels, all vessels
    and larger vessels; a mask with the values {0, 1} or {0, 255} gives one.

    Raises:
        ValueError: other values; JPEG leaves grey values at the edges.
    """
    raster = np.asarray(read_enface_file(path).raster)
    values = set(np.unique(raster).tolist())
    if LARGER_VESSEL in values and values <= {0, 1, LARGER_VESSEL}:
        return np.stack([raster > 0, raster == LARGER_VESSEL])
    return binary_mask(raster, Path(path).name)[None]


HOLDS = ("label_map", "vessels", "larger_vessels")
UNKNOWN = -1.0  # in a channel that the label file says nothing about


def both_channels(path: str | Path, holds: str) -> np.ndarray:
    """All vessels and larger vessels of one label file, (2, H, W) float32 of 0 and 1; -1 in a channel it does not hold.

    Args:
        path: the file.
        holds: "label_map" (0 background, 1 capillary, 2 larger vessel), or what a mask of {0, 1} or {0, 255} shows:
            "vessels" or "larger_vessels".

    Raises:
        ValueError: other values than that.
    """
    if holds == "label_map":
        raster = np.asarray(read_enface_file(path).raster)
        found = sorted(set(np.unique(raster).tolist()) - {0, 1, LARGER_VESSEL})
        if found:
            raise ValueError(
                f"label {Path(path).name} holds the value {found[0]:g}, expected a label map of 0 (background), "
                f"1 (capillary) and {LARGER_VESSEL} (larger vessel); for a mask set label_holds to vessels or "
                "larger_vessels"
            )
        return np.stack([raster > 0, raster == LARGER_VESSEL]).astype(np.float32)
    labels = read_vessel_labels(path)
    known = labels[0] if holds == "vessels" else labels[-1]
    channels = np.full((2, *known.shape), UNKNOWN, dtype=np.float32)
    channels[HOLDS.index(holds) - 1] = known
    return channels


class LoadImageVesselLabeld(LoadImaged):
    """Load the known vessels of an image as (C, H, W) float32 in {0, 1}, on the grid of the image.

    Comes after the image has been loaded, whose geometry the label takes. What a file may hold:
    :func:`read_vessel_labels`.

    Args:
        keys: keys of the label files.
        image_key: key of the loaded image (1, H, W), not resampled.
        channel: vessels of a label map to keep: 0 all, 1 larger ones; None keeps both. A mask has one channel and is
            taken as it is: then ``channel`` must name what the mask holds.
        holds: for training: give both channels of what the file holds, see :func:`both_channels`; not with ``channel``.
        allow_missing_keys: skip keys that a case lacks.

    Raises:
        ValueError: ``channel`` or ``holds`` is none of these; a file with other values, or of another shape than
            the image.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        channel: int | None = None,
        holds: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if holds not in (None, *HOLDS) or (holds is not None and channel is not None):
            raise ValueError(f"label_holds is {holds!r}, expected one of {', '.join(HOLDS)}")
        if channel not in (0, 1, None):
            raise ValueError(f"channel is {channel!r}, expected 0 (all vessels), 1 (larger vessels) or None (both)")
        self.image_key = image_key
        self.channel = channel
        self.holds = holds

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Load every key."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self._load(Path(sample[key]), sample[self.image_key])
        return sample

    def _load(self, path: Path, image: MetaTensor) -> MetaTensor:
        labels = read_vessel_labels(path) if self.holds is None else both_channels(path, self.holds)
        if labels.shape[-2:] != tuple(image.shape[-2:]):
            raise ValueError(
                f"label {path.name} has {labels.shape[-2]} x {labels.shape[-1]} pixels but its image "
                f"{Path(str(image.meta.get('filename_or_obj', 'image'))).name} has {image.shape[-2]} x "
                f"{image.shape[-1]}: they must be the same grid"
            )
        if self.channel is not None and len(labels) > 1:
            labels = labels[self.channel, None]
        return MetaTensor(torch.from_numpy(labels).float(), affine=image.affine)
