"""finetune.yaml goes on from the shipped weights with annotated images, whatever their labels hold."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

import retinal_octa_vessel_segmentation
from clinbundles.data import datalist
from retinal_octa_vessel_segmentation.enface.load_vessel_label import both_channels
from retinal_octa_vessel_segmentation.losses import VesselLoss

ROOT = Path(retinal_octa_vessel_segmentation.__file__).parent
FEW_SCANS = str(Path(__file__).parent / "few_scans.yaml")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated scans in the folders image and label, as octa_own_pairs.yaml wants them, fewer for validation."""
    folder = tmp_path_factory.mktemp("own pairs")
    cases = datalist(FEW_SCANS, folder / "sets", "test", progress=False)
    for part in ("image", "label"):
        (folder / part).mkdir()
        for index in range(6):
            Image.open(cases[index % 2][part]).save(folder / part / f"P{index}.png")
    return folder


def finetune(pairs: Path, output: Path, **values: object) -> tuple[float, dict[str, torch.Tensor]]:
    settings = {
        "bundle_root": str(ROOT),
        "output_dir": str(output),
        "dataset_dir": str(pairs),
        "fov_mm": 1.5,
        "epochs": 2,
        "decay_epochs": 1,
        "val_interval": 1,
        "windows_per_case": 1,
        "batch_size": 2,
        "workers": 0,
        **values,
    }
    workflow = ConfigWorkflow(
        config_file=[str(ROOT / "configs" / f"{name}.yaml") for name in ("train", "finetune")],
        workflow_type="train",
        logging_file=False,
        **settings,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    with (output / "history.csv").open() as file:
        *_, last = csv.DictReader(file)
    return float(last["val_dice"]), torch.load(output / "models" / "model.pt", weights_only=True)


def test_training_goes_on_from_the_shipped_weights(pairs, tmp_path):
    dice, weights = finetune(pairs, tmp_path, window=[64, 64])
    shipped = torch.load(ROOT / "models" / "model.pt", weights_only=True)
    steps = [float((weights[name] - value).abs().max()) for name, value in shipped.items() if value.is_floating_point()]
    assert 0 < max(steps) < 0.1, "neither the shipped weights nor a new beginning"
    assert dice > 0.4, "the start is a trained network"


def test_images_smaller_than_a_window_are_mirrored_at_their_edges(pairs, tmp_path):
    dice, _ = finetune(pairs, tmp_path, epochs=1, decay_epochs=0, window=[192, 192])
    assert dice > 0.4


def test_a_mask_of_larger_vessels_says_nothing_about_capillaries(tmp_path):
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[10:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    larger = both_channels(tmp_path / "mask.png", "larger_vessels")
    assert (larger[0] == -1).all()
    assert np.array_equal(larger[1], mask / 255)
    assert (both_channels(tmp_path / "mask.png", "vessels")[1] == -1).all()


def test_a_label_map_without_larger_vessels_is_no_mask(tmp_path):
    Image.fromarray(np.eye(64, dtype=np.uint8)).save(tmp_path / "labels.png")
    labels = both_channels(tmp_path / "labels.png", "label_map")
    assert np.array_equal(labels[0], np.eye(64))
    assert not labels[1].any()


def test_a_mask_given_for_a_label_map_is_refused_with_advice(tmp_path):
    Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask\.png holds the value 255.*set label_holds to vessels"):
        both_channels(tmp_path / "mask.png", "label_map")


def test_loss_of_an_unknown_channel_is_that_of_the_known_one():
    logits = torch.randn(3, 2, 8, 8, requires_grad=True)
    label = (torch.rand(3, 2, 8, 8) > 0.5).float()
    loss = VesselLoss()
    unknown = label.clone()
    unknown[:, 0] = -1
    loss(logits, unknown).backward()
    assert logits.grad is not None
    assert not logits.grad[:, 0].any(), "no gradient where nothing is known"
    assert float(loss(logits, unknown)) == pytest.approx(float(loss._loss(logits[:, 1:], label[:, 1:])))
    assert float(loss(logits, label)) == pytest.approx(
        float((loss._loss(logits[:, :1], label[:, :1]) + loss._loss(logits[:, 1:], label[:, 1:])) / 2), rel=1e-5
    )
