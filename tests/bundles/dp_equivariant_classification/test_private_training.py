"""train.yaml keeps its promise: what it writes, what it goes on with, and every mistake that it refuses."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from small_private_training import SMALL, reason

from clinbundles.privacy.accounting.statement import PrivacyStatementError, read_statement
from dp_equivariant_classification.training.random_views import RandomSymmetryViews
from dp_equivariant_classification.training.repeated_images import most_repeated


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def refused(parser, part="train#trainer", names=("train",), **values):
    with pytest.raises(Exception) as caught:
        parser(list(names), **values).get_parsed_content(part)
    return reason(caught.value)


def test_training_reports_epsilon_and_keeps_its_loss_at_home(trained):
    (row,) = history(trained.folder)
    assert 0 < float(row["epsilon"]) < 8
    assert "train_loss" not in row
    with (trained.folder / "private" / "training_loss.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 1
    statement = read_statement(trained.weights.parent)
    assert (statement.unit, statement.units, statement.steps, statement.planned_steps) == ("record", 40, 4, 8)
    assert statement.epsilon == pytest.approx(float(row["epsilon"]))
    assert statement.copies == 1
    assert "NOT FOR RELEASE" in statement.text()  # seeded noise


def test_a_resumed_training_spends_on_and_ends_with_the_plan(trained, run, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "on")
    run(["train"], "train", output_dir=str(tmp_path / "on"), resume=True)
    statement = read_statement(tmp_path / "on" / "models")
    assert statement.steps == 8
    assert 7.5 < statement.epsilon <= 8
    with pytest.raises(RuntimeError) as caught:
        run(["train"], "train", output_dir=str(tmp_path / "on"), resume=True, epochs=5)
    assert "privacy budget is spent" in str(caught.value.__cause__) or "budget" in reason(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epsilon": 4.0}, "trained by another privacy plan (epsilon 8.0 there, 4.0 here"),
        ({"train_cases": 30}, "another privacy plan (units 40 there, 30 here"),
        ({"training_split": "test", "expected_batch": 0.5}, "another privacy plan"),
        ({"secure_rng": True}, "trained with seeded noise"),
    ],
)
def test_resuming_with_another_promise_is_refused(trained, run, tmp_path, values, message):
    shutil.copytree(trained.folder, tmp_path / "on")
    with pytest.raises(RuntimeError) as caught:
        run(["train"], "train", output_dir=str(tmp_path / "on"), resume=True, **values)
    assert message in reason(caught.value)


def test_resuming_from_weights_alone_is_refused_since_nobody_knows_what_they_have_spent(trained, run, tmp_path):
    (tmp_path / "models").mkdir()
    shutil.copy(trained.weights, tmp_path / "models" / "last.pt")
    with pytest.raises(RuntimeError) as caught:
        run(["train"], "train", output_dir=str(tmp_path), resume=True)
    assert "holds no privacy ledger" in reason(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"delta": 0.025}, "delta is 0.025, expected above 0 and below 1/40"),
        ({"epsilon": 0.0}, "epsilon is 0.0, expected a positive number"),
        ({"epsilon": -1.0}, "epsilon is -1.0, expected a positive number"),
        ({"expected_batch": 41}, "expected_batch is 41, expected above 0 and at most the number of units, 40"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0, expected a positive number"),
        ({"views": 0}, "views is 0, expected a whole number of 1 or more"),
        ({"unit": "ward"}, "unit is 'ward', expected record or patient"),
    ],
)
def test_a_plan_that_promises_nothing_is_refused_before_training(parser, values, message):
    assert message in refused(parser, "plan", **values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train#trainer#amp": True}, "amp in half precision scales the loss before gradients are clipped"),
        ({"train#trainer#accumulation_steps": 2}, "takes no accumulation_steps: a logical batch is cut into chunks"),
        (
            {"train#trainer#key_train_metric": {"accuracy": None}},
            "takes no key_train_metric: metrics on private data are a release without noise",
        ),
        (
            {"train#dataloader": {"_target_": "DataLoader", "dataset": "@train#dataset", "shuffle": True}},
            "drawn by RandomSampler, but the privacy accounting holds for Poisson sampling only",
        ),
        (
            {
                "train#weighted": "$torch.utils.data.WeightedRandomSampler([1.0] * 40, 40)",
                "train#dataloader": {
                    "_target_": "DataLoader",
                    "dataset": "@train#dataset",
                    "sampler": "@train#weighted",
                },
            },
            "drawn by WeightedRandomSampler, but the privacy accounting holds for Poisson sampling only",
        ),
        (
            {
                "train#dataloader": {
                    "_target_": "DataLoader",
                    "dataset": "@train#dataset",
                    "batch_size": 10,
                    "drop_last": True,
                }
            },
            "drop_last leaves out records by their place",
        ),
        ({"mean": "auto"}, "mean is 'auto', expected a fixed number"),
        ({"class_weights": "balanced"}, "class_weights is 'balanced', expected None or one number per class"),
        ({"image_size": 32}, "is 28 x 28 pixels, expected 32 x 32"),
        ({"in_channels": 1}, "is coloured (3 channels), the network takes 1"),
    ],
)
def test_a_recipe_that_breaks_the_promise_is_refused(parser, values, message):
    read = parser(["train"], **values)

    def begin():
        read.get_parsed_content("train#trainer")
        return read.get_parsed_content("train#dataset")[0]

    with pytest.raises(Exception) as caught:
        begin()
    assert message in reason(caught.value)


def test_layers_that_couple_the_images_of_a_batch_are_refused_by_name(run, tmp_path):
    layers = "torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2, affine=False), torch.nn.AdaptiveAvgPool2d(1)"
    network = f"$torch.nn.Sequential({layers}, torch.nn.Flatten(), torch.nn.Linear(2, 4))"
    with pytest.raises(RuntimeError) as caught:
        run(["train"], "train", output_dir=str(tmp_path), **{"network_def": network, "network_def#fields": None})
    assert "BatchNorm2d" in reason(caught.value)


def test_secure_noise_without_a_source_is_refused(parser, monkeypatch):
    def nothing(count):
        raise OSError("no source")

    monkeypatch.setattr("os.urandom", nothing)
    message = refused(parser, "noise_randomness", secure_rng=True)
    assert "no source" in message
    with pytest.raises(RuntimeError) as caught:
        parser(["train"], secure_rng=True).get_parsed_content("noise_randomness")
    assert "secure_rng: true needs a secure source of noise" in str(caught.value.__cause__)


# --- patients ---------------------------------------------------------------------------------------------------------
MANIFEST = """name: own
title: Own
description: Own.
modality: any
licence: none
citation: none
access: {url: "file:labels.csv", registration: false, steps: none}
layout: {table: labels.csv}
splits:
  by_field: {field: split, values: {training: [training], validation: [validation]}}
