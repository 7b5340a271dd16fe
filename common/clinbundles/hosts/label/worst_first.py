"""Active learning's choice: the image on which the model expects to be most wrong."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from clinbundles.hosts.label.expected_error import score_of
from clinbundles.hosts.label.trained_weights import TrainedWeights


class WorstFirst(Strategy):
    """Gives the unlabelled image with the highest noted score; without any score one by chance, and says so.

    Scores of earlier weights count until there are new ones. Request: ``model`` (default: the first that has scores).

    Args:
        weights: weights of each model that can be scored.
    """

    NAME = "worst_first"

    def __init__(self, weights: Mapping[str, TrainedWeights]) -> None:
        super().__init__("The image on which the model expects to be most wrong")
        self.weights = dict(weights)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """``{"id", "weight", "message", "scores_missing"}``; None when every image has a label.

        Raises:
            ValueError: no such model.
        """
        images = sorted(datastore.get_unlabeled_images())
        if not images:
            return None
        asked = request.get("model")
        if asked and asked not in self.weights:
            raise ValueError(f"there is no model {asked!r} with scores; models: {', '.join(self.weights)}")
        scores: dict[str, float] = {}
        model = ""
        for model in [asked] if asked else self.weights:
            found = {image: score_of(datastore, image, model) for image in images}
            scores = {image: score for image, score in found.items() if score is not None}
            if scores:
                break
        digest = self.weights[model].digest()
        missing = sum(score_of(datastore, image, model, digest) is None for image in images)
        if not scores:
            message = "no image is scored yet: chosen by chance"
            return {"id": random.choice(images), "weight": 0.0, "message": message, "scores_missing": True}
        worst = max(scores, key=lambda image: scores[image])
        message = f"highest expected error of {model} among {len(scores)} scored images"
        message += f"; {missing} have no score of the present weights" if missing else ""
        return {"id": worst, "weight": scores[worst], "message": message, "scores_missing": missing > 0}
