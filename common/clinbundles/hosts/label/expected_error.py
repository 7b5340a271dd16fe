"""Active learning's score: how wrong a bundle expects to be on an image."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from clinbundles.data.study_dataset import root_cause
from clinbundles.hosts.label.prediction_task import PredictionTask

logger = logging.getLogger(__name__)

_SUM_TOLERANCE = 1e-3  # by which probabilities of classes that exclude one another may miss a sum of 1


class ExpectedError(ScoringMethod):
    """Notes with each unlabelled image how wrong each bundle expects to be on it, under ``expected_error``.

    The value is the bundle's own ``expected_error`` if it gives one, else the mean predictive entropy of its
    ``probability`` in [0, 1]. Images that have a score of the present weights are not done again.
    Request: ``model`` (default: all), ``max_samples`` (0: all images).

    Args:
        tasks: model name to its inference.
    """

    NAME = "expected_error"

    def __init__(self, tasks: Mapping[str, PredictionTask]) -> None:
        super().__init__("The error that the model expects of itself; predictive entropy where it has none of its own")
        self.tasks = dict(tasks)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Model name to ``{"scored": {image: value}, "failed": {image: message}, "measure": ...}``.

        Raises:
            ValueError: no such model, or none that says how sure it is.
        """
        asked = request.get("model")
        if asked and asked not in self.tasks:
            raise ValueError(f"there is no model {asked!r} to score with; models: {', '.join(self.tasks)}")
        most = int(request.get("max_samples") or 0) or None
        answers = {name: self._score(name, most, datastore) for name in ([asked] if asked else self.tasks)}
        silent = [name for name, answer in answers.items() if "message" in answer]
        if silent and len(silent) == len(answers):
            raise ValueError("; ".join(answers[name]["message"] for name in silent))
        return answers

    def _score(self, name: str, most: int | None, datastore: Datastore) -> dict[str, Any]:
        task = self.tasks[name]
        weights = task.weights.digest()
        images = sorted(datastore.get_unlabeled_images())
        waiting = [image for image in images if score_of(datastore, image, name, weights) is None][:most]
        answer: dict[str, Any] = {"scored": {}, "failed": {}}
        for image in waiting:
            try:
                sample = task.sample(datastore.get_image_uri(image))
            except Exception as error:  # a broken image must not keep the others from being scored
                answer["failed"][image] = str(root_cause(error))
                logger.error("image '%s' cannot be scored: %s", image, answer["failed"][image])
                continue
            found = expected_error(sample)
            if found is None:
                answer["message"] = (
                    f"{name} gives neither an expected error nor probabilities, so its images cannot be scored: use "
                    "the strategy random"
                )
                return answer
            value, answer["measure"] = found
            answer["scored"][image] = value
            noted = datastore.get_image_info(image).get(self.NAME, {})
            entry = {"value": value, "measure": answer["measure"], "weights": weights, "ts": int(time.time())}
            datastore.update_image_info(image, {self.NAME: {**noted, name: entry}})
            logger.info("%s of %s on '%s': %.4f", answer["measure"], name, Path(image).name, value)
        return answer


def expected_error(sample: Mapping[str, Any]) -> tuple[float, str] | None:
    """Value and name of the measure of one postprocessed sample; None if it holds nothing to go by."""
    if "expected_error" in sample:
        return float(sample["expected_error"]), "expected error"
    if "probability" in sample:
        return predictive_entropy(torch.as_tensor(sample["probability"])), "predictive entropy"
    return None


def predictive_entropy(probability: torch.Tensor) -> float:
    r"""Mean entropy of probabilities (C, \*spatial), in [0, 1]: 0 is sure everywhere, 1 is pure guessing.

    Channels that sum to 1 are classes that exclude one another: entropy over classes, divided by log C. Others are
    independent yes-or-no questions: binary entropy of each, divided by log 2.
    """
    p = probability.detach().to(torch.float64).clamp(0, 1)
    classes = p.shape[0]
    if classes > 1 and bool((p.sum(dim=0) - 1).abs().max() <= _SUM_TOLERANCE):
        entropy = -torch.xlogy(p, p).sum(dim=0) / torch.log(torch.tensor(float(classes)))
    else:
        entropy = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / torch.log(torch.tensor(2.0))
    return float(entropy.mean())


def score_of(datastore: Datastore, image: str, model: str, weights: str | None = None) -> float | None:
    """The noted score of an image, None if there is none, or none of these weights."""
    entry = datastore.get_image_info(image).get(ExpectedError.NAME, {}).get(model)
    if not entry or (weights is not None and entry.get("weights") != weights):
        return None
    return float(entry["value"])
