"""Image translation: a user's own generator (for example of a GAN) makes simulated vessel maps look like their scanner.

Kreitner et al. (IEEE TMI 43(6), 2024) train such a generator together with the segmentation network. It needs some
hundred real images and a large GPU, so this bundle trains none; this transform is the place where one is plugged in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_tensor


class ImageTranslationd(MapTransform):
    """Replaces an image by a generator's output, cut to [0, 1].

    Args:
        keys: images (C, H, W) in [0, 1].
        translator: path of a TorchScript file, or a callable; it maps (1, C, H, W) to (1, C, H, W).
        allow_missing_keys: skip keys that a sample lacks.

    Raises:
        FileNotFoundError: if `translator` names no file.
        ValueError: if the generator changes the shape (its labels would no longer fit).
    """

    def __init__(
        self,
        keys: KeysCollection,
        translator: str | Path | Callable[[torch.Tensor], torch.Tensor],
        *,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if callable(translator):
            self.translator = translator
        elif Path(translator).is_file():
            self.translator = torch.jit.load(str(translator), map_location="cpu").eval()
        else:
            raise FileNotFoundError(f"translator '{translator}' is no file: give a TorchScript generator")

    @torch.no_grad()
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            image = convert_to_tensor(sample[key], dtype=torch.float32, track_meta=False)
            translated = self.translator(image[None])[0]
            if translated.shape != image.shape:
                raise ValueError(
                    f"the translator turned '{key}' of {tuple(image.shape)} into {tuple(translated.shape)}: "
                    "it must keep the shape, or image and label no longer agree"
                )
            sample[key] = convert_to_dst_type(translated.clamp(0.0, 1.0), sample[key])[0]
        return sample
