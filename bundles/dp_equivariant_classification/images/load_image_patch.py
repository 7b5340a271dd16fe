"""Loading of image patches as tensors in [0, 1] of the size and channels that the network was trained with."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImaged

from dp_equivariant_classification.images.patch_file import PatchFile, read_patch_file


def scaled_patch(file: PatchFile, where: str) -> np.ndarray:
    """(C, H, W) float32 in [0, 1]: divided by the greatest value of the stored type, never by that of the image.

    Args:
        file: what was read.
        where: what to call the image in messages.

    Raises:
        ValueError: floating point values outside [0, 1], or values that are not finite.
    """
    values = np.ascontiguousarray(file.raster.transpose(2, 0, 1)).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{where}: holds values that are not finite (NaN or infinity)")
    if file.full_scale is not None:
        return values / np.float32(file.full_scale)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"{where}: holds floating point values from {low:.4g} to {high:.4g}, expected 0 to 1: the scale of the "
            "intensities must not be guessed from the image; store it as 8 or 16 bit, or scale it to [0, 1]"
        )
    return values


def with_channels(patch: np.ndarray, channels: int, where: str) -> np.ndarray:
    """The patch (C, H, W) with as many channels as the network takes; three equal ones count as one.

    Raises:
        ValueError: colour for a network of one channel, or grey for one of three.
    """
    if len(patch) == channels:
        return patch
    if channels == 1 and all(np.array_equal(patch[0], other) for other in patch[1:]):
        return patch[:1]
    found = "grey" if len(patch) == 1 else "coloured"
    raise ValueError(
        f"{where}: is {found} ({len(patch)} channels), the network takes {channels}: it was trained on other images; "
        "give images of that kind, or train on yours with --in_channels"
    )


def of_size(patch: torch.Tensor, size: tuple[int, int], resize: bool, where: str) -> torch.Tensor:
    """The patch (C, H, W) in the size that the network was trained with.

    Args:
        patch: the image.
        size: height and width in pixels.
        resize: whether another size is resampled (bilinear, antialiased) instead of refused.
        where: what to call the image in messages.

    Raises:
        ValueError: another size without ``resize``; another aspect ratio.
    """
    height, width = int(patch.shape[1]), int(patch.shape[2])
    if (height, width) == size:
        return patch
    if height * size[1] != width * size[0]:
        raise ValueError(
            f"{where}: is {height} x {width} pixels, expected {size[0]} x {size[1]}: crop it to that shape (a network "
            "with rotations takes square images); resizing would distort it"
        )
    if not resize:
        raise ValueError(
            f"{where}: is {height} x {width} pixels, expected {size[0]} x {size[1]}, the size in training. If it shows "
            "the same field of view at another resolution, set resize to True; otherwise crop it"
        )
    resized = torch.nn.functional.interpolate(patch[None], size, mode="bilinear", antialias=True)[0]
    return resized.clamp(0.0, 1.0)


class LoadImagePatchd(LoadImaged):
    """Load an image patch as float32 (C, H, W) in [0, 1]; hosts leave it in by its name.

    Also called: image reader, 2D image import. PNG, BMP, TIFF, JPEG, NIfTI of one slice, DICOM of one frame.

    Args:
        keys: keys of the paths.
        in_channels: 1 or 3, as the network takes.
        image_size: side of a square in pixels, or height and width; None takes any size.
        resize: whether images of another size are resampled.

    Raises:
        ValueError: whatever of the image does not fit the network; says what to do.
    """

    def __init__(
        self,
        keys: KeysCollection,
        in_channels: int = 3,
        image_size: int | tuple[int, int] | None = 28,
        resize: bool = False,
    ) -> None:
        super().__init__(keys, image_only=True, ensure_channel_first=True)
        self.in_channels = in_channels
        self.size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.resize = resize

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Load every key."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            path = sample[key]
            first = path if isinstance(path, str | os.PathLike) else path[0]
            where = Path(first).name
            patch = with_channels(scaled_patch(read_patch_file(path), where), self.in_channels, where)
            image = torch.from_numpy(patch)
            if self.size is not None:
                image = of_size(image, (int(self.size[0]), int(self.size[1])), self.resize, where)
            sample[key] = MetaTensor(image, meta={"filename_or_obj": str(first), "original_channel_dim": 0})
        return sample
