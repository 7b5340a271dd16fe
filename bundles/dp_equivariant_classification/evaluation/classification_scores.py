"""Scores of class probabilities over a whole set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from dp_equivariant_classification.evaluation.calibration import expected_calibration_error

SCORES = ("accuracy", "balanced_accuracy", "auroc", "ece")


def recalls(confusion: NDArray) -> NDArray[np.float64]:
    """(C,) share of each class that is found; NaN for a class that does not occur. ``confusion`` (true, predicted)."""
    totals = confusion.sum(axis=1)
    return np.where(totals > 0, np.diag(confusion) / np.maximum(totals, 1), np.nan)


def confusion_matrix(probabilities: NDArray, labels: NDArray) -> NDArray[np.int64]:
    """(C, C) counts: true class by predicted class, which is the most probable one."""
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def aurocs(probabilities: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """(C,) area under the ROC curve of each class against all others; NaN for a class that all or no image has."""
    values = []
    for number in range(probabilities.shape[1]):
        positive = labels == number
        known = 0 < positive.sum() < len(labels)
        values.append(float(roc_auc_score(positive, probabilities[:, number])) if known else float("nan"))
    return np.asarray(values)


def classification_scores(probabilities: NDArray, labels: NDArray) -> dict[str, float]:
    """Accuracy, balanced accuracy (mean recall), macro one-against-rest AUROC, expected calibration error.

    Args:
        probabilities: (N, C), each row sums to 1.
        labels: (N,) class numbers from 0 to C - 1. Classes that do not occur are left out of the means.

    Raises:
        ValueError: no image, or arrays that do not fit each other.
    """
    if probabilities.ndim != 2 or labels.shape != (len(probabilities),) or len(labels) == 0:
        raise ValueError(
            f"probabilities have the shape {probabilities.shape} and labels {labels.shape}: expected (N, classes) and "
            "(N,) with at least one image"
        )
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, but there are probabilities of "
            f"{probabilities.shape[1]} classes (0 to {probabilities.shape[1] - 1}): set num_classes, or correct them"
        )
    confusion = confusion_matrix(probabilities, labels)
    auroc = aurocs(probabilities, labels)
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "balanced_accuracy": float(np.nanmean(recalls(confusion))),
        "auroc": float(np.nanmean(auroc)) if np.isfinite(auroc).any() else float("nan"),
        "ece": expected_calibration_error(probabilities, labels),
    }


def per_class_rows(probabilities: NDArray, labels: NDArray, names: Sequence[str]) -> list[dict[str, object]]:
    """One row per class: images, recall, precision, AUROC."""
    confusion = confusion_matrix(probabilities, labels)
    predicted = confusion.sum(axis=0)
    columns = zip(names, confusion.sum(axis=1), recalls(confusion), aurocs(probabilities, labels), strict=True)
    return [
        {
            "class": name,
            "images": int(images),
            "recall": _rounded(recall),
            "precision": _rounded(confusion[number, number] / predicted[number] if predicted[number] else np.nan),
            "auroc": _rounded(auroc),
        }
        for number, (name, images, recall, auroc) in enumerate(columns)
    ]


def _rounded(value: float) -> float | str:
    return round(float(value), 4) if np.isfinite(value) else ""
