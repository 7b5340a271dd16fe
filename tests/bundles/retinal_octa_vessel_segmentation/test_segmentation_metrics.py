"""Segmentation metrics against scikit-learn, MONAI, pixel-by-pixel counting, and shapes drawn by hand."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler
from monai.metrics import DiceMetric, MeanIoU
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score

from retinal_octa_vessel_segmentation.evaluation.cal_score import cal_score
from retinal_octa_vessel_segmentation.evaluation.centreline_dice import centreline_dice
from retinal_octa_vessel_segmentation.evaluation.segmentation_metrics import (
    area_under_roc,
    overlap_metrics,
    radius_class_metrics,
    tolerance_dice,
)
from retinal_octa_vessel_segmentation.evaluation.vessel_metric import (
    MASK_METRICS,
    METRIC_NAMES,
    CaseTable,
    VesselMetric,
    segmentation_metrics,
)
from retinal_octa_vessel_segmentation.measurement.radius_classes import RADIUS_CLASSES, local_radius_map

EMPTY = np.zeros((32, 32), dtype=bool)


def two_masks(seed: int = 0, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    label = generator.random((size, size)) < 0.3
    return label ^ (generator.random((size, size)) < 0.1), label


def bar(width: int = 5, gap: int = 0) -> np.ndarray:
    mask = np.zeros((64, 64), dtype=bool)
    first = 32 - width // 2
    mask[first : first + width, 4:60] = True
    mask[:, 30 : 30 + gap] = False
    return mask


def test_overlap_metrics_equal_scikit_learn() -> None:
    prediction, label = two_masks()
    truth, guess = label.ravel(), prediction.ravel()
    expected = {
        "dice": f1_score(truth, guess),
        "iou": jaccard_score(truth, guess),
        "recall": recall_score(truth, guess),
        "precision": precision_score(truth, guess),
        "accuracy": accuracy_score(truth, guess),
    }
    assert overlap_metrics(prediction, label) == pytest.approx(expected)
    assert overlap_metrics(255 * prediction.astype(np.uint8), label.astype(int)) == pytest.approx(expected)


def test_area_under_roc_equals_counting_pairs() -> None:
    generator = np.random.default_rng(1)
    label = generator.random((12, 12)) < 0.4
    score = np.round(generator.random((12, 12)) + 0.3 * label, 1)  # with ties
    difference = score[label][:, None] - score[~label][None, :]
    pairs = (difference > 0).mean() + 0.5 * (difference == 0).mean()
    assert area_under_roc(score, label) == pytest.approx(pairs)
    assert area_under_roc(score > 0.6, label) < pairs, "a thresholded mask loses the ranking"
    assert math.isnan(area_under_roc(score, np.zeros_like(label)))


@pytest.mark.parametrize("name", list(MASK_METRICS))
def test_empty_cases_are_defined_and_identical_masks_are_perfect(name: str) -> None:
    metric, mask = MASK_METRICS[name], bar()[:32, :32] | bar()[32:, 32:]
    assert metric(EMPTY, EMPTY) == 1.0
    assert metric(mask, mask) == 1.0
    if name != "accuracy":
        assert metric(mask, EMPTY) == 0.0
        assert metric(EMPTY, mask) == 0.0


def test_cldice_falls_more_for_a_broken_vessel_than_for_a_thinned_one() -> None:
    label = bar(width=5)
    thinned, broken = bar(width=3), bar(width=5, gap=12)
    assert centreline_dice(label, label) == 1.0
    assert centreline_dice(thinned, label) > 0.97
    assert centreline_dice(broken, label) < 0.9
    assert overlap_metrics(thinned, label)["dice"] < overlap_metrics(broken, label)["dice"], "Dice says the opposite"


def test_cldice_of_a_half_missed_vessel_by_hand() -> None:
    label = np.zeros((32, 32), dtype=bool)
    label[16, :20] = True
    prediction = label.copy()
    prediction[16, 10:] = False
    assert centreline_dice(prediction, label) == pytest.approx(2 * 1.0 * 0.5 / 1.5)


def test_tolerance_dice_counts_pixels_near_the_label_as_right() -> None:
    prediction, label = two_masks(2, 16)
    right = wrong = 0
    for row in range(16):
        for column in range(16):
            window = label[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            right += prediction[row, column] and window.any()
            wrong += prediction[row, column] and not window.any()
            wrong += label[row, column] and not prediction[row, column]
    assert tolerance_dice(prediction, label) == pytest.approx(2 * right / (2 * right + wrong))
    line = np.zeros((20, 20), dtype=bool)
    line[10, :] = True
    assert tolerance_dice(line | np.roll(line, 1, 0) | np.roll(line, -1, 0), line) == 1.0


def test_cal_factors_by_hand() -> None:
    label = bar(width=3)
    two_parts = bar(width=3, gap=1)
    result = cal_score(two_parts, label)
    assert result["connectivity"] == pytest.approx(1 - 1 / label.sum())
    assert result["area"] == 1.0, "a gap of one pixel lies within the tolerance"
    moved = np.roll(label, 2, axis=0)
    assert cal_score(moved, label)["length"] == 1.0
    far = cal_score(np.roll(label, 8, axis=0), label)
    assert far["area"] == far["length"] == far["cal"] == 0.0
    assert result["cal"] == pytest.approx(result["connectivity"] * result["area"] * result["length"])


def test_radius_classes_tell_which_vessels_are_missed() -> None:
    label = np.zeros((100, 100), dtype=bool)
    label[20:21], label[50:53], label[80:85] = True, True, True
    only_thick = label.copy()
    only_thick[20] = False
    radius = [local_radius_map(mask, 0.01) for mask in (only_thick, label)]
    result = radius_class_metrics(only_thick, label, *radius)
    small, middle, large = (result[name] for name in RADIUS_CLASSES)
    assert small == {"recall": 0.0, "precision": 0.0, "dice": 0.0}
    assert middle == large == {"recall": 1.0, "precision": 1.0, "dice": 1.0}
    too_thick = label.copy()
    too_thick[19:22] = True
    result = radius_class_metrics(too_thick, label, local_radius_map(too_thick, 0.01), radius[1])
    assert result[RADIUS_CLASSES[0]]["recall"] == 1.0, "found, though drawn as a larger vessel"
    assert result[RADIUS_CLASSES[1]]["precision"] == pytest.approx(4 / 6, rel=0.02)


def test_errors_name_what_is_wrong() -> None:
    prediction, label = two_masks()
    with pytest.raises(ValueError, match=r"prediction has shape \(24, 48\) but label has \(48, 48\)"):
        overlap_metrics(prediction[:24], label)
    with pytest.raises(ValueError, match=r"label holds 3 values \(0, 1, 255\).*JPEG"):
        centreline_dice(prediction, np.where(label, 255, prediction).astype(np.uint8))
    with pytest.raises(ValueError, match="no metric 'dcie'; there are dice"):
        VesselMetric("dcie")
    with pytest.raises(ValueError, match=r"expected \(B, C, H, W\)"):
        VesselMetric("dice")(torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="channel 2 asked for"):
        VesselMetric("dice", channel=2)(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8))


def batch(seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = (torch.rand(3, 2, 40, 40, generator=generator) < 0.3).float()
    return (0.6 * label + 0.6 * torch.rand(label.shape, generator=generator)).clamp(0, 1), label


@pytest.mark.parametrize("channel", [0, 1])
def test_vessel_metric_agrees_with_monai(channel: int) -> None:
    probability, label = batch()
    mask = (probability >= 0.5).float()
    for name, reference in (("dice", DiceMetric(reduction="none")), ("iou", MeanIoU(reduction="none"))):
        metric = VesselMetric(name, channel=channel)
        values = metric(probability, label)
        assert values.shape == (3, 1)
        torch.testing.assert_close(values[:, 0], reference(mask, label)[:, channel])
        torch.testing.assert_close(metric.aggregate(), values.mean().reshape(metric.aggregate().shape))
    as_list = VesselMetric("dice", channel=channel)(list(probability), list(label))
    torch.testing.assert_close(as_list, VesselMetric("dice", channel=channel)(probability, label))


def test_every_name_gives_a_number_in_its_range() -> None:
    probability, label = batch()
    values = segmentation_metrics(probability[0, 0].numpy(), label[0, 0].numpy())
    assert set(values) == set(METRIC_NAMES)
    assert all(0 <= value <= 1 for value in values.values())


def test_case_table_has_a_row_for_each_case_and_metric(tmp_path: Path) -> None:
    probability, label = batch()
    label[2, 0] = 0  # no vessel: the AUC of this case is not defined

    def step(engine: Engine, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return probability[number : number + 1], label[number : number + 1]

    engine = Engine(step)
    engine.state.metric_details = {}
    for name in ("dice", "cldice", "auc"):
        IgniteMetricHandler(metric_fn=VesselMetric(name)).attach(engine, name)
    CaseTable(tmp_path / "new folder", batch_transform=lambda number: [f"case {number}"]).attach(engine)
    engine.run([0, 1, 2])
    with (tmp_path / "new folder" / "case_metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    table = {(row["case"], row["metric"]): row["value"] for row in rows}
    expected = overlap_metrics(probability[1, 0].numpy() >= 0.5, label[1, 0].numpy())["dice"]
    assert float(table["case 1", "dice"]) == pytest.approx(expected, abs=1e-6)
    assert table["case 2", "auc"] == ""
    assert math.isfinite(engine.state.metrics["auc"]), "the mean leaves the undefined case out"


def test_metric_by_radius_uses_the_pixel_size_of_the_label() -> None:
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:23, 4:60] = 1  # half width 1.5 pixels
    fine = MetaTensor(mask, affine=np.diag([0.004, 0.004, 1.0, 1.0]))  # 6 um
    coarse = MetaTensor(mask, affine=np.diag([0.010, 0.010, 1.0, 1.0]))  # 15 um
    for label, name in ((fine, "dice_below_10um"), (coarse, "dice_10_to_20um")):
        metric = VesselMetric(metric=name)
        missed = mask.clone()
        missed[:, :, 32:] = 0
        metric(y_pred=[mask, missed], y=[label, label])
        whole, half = metric.get_buffer()[:, 0].tolist()
        assert whole == 1
        assert half == pytest.approx(2 / 3, abs=0.03)


def test_metric_by_radius_refuses_labels_without_a_pixel_size() -> None:
    with pytest.raises(ValueError, match="needs the pixel size: labels must be MetaTensors"):
        VesselMetric(metric="dice_below_10um")(y_pred=[torch.zeros(1, 8, 8)], y=[torch.zeros(1, 8, 8)])
