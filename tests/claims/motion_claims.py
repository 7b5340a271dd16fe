"""What the claims of the motion bundles share: arms trained as a user trains, scores of test hearts, baselines, tables.

An arm is a training of the bundle's ``train.yaml`` with overrides; all arms have the same hearts, epochs and seeds.
Scores come from ``evaluate.yaml`` on test hearts with breath-hold shifts of 0 and 2 mm. Everything that takes long is
kept in ``CLINBUNDLES_CLAIMS_OUTPUT`` (default output/claims) and not made again, so that a broken-off session goes on:
exams as the networks see them (one reading for all arms), trainings, tables of scores, baselines. Delete the folder to
start anew, also after a change of the code that reads exams.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from cine_motion_baselines import (
    PopulationMean,
    Tracker,
    demons,
    exact_mesh,
    ffd,
    static,
    train_voxelmorph,
    voxelmorph,
)
from claim_tables import OUTPUT, REPOSITORY, ClaimTables, Comparison, commit, run, write_json
from fit_one_heart import fitted
from monai.data import PersistentDataset
from monai.transforms import Compose

from clinbundles.cine import LoadImageCineExamd
from clinbundles.data import datalist
from clinbundles.motion.motion_errors import end_point_errors
from clinbundles.motion.motion_truth import MotionTruth, read_motion_truth
from clinbundles.rasterizer.mesh_volume import signed_volume

SHARED = OUTPUT / "cardiac_motion"
SEEDS = tuple(range(int(os.environ.get("CLINBUNDLES_CLAIMS_SEEDS", "3"))))
EPOCHS = int(os.environ.get("CLINBUNDLES_CLAIMS_EPOCHS", "10"))
BATCH = 2
TRAINING_HEARTS = int(os.environ.get("CLINBUNDLES_CLAIMS_TRAINING_HEARTS", "64"))
NETWORK = {"network_def#width_2d": 8, "network_def#width_3d": 16, "network_def#coarseness": 4}
"""Of every arm: half the time per step of the shipped sizes (16, 12, 2), and after as much time a smaller error."""
LEARNING_RATE = 3e-3  # of every arm; fewer steps than train.yaml takes
TEST_HEARTS = int(os.environ.get("CLINBUNDLES_CLAIMS_TEST_HEARTS", "32"))
REGISTERED_HEARTS = {
    "demons": 16,
    "ffd": 5,
    "fit": 16,
    "fit, short axis": 16,
    "fit, kept volume": 16,
    "fit, projected vertices": 8,
}  # they take from seconds to half a minute a heart
TUNING_HEARTS = {"ffd": 2, "fit, projected vertices": 3}  # of the validation split; of the others 6
TRAINING_SET = "heart_motion_simulated"
TESTS = {"aligned": "heart_motion_test_aligned", "shifted": "heart_motion_test_shifted"}
BUDGET = {
    "seeds": len(SEEDS),
    "epochs": EPOCHS,
    "batch_size": BATCH,
    "learning_rate": LEARNING_RATE,
    "training_hearts": TRAINING_HEARTS,
    "test_hearts": TEST_HEARTS,
}
EXAM_KEYS = (
    "image", "lax", "lax_pose", "planes", "planes_label", "planes_pose", "frame_to_world", "times_ms", "truth", "case",
    "es_frame",
)  # fmt: skip


# --- arms -------------------------------------------------------------------------------------------------------------


class KeptExams(PersistentDataset):
    """Exams that are read from their files once for all arms, bundles and baselines, and kept as tensors.

    A pass through ``LoadImageCineExamd`` leaves a loaded exam as it is, so that a bundle's own transforms follow.

    Args:
        data: cases.
        transform: flat; what comes before its first random step is kept in ``cache_dir``.
        cache_dir: None: only the loaded exams are kept.
    """

    def __init__(self, data: Sequence[Any], transform: Compose, cache_dir: str | None = None) -> None:
        super().__init__(data, transform, cache_dir)
        self.loaded = PersistentDataset(
            data, Compose([LoadImageCineExamd(labels=True, native=False)]), SHARED / "exams"
        )

    def _pre_transform(self, item_transformed: Any) -> Any:
        return super()._pre_transform(self.loaded._cachecheck(item_transformed))


def kept_on_disk(part: str, cases: str, folder: Path | None = None) -> dict[str, Any]:
    """Override of a config's data set."""
    return {
        f"{part}#dataset": {
            "_target_": "motion_claims.KeptExams",
            "data": cases,
            "transform": f"$@{part}#preprocessing.flatten()",
            "cache_dir": None if folder is None else str(folder),
        }
    }


