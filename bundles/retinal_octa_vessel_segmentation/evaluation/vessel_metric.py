"""Vessel segmentation metrics as one MONAI metric that a config names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction
from monai.utils import MetricReduction

from clinbundles.handlers.case_table import CaseTable
from retinal_octa_vessel_segmentation.enface.load_image_enface import pixel_size_mm
from retinal_octa_vessel_segmentation.evaluation.cal_score import cal_score
from retinal_octa_vessel_segmentation.evaluation.centreline_dice import centreline_dice
from retinal_octa_vessel_segmentation.evaluation.segmentation_metrics import (
    area_under_roc,
    overlap_metrics,
    radius_class_metrics,
    tolerance_dice,
)
from retinal_octa_vessel_segmentation.measurement.radius_classes import RADIUS_CLASSES, local_radius_map

MASK_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "dice": lambda prediction, label: overlap_metrics(prediction, label)["dice"],
    "iou": lambda prediction, label: overlap_metrics(prediction, label)["iou"],
    "recall": lambda prediction, label: overlap_metrics(prediction, label)["recall"],
    "precision": lambda prediction, label: overlap_metrics(prediction, label)["precision"],
    "accuracy": lambda prediction, label: overlap_metrics(prediction, label)["accuracy"],
    "cldice": centreline_dice,
    "tolerance_dice": tolerance_dice,
    "cal": lambda prediction, label: cal_score(prediction, label)["cal"],
    "connectivity": lambda prediction, label: cal_score(prediction, label)["connectivity"],
    "area_overlap": lambda prediction, label: cal_score(prediction, label)["area"],
    "length_overlap": lambda prediction, label: cal_score(prediction, label)["length"],
}
SCORE_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"auc": area_under_roc}
RADIUS_METRICS: dict[str, str] = dict(
    zip(("dice_below_10um", "dice_10_to_20um", "dice_above_20um"), RADIUS_CLASSES, strict=True)
)
"""Harmonic mean of recall and precision of each class of vessel radius: see ``radius_class_metrics``."""
__all__ = ["CaseTable", "VesselMetric", "segmentation_metrics"]  # evaluate.yaml names the table by this module

METRIC_NAMES = (*MASK_METRICS, *SCORE_METRICS)


def segmentation_metrics(
    probability: np.ndarray, label: np.ndarray, threshold: float = 0.5, names: tuple[str, ...] = METRIC_NAMES
) -> dict[str, float]:
    """Metrics of one image by name.

    Args:
        probability: (H, W) in [0, 1]; a mask of 0 and 1 will do, except for ``auc``.
        label: (H, W), boolean, {0, 1} or {0, 255}.
        threshold: probability from which a pixel is vessel.

    Raises:
        ValueError: unknown name; see ``checked_pair``.
    """
    probability = np.asarray(probability)
    prediction = probability >= threshold
    values = {}
    for name in names:
        _known(name)
        if name in SCORE_METRICS:
            values[name] = SCORE_METRICS[name](probability, label)
        else:
            values[name] = MASK_METRICS[name](prediction, label)
    return values


class VesselMetric(CumulativeIterationMetric):
    """One metric of vessel segmentation, for ``monai.handlers.IgniteMetricHandler(metric_fn=...)``.

    Takes probabilities (B, C, H, W) and labels of the same shape with values 0 and 1 (or lists of (C, H, W)); gives
    (B, 1). Metrics that MONAI has (``monai.metrics.DiceMetric``, ``MeanIoU``) agree with the ones of the same name
    here except that an empty label is scored (both empty 1, one empty 0).

    Args:
        metric: one of dice, iou, recall, precision, accuracy, cldice, tolerance_dice, cal, connectivity, area_overlap,
            length_overlap, auc; or, by radius, dice_below_10um, dice_10_to_20um, dice_above_20um, whose labels must be
            MetaTensors that know their pixel size.
        threshold: probability from which a pixel is vessel; not used by ``auc``.
        channel: which channel: 0 all vessels, 1 larger vessels.
        reduction: how ``aggregate`` reduces over cases; NaN (auc of a label of one class) is left out.
    """

    def __init__(
        self,
        metric: str = "dice",
        threshold: float = 0.5,
        channel: int = 0,
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        super().__init__()
        if metric not in RADIUS_METRICS:
            _known(metric)
        self.metric = metric
        self.threshold = threshold
        self.channel = channel
        self.reduction = reduction

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: object) -> torch.Tensor:
        if y is None or y_pred.ndim != 4 or y_pred.shape != y.shape:
            shape = None if y is None else tuple(y.shape)
            raise ValueError(f"y_pred has shape {tuple(y_pred.shape)} and y {shape}, expected (B, C, H, W) for both")
        if self.channel >= y.shape[1]:
            raise ValueError(f"channel {self.channel} asked for, but the images have {y.shape[1]}")
        spacing = self._pixel_size(y) if self.metric in RADIUS_METRICS else None
        pairs = zip(_numpy(y_pred[:, self.channel]), _numpy(y[:, self.channel]), strict=True)
        values = [self._value(probability, label, spacing) for probability, label in pairs]
        return torch.tensor(values, dtype=torch.float32, device=y_pred.device)[:, None]

    def _value(self, probability: np.ndarray, label: np.ndarray, spacing: tuple[float, float] | None) -> float:
        if spacing is None:
            return segmentation_metrics(probability, label, self.threshold, (self.metric,))[self.metric]
        prediction, truth = probability >= self.threshold, label > 0
        radii = (local_radius_map(mask, spacing) for mask in (prediction, truth))
        return radius_class_metrics(prediction, truth, *radii)[RADIUS_METRICS[self.metric]]["dice"]

    def _pixel_size(self, label: torch.Tensor) -> tuple[float, float]:
        if not isinstance(label, MetaTensor):
            raise ValueError(f"metric '{self.metric}' needs the pixel size: labels must be MetaTensors with an affine")
        return pixel_size_mm(label)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """Reduce the values of all cases seen since ``reset``."""
        values = self.get_buffer()
        if not isinstance(values, torch.Tensor):
            raise ValueError(f"metric '{self.metric}' has seen no case")
        reduced, _ = do_metric_reduction(values, reduction or self.reduction)
        return reduced


def _known(name: str) -> None:
    if name not in METRIC_NAMES:
        raise ValueError(f"no metric '{name}'; there are {', '.join((*METRIC_NAMES, *RADIUS_METRICS))}")


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu())
