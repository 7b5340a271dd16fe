"""Normalisation with constants that no private image has decided."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

MEAN, STD = 0.5, 0.25
"""Of intensities in [0, 1], for any image: they are no property of a data set."""


class FixedNormalisationd(MapTransform):
    """(image - mean) / std with the same two numbers for every image and channel.

    Mean and standard deviation of the training images would be a release about the patients that the privacy statement
    does not count, so words such as "auto" are refused.

    Args:
        keys: keys of the images.
        mean, std: numbers chosen without looking at the private images.

    Raises:
        ValueError: a word instead of a number; std not above 0.
    """

    def __init__(self, keys: KeysCollection = "image", mean: float = MEAN, std: float = STD) -> None:
        super().__init__(keys)
        for name, value in (("mean", mean), ("std", std)):
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(
                    f"normalisation: {name} is {value!r}, expected a fixed number such as {MEAN} (mean) and {STD} "
                    "(std). Constants that are computed from the private images say something about the patients that "
                    "the privacy statement does not cover; take numbers from a public data set"
                )
        if std <= 0:
            raise ValueError(f"normalisation: std is {std}, expected a number above 0, such as {STD}")
        self.mean, self.std = float(mean), float(std)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise every key."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = (sample[key] - self.mean) / self.std
        return sample
