"""Real chest X-rays, classified with differential privacy: data, trainings and scores.

The images are those of PneumoniaMNIST (28 x 28, grey; 0 normal, 1 pneumonia) without its test part. Training images
that are copies of others, or of validation images, are left out: a copy counts twice for whoever is in the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from private_claim_training import averaged_network
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import pad

from clinbundles.privacy.accounting.ledger import PrivacyLedger
from clinbundles.privacy.accounting.plan import PrivacyPlan, plan_budget
from dp_equivariant_classification.networks import SteerableClassifier

FILE = Path("classification") / "pneumoniamnist_trainval.npz"
MEAN, STD = 0.5, 0.25
"""Fixed: constants computed from the training images would be a release of their own."""


@dataclass(frozen=True)
class XRays:
    """Images (N, 1, 28, 28) float32, normalised; labels (N,) int64."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: np.ndarray) -> XRays:
        return XRays(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Recipe:
    """What is chosen for a private training, on images held out from the training part.

    Attributes:
        learning_rate: of SGD without momentum.
        expected_batch, steps, max_grad_norm, ema: as in train.yaml.
        views: of each image, the first as it is, the others moved by up to two pixels.
    """

    learning_rate: float
    expected_batch: float = 512
    steps: int = 100
    max_grad_norm: float = 1.0
    ema: float = 0.9
    views: int = 1


@dataclass(frozen=True)
class Score:
    """Area under the ROC curve, mean of sensitivity and specificity."""

    auc: float
    balanced_accuracy: float


def load_xrays(file: Path) -> tuple[XRays, XRays]:
    """Training part without copies, validation part."""
    with np.load(file) as arrays:
        images = np.concatenate([arrays["train_images"], arrays["extra_train_images"]])
        labels = np.concatenate([arrays["train_labels"], arrays["extra_train_labels"]]).ravel()
        other, other_labels = arrays["val_images"], arrays["val_labels"].ravel()
    seen = {picture.tobytes() for picture in other}
    kept = []
    for number, picture in enumerate(images):
        if picture.tobytes() not in seen:
            seen.add(picture.tobytes())
            kept.append(number)
    return _xrays(images[kept], labels[kept]), _xrays(other, other_labels)


def held_out(xrays: XRays, share: float = 0.2, seed: int = 0) -> tuple[XRays, XRays]:
    """The training part divided by chance: to fit with, to choose with."""
    order = np.random.default_rng(seed).permutation(len(xrays))
    count = round(share * len(xrays))
    return xrays.part(order[count:]), xrays.part(order[:count])


def train_privately(
    network: nn.Module, xrays: XRays, recipe: Recipe, epsilon: float | None, seed: int
) -> tuple[nn.Module, PrivacyPlan, PrivacyLedger]:
    """Averaged network of a training with a budget (None: without), its plan and its ledger; as train.yaml trains."""
    plan = plan_budget(
        len(xrays), "record", epsilon=epsilon, expected_batch=recipe.expected_batch, steps=recipe.steps,
        max_grad_norm=recipe.max_grad_norm, views=recipe.views,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    views = (lambda images: shifted_views(images, recipe.views, generator)) if recipe.views > 1 else None
    average, ledger = averaged_network(
        network, xrays.images, xrays.labels, plan, learning_rate=recipe.learning_rate, seed=seed, ema=recipe.ema,
        views=views, physical_batch=256,
    )  # fmt: skip
    return average, plan, ledger


def shifted_views(images: torch.Tensor, views: int, generator: torch.Generator, reach: int = 2) -> torch.Tensor:
    """The images and views of them moved by up to `reach` pixels (K, B, 1, S, S); borders are repeated."""
    size = images.shape[-1]
    bordered = pad(images, [reach] * 4, mode="replicate")
    copies = [images]
    for _ in range(views - 1):
        row, column = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
        copies.append(bordered[..., row : row + size, column : column + size])
    return torch.stack(copies)


@torch.no_grad()
def score(network: nn.Module, xrays: XRays) -> Score:
    """Of a network that gives two logits."""
    network.eval()
    probability = torch.cat([network(chunk).softmax(1)[:, 1] for chunk in xrays.images.split(256)])
    return _score(probability.numpy(), xrays.labels.numpy())


def logistic_regression(xrays: XRays, strength: float) -> Callable[[XRays], Score]:
    """Logistic regression on the pixels, without privacy."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    model.fit(xrays.images.flatten(1).numpy(), xrays.labels.numpy())
    return lambda others: _score(model.predict_proba(others.images.flatten(1).numpy())[:, 1], others.labels.numpy())


def linear_network(seed: int) -> nn.Module:
    """Logistic regression on the pixels as a network, for private training."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 2))


def steerable_network(seed: int, group: str = "D1", fields: tuple[int, ...] = (8, 16, 16), side: int = 7) -> nn.Module:
    """The bundle's steerable classifier, whose last layer sees where in the chest a feature is.

    Args:
        seed: of the weights.
        group: of the convolutions.
        fields: of the blocks.
        side: the image is summed up in side x side places; 1 is the bundle's own mean over the image.
    """
    torch.manual_seed(seed)
    return SteerableClassifier(in_channels=1, num_classes=2, group=group, fields=fields, side=side)


def _score(probability: np.ndarray, labels: np.ndarray) -> Score:
    return Score(float(roc_auc_score(labels, probability)), float(balanced_accuracy_score(labels, probability >= 0.5)))


def _xrays(images: np.ndarray, labels: np.ndarray) -> XRays:
    values = (torch.from_numpy(images.astype(np.float32)) / 255.0 - MEAN) / STD
    return XRays(values[:, None], torch.from_numpy(labels.astype(np.int64)))