"""


def own_images(folder, rows, copies=False):
    generator = np.random.default_rng(0)
    lines = ["image,label,split" + (",patient_id" if len(rows[0]) > 2 else "")]
    for number, (label, *rest) in enumerate(rows):
        pixels = generator.integers(0, 256, (28, 28, 3)) * (0 if copies else 1)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(",".join([f"{number}.png", str(label), *rest]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "own.yaml").write_text(MANIFEST)
    return {"manifest": str(folder / "own.yaml"), "dataset_dir": str(folder), "expected_batch": 1, "delta": 0.001}


def test_patients_are_protected_only_where_they_are_known(parser, tmp_path):
    values = own_images(tmp_path, [(0, "training"), (1, "training"), (1, "validation")])
    message = refused(parser, "plan", unit="patient", **values)
    assert "unit is patient but 2 of 2 records have no patient_id" in message


def test_the_unit_of_a_patient_is_all_of_their_images(parser, tmp_path):
    rows = [(0, "training", "A"), (1, "training", "A"), (1, "training", "B"), (0, "validation", "C")]
    read = parser(["train"], unit="patient", **own_images(tmp_path, rows))
    plan = read.get_parsed_content("plan")
    assert (plan.units, plan.unit) == (2, "patient")
    assert read.get_parsed_content("units") == ["A", "A", "B"]


def test_a_patient_in_two_splits_and_a_copy_in_two_splits_are_refused(parser, tmp_path):
    rows = [(0, "training", "A"), (1, "validation", "A")]
    message = refused(parser, "training_cases", **own_images(tmp_path, rows))
    assert "A" in message
    assert "split" in message
    rows = [(0, "training", "A"), (1, "validation", "B")]
    message = refused(parser, "training_cases", **own_images(tmp_path, rows, copies=True))
    assert "1 images of own are in more than one split" in message


def test_copies_among_the_training_images_are_counted_by_unit(tmp_path):
    for name, content in {"a": b"1", "b": b"1", "c": b"1", "d": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    cases = [{"image": tmp_path / name} for name in "abcd"]
    assert most_repeated(cases, [0, 1, 2, 3]) == 3
    assert most_repeated(cases, [0, 0, 1, 2]) == 2
    assert most_repeated(cases[3:], [0]) == 1


# --- views, evaluation, statement -------------------------------------------------------------------------------------
def test_views_are_the_image_and_exact_turns_of_it():
    torch.manual_seed(0)
    images = torch.rand(20, 3, 6, 6)
    views = RandomSymmetryViews(4)(images)
    assert views.shape == (4, 20, 3, 6, 6)
    assert torch.equal(views[0], images)
    turns = [one.rot90(k, (-2, -1)) for one in (images, images.flip(-1)) for k in range(4)]
    seen = set()
    for view in views[1:]:
        for number, image in enumerate(view):
            equal = [k for k, turned in enumerate(turns) if torch.equal(turned[number], image)]
            assert len(equal) == 1
            seen.add(equal[0])
    assert seen == set(range(8))
    with pytest.raises(ValueError, match="views is 0, expected at least 1"):
        RandomSymmetryViews(0)


def test_each_score_stands_beside_epsilon_and_delta_of_the_weights(trained, run, tmp_path, caplog):
    caplog.set_level("INFO", "clinbundles")
    names = ["train", "evaluate"]
    run(names, "train", output_dir=str(tmp_path), ckpt=str(trained.weights), expected_batch=1, turned_images=2)
    content = json.loads((tmp_path / "scores.json").read_text())
    assert set(content["scores"]) == {"accuracy", "balanced_accuracy", "auroc", "ece"}
    assert content["privacy"]["epsilon"] == pytest.approx(read_statement(trained.weights.parent).epsilon)
    assert content["largest_logit_change_under_quarter_turns"] < 1e-5
    for score in ("accuracy", "balanced accuracy", "auroc", "ece"):
        assert any(line.startswith(f"{score} ") and "epsilon" in line and "delta 0.0001 per record" in line
                   for line in caplog.messages), score  # fmt: skip
    for picture in ("reliability.png", "confusion_matrix.png", "equivariance.png"):
        assert (tmp_path / picture).stat().st_size > 5000
    with (tmp_path / "per_class.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["round", "kidney", "bilobed", "segmented"]


@pytest.mark.parametrize("names", [["train", "evaluate"], ["inference"]])
def test_a_statement_that_was_improved_by_hand_is_refused(trained, parser, tmp_path, names):
    shutil.copytree(trained.weights.parent, tmp_path / "models")
    file = tmp_path / "models" / "privacy_statement.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "epsilon": 0.5}))
    weights = {("ckpt" if names[0] == "train" else "ckpt_path"): str(tmp_path / "models" / "model.pt")}
    with pytest.raises(Exception) as caught:
        parser(names, **weights).get_parsed_content("privacy")
    error = caught.value
    while error.__cause__ is not None and not isinstance(error, PrivacyStatementError):
        error = error.__cause__
    assert isinstance(error, PrivacyStatementError)
    assert "says epsilon = 0.5, but its own steps, sample rate and noise give" in str(error)


def test_small_values_are_those_of_the_configs():
    assert SMALL["expected_batch"] / 40 * SMALL["steps"] == 2  # two epochs, which the tests above count on
