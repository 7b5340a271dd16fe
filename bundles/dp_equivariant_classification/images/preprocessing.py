"""The deterministic preprocessing that training, evaluation and inference share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import Compose, MapTransform

from dp_equivariant_classification.images.fixed_normalisation import MEAN, STD, FixedNormalisationd
from dp_equivariant_classification.images.load_image_patch import LoadImagePatchd


class PadAliked(MapTransform):
    """Pad images (C, H, W) on all four sides alike with their border values, so that a turned image stays one.

    Args:
        keys: keys of the images.
        size: height and width afterwards.

    Raises:
        ValueError: an image that is larger, or that could only be padded more on one side than on the other.
    """

    def __init__(self, keys: KeysCollection, size: int) -> None:
        super().__init__(keys)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Pad every key."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            image = sample[key]
            missing = [self.size - int(side) for side in image.shape[1:]]
            if min(missing) < 0 or any(number % 2 for number in missing):
                raise ValueError(
                    f"pad_to is {self.size} but the image is {' x '.join(str(int(n)) for n in image.shape[1:])} pixels:"
                    " both sides must be smaller by an even number, so that it is padded on all sides alike"
                )
            down, across = (number // 2 for number in missing)
            sample[key] = torch.nn.functional.pad(image[None], (across, across, down, down), mode="replicate")[0]
        return sample


def preprocessing(
    image_key: str = "image",
    in_channels: int = 3,
    image_size: int | tuple[int, int] | None = 28,
    resize: bool = False,
    pad_to: int | None = None,
    mean: float = MEAN,
    std: float = STD,
) -> Compose:
    """Load, check, pad and normalise one image patch: float32 (C, H, W).

    Args:
        image_key: key of the image file.
        in_channels: channels that the network takes.
        image_size: side in pixels, or height and width; None takes any.
        resize: whether images of another size are resampled instead of refused.
        pad_to: side in pixels after padding, for networks that need a multiple of 8; None pads nothing.
        mean, std: fixed constants of the normalisation.
    """
    steps: list[Any] = [LoadImagePatchd(image_key, in_channels, image_size, resize)]
    if pad_to is not None:
        steps.append(PadAliked(image_key, pad_to))
    steps.append(FixedNormalisationd(image_key, mean, std))
    return Compose(steps)
