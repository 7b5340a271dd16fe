"""Simulated cells, classified with differential privacy: networks, trainings and scores of the claims.

Each training is kept in ``OUTPUT/dp_equivariant_classification/arms``; a broken-off run goes on with the missing ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from claim_tables import OUTPUT, write_json
from private_claim_training import averaged_network
from sklearn.linear_model import LogisticRegression
from torch import nn

from clinbundles.data import datalist
from clinbundles.privacy.accounting.plan import plan_budget
from dp_equivariant_classification.evaluation.classification_scores import classification_scores
from dp_equivariant_classification.images.preprocessing import preprocessing
from dp_equivariant_classification.networks import PlainClassifier, SteerableClassifier
from dp_equivariant_classification.training.random_views import RandomSymmetryViews

BUNDLE = "dp_equivariant_classification"
ROTATED, ALIGNED = "leukocytes_simulated", "leukocytes_aligned"
RATES = (0.5, 1.0, 2.0, 4.0)
"""Learning rates that each network chooses from, on the validation cells."""
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "D4": SteerableClassifier,
    "CNN, equal width": PlainClassifier,
    "CNN, equal parameters": lambda: PlainClassifier(widths=(8, 16, 20)),
}


@dataclass(frozen=True)
class Cells:
    """Images (N, 3, 28, 28) as the networks see them, labels (N,)."""

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Arm:
    """A training.

    Attributes:
        network: a key of `NETWORKS`.
        epsilon: budget; None: neither noise nor clipping.
        seed: of the start, the batches and the noise.
        learning_rate: of SGD without momentum; None: the one that validation chose.
        cells: manifest of the cells.
        views: random turns of each image.
        steps, training_cells, expected_batch: size of the training.
    """

    network: str
    epsilon: float | None
    seed: int = 0
    learning_rate: float | None = None
    cells: str = ROTATED
    views: int = 1
    steps: int = 400
    training_cells: int | None = None
    expected_batch: float = 64

    @property
    def name(self) -> str:
        parts = [
            self.network,
            f"epsilon {self.epsilon}",
            f"rate {self.learning_rate}",
            self.cells,
            f"{self.views} views",
        ]
        sizes = [f"{self.steps} steps", f"{self.training_cells} cells", f"batch {self.expected_batch:g}"]
        return "_".join([*parts, *sizes, f"seed {self.seed}"]).replace(" ", "-").replace(",", "")


@cache
def cells(manifest: str, split: str, limit: int | None = None) -> Cells:
    """Cells of a split, generated on first use."""
    load = preprocessing()
    records = datalist(manifest, OUTPUT / "data", split, limit=limit, progress=False)
    images = torch.stack([load({"image": record["image"]})["image"].as_tensor() for record in records])
    return Cells(images, torch.tensor([record["label"] for record in records]))


def train(arm: Arm) -> nn.Module:
    """The averaged network of an arm, trained as train.yaml trains."""
    training = cells(arm.cells, "training", arm.training_cells)
    count = len(training.labels)
    plan = plan_budget(
        count,
        epsilon=arm.epsilon,
        delta=1e-4,
        expected_batch=arm.expected_batch,
        steps=arm.steps,
        max_grad_norm=1.0 if arm.epsilon is not None else float("inf"),
        views=arm.views,
    )
    torch.manual_seed(arm.seed)
    network = NETWORKS[arm.network]()
    views = RandomSymmetryViews(arm.views) if arm.views > 1 else None
    rate = float(arm.learning_rate or 0)
    average, _ = averaged_network(
        network, training.images, training.labels, plan, learning_rate=rate, seed=arm.seed, views=views
    )
    return average


@torch.no_grad()
def probabilities(network: nn.Module, images: torch.Tensor) -> np.ndarray:
    """(N, 4) of images (N, 3, 28, 28)."""
    network.eval()
    return torch.cat([network(part).softmax(1) for part in images.split(250)]).double().numpy()


def scores(arm: Arm, split: str = "test") -> dict[str, Any]:
    """Scores of an arm on a split, trained if it has not been; also on the split turned by 90 degrees."""
    if arm.learning_rate is None:
        arm = replace(arm, learning_rate=chosen_rate(arm.network, arm.epsilon is not None))
    kept = OUTPUT / BUNDLE / "arms" / f"{arm.name}_{split}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    started = time.process_time()
    network = train(arm)
    seconds = time.process_time() - started
    known = cells(arm.cells, split)
    upright = probabilities(network, known.images)
    turned = probabilities(network, known.images.rot90(1, (-2, -1)))
    found = {
        **classification_scores(upright, known.labels.numpy()),
        "accuracy_turned": classification_scores(turned, known.labels.numpy())["accuracy"],
        "changed_by_turning": int((upright.argmax(1) != turned.argmax(1)).sum()),
        "learning_rate": arm.learning_rate,
        "cpu_seconds": seconds,
    }
    write_json(kept, found)
    print(f"{arm.name} {split}: {found}", flush=True)
    return found


@cache
def chosen_rate(network: str, private: bool) -> float:
    """The learning rate with the best validation accuracy of one training (seed 100), at epsilon 8 or without noise."""
    arms = [Arm(network, 8.0 if private else None, seed=100, learning_rate=rate) for rate in RATES]
    return RATES[int(np.argmax([scores(arm, "validation")["accuracy"] for arm in arms]))]


def over_seeds(arm: Arm, score: str = "accuracy", seeds: Sequence[int] = (0, 1, 2)) -> np.ndarray:
    """A score of each seed on the test cells."""
    return np.array([scores(replace(arm, seed=seed))[score] for seed in seeds])


def linear_accuracy(features: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Test accuracy of logistic regression, without privacy, on features of the images."""
    training, test = cells(ROTATED, "training"), cells(ROTATED, "test")
    model = LogisticRegression(max_iter=5000).fit(features(training.images).numpy(), training.labels.numpy())
    return float(model.score(features(test.images).numpy(), test.labels.numpy()))


def pixels(images: torch.Tensor) -> torch.Tensor:
    """(N, 588) pixels of the images at half their size."""
    return nn.functional.avg_pool2d(images, 2).flatten(1)


def gradient_histograms(images: torch.Tensor) -> torch.Tensor:
    """(N, F) histograms of oriented gradients (Dalal, Triggs 2005) of the grey images."""
    from skimage.feature import hog

    grey = images.mean(dim=1).numpy()
    return torch.tensor(
        np.stack([hog(one, orientations=8, pixels_per_cell=(7, 7), cells_per_block=(2, 2)) for one in grey])
    )
