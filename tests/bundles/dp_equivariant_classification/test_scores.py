"""Scores against their definitions, the figures' files, and what mistakes are told."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_auc_score

from dp_equivariant_classification.evaluation.calibration import expected_calibration_error, reliability_bins
from dp_equivariant_classification.evaluation.classification_metric import ClassificationMetric, CorrectClassd
from dp_equivariant_classification.evaluation.classification_scores import (
    SCORES,
    classification_scores,
    per_class_rows,
)
from dp_equivariant_classification.evaluation.classification_scores import confusion_matrix as ours
from dp_equivariant_classification.evaluation.privacy_utility import curves_of, main, read_runs


def predictions(images=200, classes=4, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    logits = generator.normal(size=(images, classes)) + 1.5 * np.eye(classes)[labels]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


def test_scores_are_those_of_scikit_learn():
    probabilities, labels = predictions()
    found = classification_scores(probabilities, labels)
    best = probabilities.argmax(axis=1)
    np.testing.assert_array_equal(ours(probabilities, labels), confusion_matrix(labels, best))
    assert found["accuracy"] == pytest.approx((best == labels).mean())
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, best))
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"))


def test_calibration_error_is_the_weighted_gap_of_bins_written_out():
    probabilities, labels = predictions()
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected, abs=1e-12)


def test_certain_and_right_predictions_are_perfectly_calibrated_and_certain_wrong_ones_the_opposite():
    certain = np.eye(3)
    assert expected_calibration_error(certain, np.arange(3)) == 0
    assert expected_calibration_error(certain, (np.arange(3) + 1) % 3) == 1
    assert reliability_bins(certain, np.arange(3)).count[-1] == 3


def test_a_class_that_no_image_has_is_left_out_of_the_means():
    probabilities, labels = predictions()
    without = labels != 3
    found = classification_scores(probabilities[without], labels[without])
    assert all(math.isfinite(value) for value in found.values())
    (*_, last) = per_class_rows(probabilities[without], labels[without], list("abcd"))
    assert (last["images"], last["recall"], last["auroc"]) == (0, "", "")


def test_labels_beyond_the_classes_are_refused():
    with pytest.raises(ValueError, match=r"labels run from 0 to 7, but there are .* of 4 classes \(0 to 3\)"):
        classification_scores(np.full((2, 4), 0.25), np.array([0, 7]))
    with pytest.raises(ValueError, match="at least one image"):
        classification_scores(np.zeros((0, 4)), np.zeros(0, int))


@pytest.mark.parametrize("name", SCORES)
def test_the_metric_over_batches_is_the_score_of_the_whole_set(name):
    probabilities, labels = predictions(30)
    metric = ClassificationMetric(name)
    for part in np.array_split(np.arange(30), 4):
        metric(y_pred=[torch.tensor(probabilities[i]) for i in part], y=[torch.tensor(labels[i]) for i in part])
    assert float(metric.aggregate()) == pytest.approx(classification_scores(probabilities, labels)[name], abs=1e-6)


def test_an_unknown_metric_and_an_empty_set_are_refused():
    with pytest.raises(ValueError, match="no metric 'f1'; there are accuracy, balanced_accuracy, auroc, ece"):
        ClassificationMetric("f1")
    with pytest.raises(ValueError, match="has seen no image"):
        ClassificationMetric("ece").aggregate()


def test_each_sample_says_whether_it_is_right():
    add = CorrectClassd()
    assert add({"pred": torch.tensor([0.2, 0.8]), "label": torch.tensor(1)})["correct"].item() == 1
    assert add({"pred": torch.tensor([0.2, 0.8]), "label": torch.tensor(0)})["correct"].item() == 0


def evaluation(folder, epsilon, accuracy, unit="record"):
    folder.mkdir()
    privacy = None if epsilon is None else {"epsilon": epsilon, "delta": 1e-4, "unit": unit}
    scores = {"accuracy": accuracy, "balanced_accuracy": accuracy, "auroc": 0.8, "ece": 0.1}
    (folder / "scores.json").write_text(json.dumps({"network": "D4", "scores": scores, "privacy": privacy}))
    return folder


def test_the_curve_puts_seeds_of_one_epsilon_together_and_non_private_runs_at_its_end(tmp_path, capsys):
    runs = [
        evaluation(tmp_path / str(number), epsilon, accuracy)
        for number, (epsilon, accuracy) in enumerate([(7.99, 0.6), (8.0, 0.62), (1.99, 0.5), (None, 0.8)])
    ]
    curve = curves_of(read_runs(runs), "accuracy")["D4"]
    assert curve == {8.0: [0.6, 0.62], 2.0: [0.5], math.inf: [0.8]}
    assert main([*map(str, runs), "--output", str(tmp_path / "curve.png")]) == 0
    assert (tmp_path / "curve.png").stat().st_size > 5000
    with (tmp_path / "curve.csv").open(newline="") as file:
        assert [row["epsilon"] for row in csv.DictReader(file)] == ["7.99", "8.0", "1.99", "inf"]
    assert "curve.png" in capsys.readouterr().out


def test_runs_that_protect_other_units_do_not_share_a_curve(tmp_path, capsys):
    runs = [evaluation(tmp_path / "a", 8.0, 0.6), evaluation(tmp_path / "b", 8.0, 0.5, unit="patient")]
    assert main([*map(str, runs), "--output", str(tmp_path / "curve.png")]) == 2
    assert "protect different units (patient, record)" in capsys.readouterr().err
    assert main([str(tmp_path), "--output", str(tmp_path / "curve.png")]) == 2
    assert "holds no scores.json: give output folders of evaluate.yaml" in capsys.readouterr().err
