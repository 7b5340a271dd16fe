"""The deterministic preprocessing that training, evaluation and inference share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.transforms import Compose, CopyItemsd, NormalizeIntensityd

from retinal_octa_vessel_segmentation.enface.load_image_enface import EnFaceImaged, LoadImageEnFaced
from retinal_octa_vessel_segmentation.enface.resample_to_pixel_size import ResampleToPixelSized
from retinal_octa_vessel_segmentation.networks import TRAINING_PIXEL_MM


def intensity_normalisation(keys: str | Sequence[str] = "image") -> NormalizeIntensityd:
    """The last step before the network: zero mean and unit standard deviation per image (z-score)."""
    return NormalizeIntensityd(keys=keys, channel_wise=True)


def preprocessing(
    image_key: str = "image",
    fov_mm: float | Sequence[float] | None = None,
    eye: str | None = None,
    projection_axis: int | None = None,
    pixel_size_mm: float = TRAINING_PIXEL_MM,
    original_key: str | None = "enface",
) -> Compose:
    """Load, check, resample to the training pixel size and normalise one en-face angiogram.

    ``image`` becomes (1, h, w) float32 at ``pixel_size_mm``, z-scored; ``enface`` keeps the checked image (1, H, W) in
    [0, 1] on the input grid, to which predictions are brought back.

    Args:
        image_key: key of the image file.
        fov_mm: field of view in mm (height, width, or one number) for files that state no pixel size.
        eye: "OD" or "OS" for files that do not say.
        projection_axis: depth axis of NIfTI volumes; None refuses volumes.
        pixel_size_mm: pixel size in mm that the network was trained with.
        original_key: key of the copy on the input grid; None keeps none.
    """
    steps: list[Any] = [
        LoadImageEnFaced(image_key, fov_mm=fov_mm, eye=eye, projection_axis=projection_axis),
        EnFaceImaged(image_key, fov_mm=fov_mm),
    ]
    if original_key is not None:
        steps.append(CopyItemsd(keys=image_key, names=original_key))
    steps += [ResampleToPixelSized(image_key, pixel_size_mm), intensity_normalisation(image_key)]
    return Compose(steps)
