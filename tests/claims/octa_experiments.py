"""What the experiments of retinal_octa_vessel_segmentation share: one budget, cached trainings, predictions, tables.

Every network is trained by the bundle's own train.yaml with the same number of iterations; what an experiment varies
is an override, as on the command line. Trained weights are kept in the output folder: a broken-off suite goes on where
it stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.inferers import SlidingWindowInferer
from skimage.morphology import remove_small_objects
from skimage.transform import resize

from clinbundles.data import datalist
from clinbundles.handlers import local_tracking_uri, tracked_run
from retinal_octa_vessel_segmentation.enface.load_vessel_label import read_vessel_labels
from retinal_octa_vessel_segmentation.enface.preprocessing import preprocessing
from retinal_octa_vessel_segmentation.evaluation.centreline_dice import centreline_dice
from retinal_octa_vessel_segmentation.evaluation.segmentation_metrics import overlap_metrics, tolerance_dice
from retinal_octa_vessel_segmentation.networks import VesselUNet

BUNDLE = "retinal_octa_vessel_segmentation"
REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLE_ROOT = REPOSITORY / "bundles" / BUNDLE
OUTPUT = Path(os.environ.get("CLINBUNDLES_CLAIMS_OUTPUT", REPOSITORY / "output" / "claims")) / BUNDLE
DATASET_DIR = os.environ.get("CLINBUNDLES_DATASET_DIR") or None

SEEDS = tuple(range(int(os.environ.get("CLINBUNDLES_CLAIMS_SEEDS", "3"))))
ITERATIONS = int(os.environ.get("CLINBUNDLES_CLAIMS_ITERATIONS", "200"))
"""The same for every network; the shipped weights have had about ten times as many, on larger windows."""
WINDOW = 96
BATCH = 4
LEARNING_RATE = 2e-3  # of every arm; twice that of train.yaml, as the budget is small
EYES = 20  # test eyes of the ablations; the main comparison has all 40
SMALLEST_OBJECT_PX = 10  # of the card, at 304 x 304; for the classical filters it is tuned

K24 = {"additive_noise": 0.0, "point_spread": 0.0, "speckle_grain": 0.0, "motion_lines": 0.0}
"""The published augmentation alone: what train.yaml adds to it switched off."""
RECIPE = {name: ConfigParser.load_config_file(BUNDLE_ROOT / "configs" / "train.yaml")[name] for name in K24}
"""The shipped recipe: the published augmentation and what acquisition adds."""
CLEAN = {"background": 0.0, "noise": 0.0, "gamma": 0.0, "resolution": [1.0, 1.0]}
MENTEN = {
    "train#preprocessing#transforms#2": {
        "_target_": f"{BUNDLE}.augmentation.menten_augmentation.RandMentenAugmentationd",
        "fovea": None,
    },
    "resolution": [1.0, 1.0],
}


TRACKING = {"tracking_uri": local_tracking_uri(str(OUTPUT)), "experiment_name": "claims"}
BUDGET = {"seeds": len(SEEDS), "iterations": ITERATIONS, "window": WINDOW, "batch": BATCH}
"""What tells one session of the claims from another; parameters of its runs."""


@dataclass(frozen=True)
class Case:
    """An image with known vessels: image (H, W) in [0, 1], truth (2, H, W) bool (all, larger), the datalist entry."""

    image: np.ndarray
    truth: np.ndarray
    entry: dict[str, Any]


def scanner_cases(split: str) -> list[Case]:
    """Cases of the scanner phantom."""
    cases = []
    for entry in datalist("octa_scanner_phantom", DATASET_DIR, split):
        cases.append(Case(load_image(entry["image"]), read_vessel_labels(entry["label"]), entry))
    return cases


def load_image(path: str) -> np.ndarray:
    """8-bit image as float (H, W) in [0, 1]."""
    from PIL import Image

    return np.asarray(Image.open(path), dtype=np.float32) / 255.0


def train(name: str, seed: int, overrides: dict[str, Any] | None = None, cases: list[dict] | None = None) -> Path:
    """Weights of one training; trained only if they are not there yet.

    Args:
        name: of the experiment's arm; with the seed it names the weights.
        seed: seed of network and windows.
        overrides: ids of train.yaml.
        cases: datalist that replaces the simulated training cases.
    """
    target = OUTPUT / "weights" / f"{name}-seed{seed}-{ITERATIONS}.pt"
    if target.is_file():
        return target
    run = OUTPUT / "trainings" / f"{name}-seed{seed}"
    settings: dict[str, Any] = {
        "bundle_root": str(BUNDLE_ROOT),
        "output_dir": str(run),
        "dataset_dir": DATASET_DIR,
        "seed": seed,
        "window": [WINDOW, WINDOW],
        "batch_size": BATCH,
        "workers": 0,
        **K24,
        "learning_rate": LEARNING_RATE,
        **(overrides or {}),
    }
    if cases is not None:
        settings["training_cases"] = cases
        count = len(cases)
    else:
        count = len(datalist(settings.get("manifest", "octa_simulated_vessels"), DATASET_DIR, "training"))
    settings |= {**TRACKING, "run_name": f"{name}-seed{seed}"}
    epochs = 4
    settings["windows_per_case"] = -(-ITERATIONS * BATCH // (epochs * count))
    settings.update(epochs=epochs, decay_epochs=2, val_interval=epochs, val_cases=1)
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE_ROOT / "configs" / "train.yaml"),
        workflow_type="train",
        logging_file=False,
        tracking="mlflow",
        **settings,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    target.parent.mkdir(parents=True, exist_ok=True)
    state = torch.load(run / "models" / "model.pt", map_location="cpu", weights_only=True)
    torch.save(state.get("model", state), target.with_suffix(".part"))
    target.with_suffix(".part").replace(target)
    return target


def on_real_images(cases: Sequence[Case], weights: Path | None = None) -> dict[str, Any]:
    """Overrides that train on labelled images instead of simulated vessels; ``weights`` to start from (fine-tuning)."""
    transforms = [
        {"_target_": f"{BUNDLE}.enface.load_image_enface.LoadImageEnFaced", "keys": "image"},
        {"_target_": f"{BUNDLE}.enface.load_image_enface.EnFaceImaged", "keys": "image"},
        {"_target_": f"{BUNDLE}.enface.load_vessel_label.LoadImageVesselLabeld", "keys": "label"},
        {
            "_target_": "RandSpatialCropd",
            "keys": ["image", "label"],
            "roi_size": [WINDOW, WINDOW],
            "random_size": False,
        },
        {"_target_": "RandFlipd", "keys": ["image", "label"], "prob": 0.5, "spatial_axis": 0},
        {"_target_": "RandRotate90d", "keys": ["image", "label"], "prob": 0.75},
        {"_target_": f"{BUNDLE}.enface.preprocessing.intensity_normalisation", "keys": "image"},
        {"_target_": "SelectItemsd", "keys": ["image", "label"]},
    ]
    overrides: dict[str, Any] = {"train#preprocessing": {"_target_": "Compose", "transforms": transforms}}
    if weights is not None:
        overrides |= {"ckpt": str(weights), "learning_rate": LEARNING_RATE / 4}
    return overrides


def load_network(weights: Path) -> VesselUNet:
    """The network with these weights, ready to predict."""
    network = VesselUNet()
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict(state.get("model", state))
    return network.eval()


@torch.no_grad()
def predict(network: VesselUNet, entry: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """Probabilities (2, H, W) on the image's own grid, by the bundle's preprocessing and sliding window."""
    sample = preprocessing(original_key=None)({k: v for k, v in entry.items() if k != "label"})
    image = torch.as_tensor(sample["image"])[None]
    whole = tuple(-(-side // 16) * 16 for side in image.shape[-2:])  # in one piece: half the time of windows at 6 mm
    logits = SlidingWindowInferer(roi_size=whole, sw_batch_size=1)(image, network)
    probability = logits.sigmoid()[0].numpy()
    if probability.shape[1:] == shape:
        return probability
    return np.stack([resize(p, shape, order=1, anti_aliasing=True) for p in probability])


def vessel_mask(probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Thresholded probability without specks."""
    return remove_small_objects(probability >= threshold, max_size=SMALLEST_OBJECT_PX - 1, connectivity=2)


