"""Long-axis views kept from the network, to measure what they are worth."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import MapTransform


class HideViewsd(MapTransform):
    """Set images and poses of some long-axis views to zero, as if the exam lacked them; labels stay.

    Args:
        keys: the long-axis images (T, P, H, W).
        views: names of the P views.
        hidden: names of those to hide.

    Raises:
        ValueError: a name that is not among ``views``.
    """

    def __init__(self, keys: str, views: Sequence[str], hidden: Sequence[str] = ()) -> None:
        super().__init__(keys)
        unknown = [name for name in hidden if name not in views]
        if unknown:
            raise ValueError(f"views to hide: {', '.join(unknown)}; there are {', '.join(views)}")
        self.shown = torch.tensor([float(name not in hidden) for name in views])

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Hide the views."""
        sample = dict(data)
        sample[self.keys[0]] = sample[self.keys[0]] * self.shown[None, :, None, None]
        sample["lax_pose"] = sample["lax_pose"] * self.shown[:, None, None]
        return sample
