"""Pixel-wise agreement of a vessel segmentation with its label."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation
from sklearn.metrics import roc_auc_score

from retinal_octa_vessel_segmentation.measurement.binary_mask import binary_mask, same_shape
from retinal_octa_vessel_segmentation.measurement.radius_classes import RADIUS_CLASSES, radius_class_index


def checked_pair(prediction: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks as boolean (H, W).

    Raises:
        ValueError: when one is not a binary mask or their shapes differ.
    """
    prediction, label = binary_mask(prediction, "prediction"), binary_mask(label, "label")
    same_shape(prediction, label, "prediction", "label")
    return prediction, label


def ratio(numerator: float, denominator: float, both_empty: bool) -> float:
    """Quotient of the two; where it is 0 / 0, 1 if prediction and label are both empty and 0 if only one is."""
    return float(numerator / denominator) if denominator > 0 else float(both_empty)


def overlap_metrics(prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Dice, IoU, recall, precision and accuracy of a mask, each 0 to 1.

    Empty cases: both empty 1; one empty 0 (accuracy is always defined).

    Args:
        prediction, label: (H, W), boolean, {0, 1} or {0, 255}.

    Raises:
        ValueError: see ``checked_pair``.
    """
    prediction, label = checked_pair(prediction, label)
    true_positive = int(np.count_nonzero(prediction & label))
    predicted, real = int(prediction.sum()), int(label.sum())
    empty = predicted == 0 and real == 0
    union = predicted + real - true_positive
    return {
        "dice": ratio(2 * true_positive, predicted + real, empty),
        "iou": ratio(true_positive, union, empty),
        "recall": ratio(true_positive, real, empty),
        "precision": ratio(true_positive, predicted, empty),
        "accuracy": float(1 - (union - true_positive) / label.size),
    }


def area_under_roc(probability: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve of *probabilities* (a thresholded mask would give balanced accuracy instead).

    Args:
        probability: (H, W), any monotone score.
        label: (H, W), boolean, {0, 1} or {0, 255}.

    Returns:
        0 to 1; NaN where the label holds one class only, which MONAI's reductions leave out of the mean.

    Raises:
        ValueError: shapes differ, or the score has NaN.
    """
    label = binary_mask(label, "label")
    probability = np.asarray(probability)
    same_shape(probability, label, "probability", "label")
    if not np.isfinite(probability).all():
        raise ValueError("probability contains NaN or infinite values")
    if label.all() or not label.any():
        return float("nan")
    return float(roc_auc_score(label.ravel(), probability.ravel()))


def tolerance_dice(prediction: np.ndarray, label: np.ndarray) -> float:
    """Dice that forgives predicted pixels beside the label, as in published numbers on centreline labels (ROSE).

    Those labels are centrelines one pixel wide, so a right vessel of three pixels would count two as wrong. A
    predicted pixel is right when it lies within the label dilated by 3 x 3; a label pixel is missed when it is not
    predicted: 2 TP / (2 TP + FP + FN) with TP = |P & dilated G|, FP = |P - dilated G|, FN = |G - P|. TP may exceed
    |G|: the value is never below the plain Dice and must not be compared with it. Both empty 1, one empty 0.

    Raises:
        ValueError: see ``checked_pair``.
    """
    prediction, label = checked_pair(prediction, label)
    near = binary_dilation(label, np.ones((3, 3), dtype=bool))
    right = np.count_nonzero(prediction & near)
    wrong = np.count_nonzero(prediction & ~near) + np.count_nonzero(label & ~prediction)
    return ratio(2 * right, 2 * right + wrong, not prediction.any() and not label.any())


def radius_class_metrics(
    prediction: np.ndarray, label: np.ndarray, prediction_radius_mm: np.ndarray, label_radius_mm: np.ndarray
) -> dict[str, dict[str, float]]:
    """Recall, precision and their harmonic mean (``dice``) for each class of vessel radius.

    A false positive has no true radius and a missed pixel has no predicted one. So recall of a class is the fraction
    of the *label's* pixels of that radius that are predicted as any vessel; precision is the fraction of the
    *predicted* pixels of that radius (measured in the prediction) that are any vessel of the label. A capillary
    drawn too thick is not punished for changing class. Empty cases as in ``overlap_metrics``, by class.

    Args:
        prediction, label: (H, W) masks.
        prediction_radius_mm, label_radius_mm: (H, W), radius in mm of the vessel at each pixel, from
            ``local_radius_map`` or, for simulated labels, from the graph.

    Returns:
        {"radius < 10 um": {"recall": ..., "precision": ..., "dice": ...}, ...}

    Raises:
        ValueError: see ``checked_pair``; radius maps of another shape.
    """
    prediction, label = checked_pair(prediction, label)
    same_shape(np.asarray(prediction_radius_mm), label, "prediction_radius_mm", "label")
    same_shape(np.asarray(label_radius_mm), label, "label_radius_mm", "label")
    predicted_class = np.where(prediction, radius_class_index(prediction_radius_mm), -1)
    label_class = np.where(label, radius_class_index(label_radius_mm), -1)
    result = {}
    for number, name in enumerate(RADIUS_CLASSES):
        real, predicted = label_class == number, predicted_class == number
        empty = not real.any() and not predicted.any()
        recall = ratio(np.count_nonzero(real & prediction), np.count_nonzero(real), empty)
        precision = ratio(np.count_nonzero(predicted & label), np.count_nonzero(predicted), empty)
        dice = ratio(2 * recall * precision, recall + precision, False)
        result[name] = {"recall": recall, "precision": precision, "dice": dice}
    return result