def scores(mask: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Dice, centreline Dice and tolerance Dice of one mask."""
    return {
        "dice": overlap_metrics(mask, truth)["dice"],
        "cldice": centreline_dice(mask, truth),
        "tolerance_dice": tolerance_dice(mask, truth),
    }


def evaluate(weights: Path, cases: Sequence[Case], channel: int = 0, threshold: float = 0.5) -> pd.DataFrame:
    """Scores of every case, one row each; kept beside the weights."""
    network = load_network(weights)
    rows = []
    for case in cases:
        mask = vessel_mask(predict(network, case.entry, case.image.shape)[channel], threshold)
        rows.append({"case": case.entry["case"], **scores(mask, case.truth[channel])})
    return pd.DataFrame(rows)


def capillary_scores(mask: np.ndarray, case: Case) -> dict[str, float]:
    """Scores on capillaries alone: the known larger vessels (radius of at least 9.9 um) are left out of both masks."""
    larger = case.truth[1]
    return {f"capillary_{k}": v for k, v in scores(mask & ~larger, case.truth[0] & ~larger).items()}


def mean_and_spread(table: pd.DataFrame, by: str, values: Sequence[str]) -> pd.DataFrame:
    """Mean over seeds of the mean over cases, and the standard deviation between seeds, as "0.812 +- 0.004"."""
    seeds = table.groupby([by, "seed"], sort=False)[list(values)].mean()
    groups = seeds.groupby(level=0, sort=False)
    mean, spread, count = groups.mean(), groups.std(ddof=1), groups.size()
    text = mean.copy().astype(object)
    for row in mean.index:
        for column in mean.columns:
            deviation = spread.loc[row, column]
            text.loc[row, column] = f"{mean.loc[row, column]:.3f}" + (f" +- {deviation:.3f}" if count[row] > 1 else "")
    return text


def publish(claim: str, table: pd.DataFrame, draw: Callable[[Any], None] | None = None, verdict: str = "") -> None:
    """Write a claim's table (CSV and Markdown) and figure, and log them to MLflow as a run of kind "claims"."""
    from matplotlib.figure import Figure

    OUTPUT.mkdir(parents=True, exist_ok=True)
    table.to_csv(OUTPUT / f"{claim}.csv")
    columns = [table.index.name or "", *map(str, table.columns)]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += [
        "| " + " | ".join(map(str, (index, *row))) + " |"
        for index, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    (OUTPUT / f"{claim}.md").write_text("\n".join(lines) + (f"\n\n{verdict}\n" if verdict else "\n"))
    files = [OUTPUT / f"{claim}.csv", OUTPUT / f"{claim}.md"]
    if draw is not None:
        figure = Figure(figsize=(7, 4), layout="constrained")
        draw(figure.subplots())
        figure.savefig(OUTPUT / f"{claim}.png", dpi=120)
        files.append(OUTPUT / f"{claim}.png")
    print(f"\n{claim}\n{(OUTPUT / f'{claim}.md').read_text()}")
    with tracked_run(
        "claims",
        BUNDLE,
        tracking_uri=TRACKING["tracking_uri"],
        experiment=TRACKING["experiment_name"],
        name=claim,
        parameters=BUDGET,
    ) as run:
        for file in files:
            run.log_file(str(file))


def remembered(name: str, compute: Callable[[], Any]) -> Any:
    """A JSON-able result, computed once and kept in the output folder."""
    path = OUTPUT / "results" / f"{name}-{ITERATIONS}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        result = compute()
        path.write_text(json.dumps(result))
    return json.loads(path.read_text())
