"""The deterministic preprocessing that training, evaluation and inference share."""

from __future__ import annotations

from collections.abc import Sequence

from monai.transforms import Compose

from clinbundles.cine import LAX_VIEWS, LoadImageCineExamd
from clinbundles.motion.motion_grid import GRID_SIZE, GRID_SPACING_MM


def preprocessing(
    image_key: str = "image",
    views: Sequence[str] = LAX_VIEWS,
    allow_missing_views: bool | Sequence[str] = True,
    labels: bool = False,
    native: bool = False,
    planes: bool = True,
    size: Sequence[int] = GRID_SIZE,
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
) -> Compose:
    """Read an exam, find its views, bring it into the exam frame and scale its intensities.

    Args:
        image_key: key of the exam's folder or files.
        views: long-axis views in the order of the network.
        allow_missing_views: True, False, or the names of views that an exam may lack.
        labels: whether label maps are read where there are any.
        native: whether the acquired slices are kept, for results on their grid.
        planes: whether the crops of all slices are kept, for labels and figures.
        size: voxels of the motion grid.
        spacing_mm: of the motion grid.
    """
    return Compose(
        [
            LoadImageCineExamd(
                keys=image_key,
                views=views,
                allow_missing_views=allow_missing_views,
                labels=labels,
                native=native,
                planes=planes,
                size=size,
                spacing_mm=spacing_mm,
            )
        ]
    )
