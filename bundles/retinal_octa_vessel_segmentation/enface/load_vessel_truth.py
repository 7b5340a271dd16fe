"""Loading of what a prediction is compared with: one channel of truth, from a mask or from a label map."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader
from monai.transforms import LoadImaged

from retinal_octa_vessel_segmentation.enface.enface_file import read_enface_file
from retinal_octa_vessel_segmentation.enface.vessel_label_map import LARGER_VESSEL
from retinal_octa_vessel_segmentation.measurement.binary_mask import binary_mask


class LoadImageVesselTruthd(LoadImaged):
    """Load a file with the known vessels as (1, H, W) float32 in {0, 1}.

    A label map (0 background, 1 capillary, 2 larger vessel; recognised by the value 2) gives the vessels of `channel`.
    A mask with the values {0, 1} or {0, 255} is taken as it is: then `channel` must name what the mask holds.

    Args:
        keys: keys of the label files.
        channel: channel of the network that is compared: 0 all vessels, 1 larger vessels.
        allow_missing_keys: skip keys that a case lacks.

    Raises:
        ValueError: `channel` is neither 0 nor 1; a file with other values.
    """

    def __init__(self, keys: KeysCollection, channel: int = 0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, image_only=True, allow_missing_keys=allow_missing_keys)
        if channel not in (0, 1):
            raise ValueError(f"channel is {channel}, expected 0 (all vessels) or 1 (larger vessels)")
        self.channel = channel

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Load every key."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            path = Path(sample[key])
            raster = np.asarray(read_enface_file(path).raster)
            values = set(np.unique(raster).tolist())
            if LARGER_VESSEL in values and values <= {0, 1, LARGER_VESSEL}:
                raster = raster >= (LARGER_VESSEL if self.channel == 1 else 1)
            mask = binary_mask(raster, path.name)
            sample[key] = torch.from_numpy(np.ascontiguousarray(mask)).float()[None]
        return sample
