"""Trainings that the claims of the cine reconstruction compare: the bundle's train.yaml with overrides, and MoDL.

Every training is kept, with the processor time that it took. One that is broken off begins anew.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cine_strips import BUNDLE, COILS, FOLDER, MANIFEST, ROWS, TRAINED_RATES, plain, without_reference
from claim_tables import REPOSITORY, commit, run, write_json
from framewise_encoding import Case
from framewise_unrolled_network import FramewiseUnrolled, train_unrolled
from monai.bundle import ConfigParser
from monai.data import PersistentDataset
from monai.utils import set_determinism

from cardiac_mri_mcmr_reconstruction.networks import GroupwiseMotionNet
from clinbundles.data.atomic_file import atomic_path

SEEDS = tuple(range(int(os.environ.get("CLINBUNDLES_CLAIMS_SEEDS", "3"))))
FEWER_SEEDS = SEEDS[: int(os.environ.get("CLINBUNDLES_CLAIMS_SIDE_SEEDS", "1"))]
"""Of side arms: without reference, from SENSE, and photometric for longer."""
TRAINING_CINES = int(os.environ.get("CLINBUNDLES_CLAIMS_TRAINING_CINES", "32"))
EPOCHS = {
    "photometric": int(os.environ.get("CLINBUNDLES_CLAIMS_PHOTOMETRIC_EPOCHS", "10")),
    "recon_driven": int(os.environ.get("CLINBUNDLES_CLAIMS_RECON_EPOCHS", "2")),
    "kspace": int(os.environ.get("CLINBUNDLES_CLAIMS_KSPACE_EPOCHS", "4")),
}
FINE_TUNING_RATE = 3e-4  # a third of train.yaml's


@dataclass(frozen=True)
class Training:
    """A training of the motion network.

    Attributes:
        mode: of the loss.
        start: training whose weights it begins with.
        overrides: further ids of train.yaml.
        seeds: of weights, order and lines.
        as_long_as: fine-tuned for as much time as this training took, instead of the mode's epochs.
    """

    mode: str
    start: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = SEEDS
    as_long_as: str | None = None


ONE_SOLVE = "recon-driven, one solve"
UNROLLED = {"outer_iterations": 2}  # two solves with motion between them, through both of which gradients pass
TRAININGS = {
    "photometric": Training("photometric"),
    "recon-driven": Training("recon_driven", "photometric", UNROLLED),
    ONE_SOLVE: Training("recon_driven", "photometric"),
    "photometric, longer": Training("photometric", "photometric", seeds=FEWER_SEEDS, as_long_as="recon-driven"),
    "photometric from SENSE": Training("photometric", None, {"init": "sense"}, FEWER_SEEDS),
    "recon-driven from SENSE": Training(
        "recon_driven", "photometric from SENSE", {"init": "sense", **UNROLLED}, FEWER_SEEDS
    ),
    "no reference": Training("kspace", seeds=FEWER_SEEDS),
}
FRAMEWISE = "frame-wise network"


def folder_of(name: str, seed: int) -> Path:
    return FOLDER / "trainings" / f"{name.replace(', ', ' ').replace(' ', '_')}_{seed}"


def record(name: str, seed: int) -> dict[str, Any]:
    """What a finished training says of itself: seconds, epochs, cines, commit."""
    return dict(json.loads((folder_of(name, seed) / "done.json").read_text(encoding="utf-8")))


@torch.enable_grad()  # scores, which may ask for it, are without
def train(name: str, seed: int) -> Path:
    """The weights of a training; trained if they are not there yet."""
    training, folder = TRAININGS[name], folder_of(name, seed)
    if not (folder / "done.json").is_file():
        start = None if training.start is None else train(training.start, seed)
        epochs = EPOCHS[training.mode]
        if training.as_long_as is not None:
            train(training.as_long_as, seed)
            of_epoch = record("photometric", seed)["cpu_seconds"] / EPOCHS["photometric"]
            epochs = max(1, round(record(training.as_long_as, seed)["cpu_seconds"] / of_epoch))
        values = values_of(training) | {
            "seed": seed,
            "epochs": epochs,
            "val_interval": epochs,  # the last epoch's weights
            "output_dir": str(folder.with_name(f"{folder.name}.{os.getpid()}")),
        }
        if start is not None:
            values |= {"ckpt": str(start), "learning_rate": FINE_TUNING_RATE}
        read_once(training)
        begun = time.process_time()
        run(BUNDLE, ["train"], values)
        spent = round(time.process_time() - begun)
        done = {"commit": commit(), "cpu_seconds": spent, "epochs": epochs, "cines": TRAINING_CINES}
        write_json(Path(values["output_dir"]) / "done.json", done)
        Path(values["output_dir"]).replace(folder)
    return folder / "models" / "model.pt"


def values_of(training: Training) -> dict[str, Any]:
    """Ids of train.yaml."""
    referenced = training.mode != "kspace"
    values: dict[str, Any] = {
        "mode": training.mode,
        "train_cases": TRAINING_CINES,
        "val_cases": 1,
        "coils": COILS,
        "rows": ROWS,
        "train#dataset": {
            "_target_": "PersistentDataset",  # read once for all trainings; a broken-off session finds it again
            "data": "@training_cases",
            "transform": "$@train#preprocessing.flatten()",
            "cache_dir": str(FOLDER / "training_cines" / ("whole" if referenced else "without_reference")),
        },
        **training.overrides,
    }
    if not referenced:
        values |= {
            "training_cases": without_reference("training", TRAINING_CINES),
            "validation_cases": without_reference("validation", 1),
            "accelerations": 0,  # as acquired
            "val_acceleration": 0,
            "select_by": "held_out",
        }
    return values


def training_data(training: Training) -> PersistentDataset:
    """Its strips, with lines drawn anew each time."""
    parser = ConfigParser()
    parser.read_config(str(REPOSITORY / "bundles" / BUNDLE / "configs" / "train.yaml"))
    parser.update(values_of(training) | {"accelerations": [float(rate) for rate in TRAINED_RATES]})
    if training.mode == "kspace":
        parser.update({"accelerations": 0})
    return parser.get_parsed_content("train#dataset")


def read_once(training: Training) -> None:
    """Read, and estimate maps, before the time of a training is taken."""
    data = training_data(training)
    for case in data.data:
        data._cachecheck(case)


# --- the frame-wise network -------------------------------------------------------------------------------------------


@torch.enable_grad()
def train_framewise(seed: int) -> Path:
    """Weights of the frame-wise network, trained for as much processor time as the motion network until ONE_SOLVE."""
    file = folder_of(FRAMEWISE, seed) / "model.pt"
    if not file.is_file():
        train(ONE_SOLVE, seed)
        budget = sum(record(name, seed)["cpu_seconds"] for name in ("photometric", ONE_SOLVE))
        read_once(TRAININGS["photometric"])
        set_determinism(seed)
        draw = strips_at_random(seed)
        train_unrolled(draw, 1, seed)  # whatever the first step alone takes
        begun = time.process_time()
        train_unrolled(draw, 5, seed)
        steps = max(5, int(budget / (time.process_time() - begun) * 5))
        begun = time.process_time()
        network = train_unrolled(strips_at_random(seed), steps, seed)
        spent = round(time.process_time() - begun)
        done = {"commit": commit(), "cpu_seconds": spent, "steps": steps, "cines": TRAINING_CINES}
        write_json(file.with_name("done.json"), done)
        with atomic_path(file) as path:
            torch.save(network.state_dict(), path)
    return file


def strips_at_random(seed: int) -> Callable[[np.random.Generator], Case]:
    """The strips that the motion network is trained on."""
    data = training_data(TRAININGS["photometric"])
    data.transform.set_random_state(seed)

    def draw(generator: np.random.Generator) -> Case:
        sample = data[int(generator.integers(len(data)))]
        return {name: plain(sample[name]) for name in ("kspace", "mask", "sensitivity_maps", "reference")}

    return draw


# --- loading ----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def motion_network(name: str, seed: int) -> GroupwiseMotionNet:
    network = GroupwiseMotionNet()
    network.load_state_dict(torch.load(train(name, seed), weights_only=True))
    return network.eval()


@functools.cache
def shipped_network() -> GroupwiseMotionNet:
    """The weights that the bundle ships."""
    network = GroupwiseMotionNet()
    file = REPOSITORY / "bundles" / BUNDLE / "models" / "model.pt"
    network.load_state_dict(torch.load(file, weights_only=True))
    return network.eval()


@functools.lru_cache(maxsize=4)
def framewise_network(seed: int) -> FramewiseUnrolled:
    network = FramewiseUnrolled()
    network.load_state_dict(torch.load(train_framewise(seed), weights_only=True))
    return network.eval()


BUDGET = {
    "manifest": MANIFEST,
    "seeds": len(SEEDS),
    "seeds_of_side_arms": len(FEWER_SEEDS),
    "training_cines": TRAINING_CINES,
    **{f"epochs_{mode}": count for mode, count in EPOCHS.items()},
}
