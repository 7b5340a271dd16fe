"""Active learning's other choice: an image by chance."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy


class RandomChoice(Strategy):
    """Gives an unlabelled image by chance.

    MONAI Label's own fails when the only image left was given out in the same second.
    """

    NAME = "random"

    def __init__(self) -> None:
        super().__init__("An image by chance")

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """``{"id", "weight"}``; None when every image has a label."""
        images = sorted(datastore.get_unlabeled_images())
        return {"id": random.choice(images), "weight": 0.0} if images else None
