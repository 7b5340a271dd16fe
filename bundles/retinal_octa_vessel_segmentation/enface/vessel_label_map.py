"""From the two probabilities of the network to one label map: background, capillary, larger vessel."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy.ndimage import label

from retinal_octa_vessel_segmentation.enface.load_image_enface import pixel_size_mm
from retinal_octa_vessel_segmentation.networks import TRAINING_PIXEL_MM

BACKGROUND, CAPILLARY, LARGER_VESSEL = 0, 1, 2
SMALLEST_OBJECT_MM2 = 10 * TRAINING_PIXEL_MM**2  # K24: 160 pixels of 1216 x 1216 on 3 mm


def without_small_objects(mask: np.ndarray, smallest: int) -> np.ndarray:
    """(H, W) boolean mask without its 8-connected objects of fewer than ``smallest`` pixels."""
    if smallest <= 1 or not mask.any():
        return mask
    objects, _ = label(mask, structure=np.ones((3, 3)))
    keep = np.bincount(objects.ravel()) >= smallest
    keep[0] = False
    return keep[objects]


def vessel_label_map(
    probability: np.ndarray,
    pixel_mm: tuple[float, float],
    threshold: float = 0.5,
    larger_threshold: float = 0.5,
    smallest_object_mm2: float = SMALLEST_OBJECT_MM2,
) -> np.ndarray:
    """Threshold, drop what is too small to be a vessel, and name the larger ones.

    Args:
        probability: (2, H, W): any vessel, larger vessel, in [0, 1].
        pixel_mm: (row, column) pixel size.
        threshold: smallest probability of a vessel.
        larger_threshold: smallest probability of a larger vessel, within the vessels.
        smallest_object_mm2: area below which an object is dropped; an island of larger vessel becomes capillary.

    Returns:
        uint8 (H, W): 0 background, 1 capillary, 2 larger vessel.

    Raises:
        ValueError: not two channels, or a threshold outside (0, 1).
    """
    if probability.ndim != 3 or probability.shape[0] != 2:
        raise ValueError(f"probability has the shape {probability.shape}, expected (2, H, W): vessel, larger vessel")
    for name, value in (("threshold", threshold), ("larger_threshold", larger_threshold)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value}, expected a probability between 0 and 1")
    smallest = math.ceil(smallest_object_mm2 / (pixel_mm[0] * pixel_mm[1]) - 1e-6)
    vessels = without_small_objects(probability[0] >= threshold, smallest)
    larger = without_small_objects(vessels & (probability[1] >= larger_threshold), smallest)
    return vessels.astype(np.uint8) * CAPILLARY + larger.astype(np.uint8) * (LARGER_VESSEL - CAPILLARY)


class VesselLabelMapd(MapTransform):
    """Turn probabilities (2, H, W) into a label map uint8 (1, H, W), and keep the probabilities under another key.

    Args:
        keys: keys of the probabilities, MetaTensors with an affine in mm; they become the label maps.
        probability_key: where the probabilities go.
        threshold, larger_threshold, smallest_object_mm2: see :func:`vessel_label_map`.
        allow_missing_keys: skip keys that a sample lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        probability_key: str = "probability",
        threshold: float = 0.5,
        larger_threshold: float = 0.5,
        smallest_object_mm2: float = SMALLEST_OBJECT_MM2,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.probability_key = probability_key
        self.threshold = threshold
        self.larger_threshold = larger_threshold
        self.smallest_object_mm2 = smallest_object_mm2

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Label every key."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            probability = sample[key]
            labels = vessel_label_map(
                np.asarray(probability.detach().cpu()),
                pixel_size_mm(probability),
                self.threshold,
                self.larger_threshold,
                self.smallest_object_mm2,
            )
            sample[self.probability_key] = probability
            sample[key] = MetaTensor(torch.from_numpy(labels)[None]).copy_meta_from(probability)
        return sample
