"""Claims of multi-view motion: what long-axis views, labels and their warped term are worth, and what must be beaten.

Arms are trainings of ``train.yaml`` with overrides, the same hearts and epochs for each; scores come from
``evaluate.yaml`` on the test hearts with breath-hold shifts of 0 and 2 mm. Every training and every table is kept in
``CLINBUNDLES_CLAIMS_OUTPUT`` (default output/claims) and not made again: a broken-off session goes on.
``CLINBUNDLES_CLAIMS_EPOCHS`` sets the epochs: 6 are about 6 CPU-minutes of training.
"""

from __future__ import annotations

import csv
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cine_motion_baselines import PopulationMean, demons, ffd, static, train_voxelmorph, voxelmorph
from scipy.stats import wilcoxon

from clinbundles.cine import LoadImageCineExamd
from clinbundles.data import datalist
from clinbundles.motion.motion_errors import end_point_errors
from clinbundles.motion.motion_truth import MotionTruth, read_motion_truth

pytestmark = pytest.mark.claims

REPOSITORY = Path(__file__).resolve().parents[3]
NAME = "cardiac_mri_multiview_motion"
BUNDLE = REPOSITORY / "bundles" / NAME
OUTPUT = Path(os.environ.get("CLINBUNDLES_CLAIMS_OUTPUT", REPOSITORY / "output" / "claims")) / NAME
EPOCHS = int(os.environ.get("CLINBUNDLES_CLAIMS_EPOCHS", "6"))
SEEDS = (0, 1, 2)
TESTS = {"aligned": "heart_motion_test_aligned", "shifted": "heart_motion_test_shifted"}
REGISTERED = 8  # test hearts on which the slow registrations are measured, at end-systole
# labels of the scanned planes and pictures teach, exact motion only scores
ARMS: dict[str, dict[str, Any]] = {
    "multi-view": {},
    # neither pictures nor labels of the long-axis views: lost to the network, and silent in the loss
    "short axis": {"drop_view": 1.0, "lax_image": 0.0, "train#preprocessing#transforms#3#supervise": False},
    "no shape": {"shape": 0.0},
    "no warped shape": {"loss#warped_shape": False},
    "stacked": {"network_def#fusion": "stacked"},
}


def run(configs: list[str], values: dict[str, Any]) -> None:
    """Run configs of the bundle as a user does."""
    files = [str(BUNDLE / "configs" / f"{name}.yaml") for name in configs]
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(BUNDLE)]
    command += ["--config_file", files[0] if len(files) == 1 else str(files)]
    for name, value in values.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


@functools.cache
def arm_scores(arm: str, seed: int, test: str) -> dict[str, np.ndarray]:
    """Metric -> values of the test hearts in their order, of a training that is made if it is not there yet."""
    folder = OUTPUT / f"{EPOCHS}_epochs" / f"{arm.replace(' ', '_')}_{seed}"
    weights = folder / "models" / "model.pt"
    network = {key: value for key, value in ARMS[arm].items() if key.startswith("network_def")}
    if not (folder / "done").is_file():
        run(
            ["train"],
            {"truth": 0.0, **ARMS[arm], "epochs": EPOCHS, "val_interval": EPOCHS, "seed": seed, "output_dir": folder},
        )
        (folder / "done").touch()
    table = folder / test / "case_metrics.csv"
    if not table.is_file():
        hidden = {"without_views": "['lax_2ch','lax_3ch','lax_4ch']"} if arm == "short axis" else {}
        run(
            ["train", "evaluate"],
            {**network, **hidden, "manifest": TESTS[test], "ckpt": weights, "output_dir": folder / test},
        )
    scores: dict[str, list[float]] = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            scores.setdefault(row["metric"], []).append(float(row["value"] or "nan"))
    return {name: np.array(values) for name, values in scores.items()}


def mean_scores(arm: str, test: str, metric: str) -> np.ndarray:
    """Mean over seeds for each test heart."""
    return np.mean([arm_scores(arm, seed, test)[metric] for seed in SEEDS], axis=0)


def read_exam(case: dict[str, Any]) -> tuple[dict[str, Any], MotionTruth]:
    exam = LoadImageCineExamd(labels=False, native=False, planes=False)(case)
    return exam, read_motion_truth(case["truth"], exam["frame_to_world"])