@dataclass(frozen=True)
class Arms:
    """The arms of one bundle.

    Attributes:
        bundle: name of the bundle.
        overrides: arm -> ids of train.yaml. One with ``drop_view`` 1 is also evaluated without long-axis views.
        scoring: ids of evaluate.yaml, the same for all arms.
    """

    bundle: str
    overrides: Mapping[str, Mapping[str, Any]]
    scoring: Mapping[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        return OUTPUT / self.bundle

    def weights(self, arm: str, seed: int) -> Path:
        """The trained network of an arm; trained if it is not there yet."""
        folder = self.output / "arms" / f"{arm.replace(' ', '_')}_{seed}"
        done = folder / "done.json"
        if not done.is_file():
            start = time.process_time()
            budget = {
                "epochs": EPOCHS,
                "batch_size": BATCH,
                "learning_rate": LEARNING_RATE,
                "train_cases": TRAINING_HEARTS,
                "val_interval": EPOCHS,  # the last epoch's weights, of every arm
                "val_cases": 1,
            }
            kept = kept_on_disk("train", "@training_cases", self.output / "exams")
            kept |= kept_on_disk("validate", "@validation_cases")
            run(
                self.bundle,
                ["train"],
                budget | kept | NETWORK | dict(self.overrides[arm]) | {"seed": seed, "output_dir": str(folder)},
            )
            spent = {"commit": commit(), "cpu_seconds": round(time.process_time() - start), **BUDGET}
            done.write_text(json.dumps(spent), encoding="utf-8")
        return folder / "models" / "model.pt"

    def scores(self, arm: str, seed: int, test: str) -> pd.DataFrame:
        """Test hearts (rows) and metrics (columns) of one training of an arm."""
        weights = self.weights(arm, seed)
        return self.evaluated(weights, weights.parents[1] / test, test, NETWORK | dict(self.overrides[arm]))

    def shipped(self, test: str) -> pd.DataFrame:
        """The same of the weights that the bundle ships."""
        folder = self.output / "shipped"
        return self.evaluated(REPOSITORY / "bundles" / self.bundle / "models" / "model.pt", folder / test, test, {})

    def evaluated(self, weights: Path, folder: Path, test: str, overrides: Mapping[str, Any]) -> pd.DataFrame:
        """Run ``evaluate.yaml``, if its table is not there yet, and read it."""
        table = folder / "case_metrics.csv"
        if not table.is_file():
            network = {key: value for key, value in overrides.items() if key.startswith("network_def")}
            lost = {
                "_target_": "clinbundles.cine.training_pairs.RandDropViewsd",
                "keys": "lax",
                "prob": float(overrides.get("drop_view", 0.0) == 1.0),
            }
            chosen = {"_target_": "SelectItemsd", "keys": list(EXAM_KEYS[:-1]), "allow_missing_keys": True}
            values = {
                "manifest": TESTS[test],
                "val_cases": TEST_HEARTS,
                "ckpt": str(weights),
                "output_dir": str(folder),
                "validate#preprocessing": {"_target_": "Compose", "transforms": ["@exam_preprocessing", lost, chosen]},
            }
            kept = kept_on_disk("validate", "@validation_cases")
            run(self.bundle, ["train", "evaluate"], values | kept | network | dict(self.scoring))
        rows = pd.read_csv(table)
        return rows.pivot(index="case", columns="metric", values="value").sort_index()

    def mean(self, arm: str, test: str, metric: str) -> np.ndarray:
        """Mean over seeds for each test heart; "shipped" is the weights that the bundle ships."""
        if arm == "shipped":
            return self.shipped(test)[metric].to_numpy()
        return np.mean([self.scores(arm, seed, test)[metric].to_numpy() for seed in SEEDS], axis=0)

    def table(self, arms: Sequence[str], test: str, metrics: Sequence[str]) -> pd.DataFrame:
        """Mean over test hearts and seeds, and the standard deviation between seeds, as "0.90 +- 0.02"."""
        rows = {}
        for arm in arms:
            tables = [self.shipped(test)] if arm == "shipped" else [self.scores(arm, seed, test) for seed in SEEDS]
            seeds = pd.DataFrame([one[list(metrics)].mean() for one in tables])
            rows[arm] = {
                name: f"{seeds[name].mean():.3f}" + (f" +- {seeds[name].std(ddof=1):.3f}" if len(seeds) > 1 else "")
                for name in metrics
            }
        return pd.DataFrame.from_dict(rows, orient="index", columns=list(metrics)).rename_axis("arm")


# --- exams and baselines ----------------------------------------------------------------------------------------------


def exams(manifest: str, split: str, limit: int | None = None) -> KeptExams:
    """Loaded exams of a split; the arms see the same ones."""
    return KeptExams(datalist(manifest, None, split, limit=limit), Compose([]))


def truth_of(exam: Mapping[str, Any]) -> MotionTruth:
    """The exact motion of a simulated exam."""
    return read_motion_truth(exam["truth"], exam["frame_to_world"])


@functools.cache
def population_mean() -> PopulationMean:
    """Fitted to all training hearts, of which the arms see ``TRAINING_HEARTS``."""
    return PopulationMean([truth_of(exam) for exam in exams(TRAINING_SET, "training")])


@functools.cache
def training_images() -> list[dict[str, torch.Tensor]]:
    """Short-axis volumes of the hearts that arms see, as half floats."""
    return [{"image": exam["image"].half()} for exam in exams(TRAINING_SET, "training", TRAINING_HEARTS)]


def _demons(settings: Mapping[str, Any]) -> Tracker:
    return lambda exam, points: demons(exam, points, [int(exam["es_frame"])], **settings)


def _ffd(settings: Mapping[str, Any]) -> Tracker:
    return lambda exam, points: ffd(exam, points, [int(exam["es_frame"])], **settings)


def _voxelmorph(settings: Mapping[str, Any]) -> Tracker:
    images = training_images()
    steps = EPOCHS * (len(images) // BATCH)
    return voxelmorph(train_voxelmorph(images, steps, batch=BATCH, **settings))


def _fitted(settings: Mapping[str, Any]) -> Tracker:
    return fitted(**settings)


BASELINES = ("static", "population mean", "demons", "ffd", "voxelmorph")
METHODS: dict[str, Callable[[Mapping[str, Any]], Tracker]] = {
    "demons": _demons,
    "ffd": _ffd,
    "voxelmorph": _voxelmorph,
    "fit": _fitted,
    "fit, short axis": _fitted,
    "fit, projected vertices": _fitted,
    "fit, kept volume": _fitted,
}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "demons": [
        {"sigma": sigma, "iterations": count}
        for sigma, count in ((2.5, 60), (1.5, 60), (1.5, 150), (1.0, 150), (1.5, 300), (1.0, 300))
    ],
    "ffd": [{"spacing_mm": 10.0}, {"spacing_mm": 16.0}],
    "voxelmorph": [{"smoothness": 0.02}, {"smoothness": 0.2}],
    "fit": [{"weight": weight} for weight in (0.03, 0.1, 0.3, 1.0, 3.0)],
    "fit, short axis": [{"weight": weight, "long_axis": False} for weight in (0.03, 0.1, 0.3, 1.0, 3.0)],
    "fit, projected vertices": [{"weight": weight, "projection": True} for weight in (0.003, 0.02, 0.1)],
    "fit, kept volume": [
        {"weight": weight, "incompressibility": kept} for weight in (0.3, 1.0) for kept in (0.1, 0.3, 1.0, 3.0)
    ],
}
"""Among which the best on validation hearts is taken."""


def at_end_systole(name: str) -> bool:
    """Whether a baseline is measured at end-systole alone, because a frame takes long."""
    return name in ("demons", "ffd") or name.startswith("fit")


@functools.cache
def tuned(name: str) -> dict[str, Any]:
    """The setting with the smallest end-point error on validation hearts."""
    file = SHARED / "baselines" / f"{name}_tuning.json"
    if not file.is_file():
        errors = []
        for settings in SETTINGS[name]:
            track = METHODS[name](settings)
            rows = [_score(track, name, exam) for exam in exams(TRAINING_SET, "validation", TUNING_HEARTS.get(name, 6))]
            errors.append(float(np.mean([row["epe"] for row in rows])))
            print(name, settings, round(errors[-1], 3), flush=True)
        write_json(file, [{"settings": one, "epe": value} for one, value in zip(SETTINGS[name], errors, strict=True)])
    tried = json.loads(file.read_text(encoding="utf-8"))
    return dict(min(tried, key=lambda one: one["epe"])["settings"])


def _score(track: Tracker, name: str, exam: Mapping[str, Any]) -> dict[str, float]:
    truth = truth_of(exam)
    vertices, faces = exact_mesh(exam)
    moved = track(exam, torch.cat([truth.points, vertices]))
    frames = [int(exam["es_frame"])] if at_end_systole(name) else list(range(1, len(moved)))
    of_wall, of_mesh = moved[frames, : len(truth.points)], moved[frames, len(truth.points) :]
    volume = signed_volume(vertices + of_mesh, faces) / signed_volume(vertices, faces)
    errors = end_point_errors(of_wall, truth.displacements[frames], truth.axes)
    bias = float((of_wall - truth.displacements[frames])[..., 2].mean())
    drift = float((volume - 1).abs().max())
    return errors | {"z_bias": bias, "abs_z_bias": abs(bias), "exact_mesh_drift": drift}


def baseline(name: str, test: str) -> pd.DataFrame:
    """Scores of test hearts: of all frames, or at end-systole for the registrations that take long."""
    file = SHARED / "baselines" / f"{name.replace(' ', '_')}_{test}.json"
    if not file.is_file():
        rows = []
        hearts = exams(TESTS[test], "test", REGISTERED_HEARTS.get(name, TEST_HEARTS))
        if name == "population mean":
            for exam in hearts:
                truth = truth_of(exam)
                moved = population_mean().displacements(truth)[1:]
                rows.append(end_point_errors(moved, truth.displacements[1:], truth.axes))
        else:
            track = METHODS[name](tuned(name)) if name in METHODS else static
            rows = [_score(track, name, exam) for exam in hearts]
        write_json(file, rows)
    return pd.DataFrame(json.loads(file.read_text(encoding="utf-8")))


# --- comparisons and tables -------------------------------------------------------------------------------------------


TABLES = ClaimTables(BUDGET)
compare, publish = TABLES.compare, TABLES.publish


def against_baseline(arms: Arms, ours: str, other: str, test: str) -> Comparison:
    """An arm's end-point error against a baseline's, at end-systole where the baseline is measured there alone."""
    metric = "epe_es" if at_end_systole(other) else "epe"
    theirs = baseline(other, test)["epe"].to_numpy()
    return compare(arms.bundle, f"{metric}, {test}", (ours, arms.mean(ours, test, metric)), (other, theirs))


def lost_by_budget(ours: str, other: str, test: str) -> bool:
    """Whether this arm is known to lose against this baseline after its few steps (docs/README.md of both bundles)."""
    if ours == "shipped":
        return False
    return other == "population mean" or (other == "demons" and (ours, test) != ("exact motion", "shifted"))