@functools.cache
def population_mean() -> PopulationMean:
    return PopulationMean([read_exam(case)[1] for case in datalist("heart_motion_simulated", None, "training")])


def baseline_scores(name: str, test: str) -> np.ndarray:
    """End-point errors (mm) of a baseline: of all frames, or at end-systole for the registrations."""
    file = OUTPUT / "baselines" / f"{name}_{test}.json"
    if not file.is_file():
        track = {"static": static, "demons": demons, "voxelmorph": None, "ffd": None}.get(name)
        if name == "voxelmorph":
            training = [read_exam(case)[0] for case in datalist("heart_motion_simulated", None, "training")]
            track = voxelmorph(train_voxelmorph(training, steps=EPOCHS * len(training) // 4))
        errors = []
        slow = name in ("demons", "ffd")
        for case in datalist(TESTS[test], None, "test", limit=REGISTERED if slow else None):
            exam, truth = read_exam(case)
            systole = int(case["es_frame"])
            if name == "population mean":
                moved = population_mean().displacements(truth)
            elif name == "ffd":
                moved = ffd(exam, truth.points, [systole])
            else:
                assert track is not None
                moved = track(exam, truth.points)
            frames = [systole] if slow else list(range(1, len(moved)))
            errors.append(end_point_errors(moved[frames], truth.displacements[frames], truth.axes)["epe"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(errors), encoding="utf-8")
    return np.array(json.loads(file.read_text(encoding="utf-8")))


def report(title: str, rows: dict[str, np.ndarray]) -> None:
    """Print means with a bootstrap interval of 95 %, and keep them."""
    draw = np.random.default_rng(0)
    lines = [title]
    for name, values in rows.items():
        means = [float(np.mean(draw.choice(values, len(values)))) for _ in range(1000)]
        low, high = np.quantile(means, [0.025, 0.975])
        lines.append(f"  {name:32s} {np.mean(values):7.3f}  [{low:.3f}, {high:.3f}]")
    text = "\n".join(lines)
    print("\n" + text)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with (OUTPUT / "tables.txt").open("a", encoding="utf-8") as file:
        file.write(text + "\n\n")


@pytest.mark.parametrize("test", TESTS)
def test_long_axis_views_lower_the_longitudinal_error_by_a_fifth(test):
    ours, theirs = (mean_scores(arm, test, "epe_longitudinal") for arm in ("multi-view", "short axis"))
    report(f"longitudinal end-point error, mm, {test}", {"multi-view": ours, "short axis": theirs})
    assert ours.mean() <= 0.8 * theirs.mean()
    assert wilcoxon(ours, theirs, alternative="less").pvalue < 0.05
    sax = [mean_scores(arm, test, "dice_sax").mean() for arm in ("multi-view", "short axis")]
    assert sax[0] >= sax[1] - 0.01


@pytest.mark.parametrize("arm", ["no shape", "no warped shape"])
def test_labels_and_their_warped_term_raise_overlap_on_the_long_axis(arm):
    ours, theirs = (mean_scores(one, "aligned", "dice_lax") for one in ("multi-view", arm))
    report("Dice of the myocardium, long axis, aligned", {"multi-view": ours, arm: theirs})
    assert ours.mean() > theirs.mean()


def test_fusion_by_geometry_beats_stacking():
    ours, theirs = (mean_scores(arm, "aligned", "epe") for arm in ("multi-view", "stacked"))
    report("end-point error, mm, aligned", {"geometry": ours, "stacked": theirs})
    assert ours.mean() < theirs.mean()


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("baseline", ["static", "population mean", "voxelmorph", "demons", "ffd"])
def test_multi_view_motion_beats(baseline, test):
    theirs = baseline_scores(baseline, test)
    slow = baseline in ("demons", "ffd")
    ours = mean_scores("multi-view", test, "epe_es" if slow else "epe")[: len(theirs)]
    report(f"end-point error, mm, {test}{', end-systole' if slow else ''}", {"multi-view": ours, baseline: theirs})
    assert ours.mean() < theirs.mean()
