"""dp.yaml: a training with a bound for each patient, and a statement that says it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image

import retinal_octa_vessel_segmentation
from clinbundles.privacy.accounting.statement import read_statement
from clinbundles.privacy.batch_coupling import find_batch_coupling
from clinbundles.privacy.per_sample_gradients.per_sample_hooks import PerSampleGradients
from clinbundles.privacy.per_sample_loss import PerSampleLoss
from retinal_octa_vessel_segmentation.losses import VesselLoss
from retinal_octa_vessel_segmentation.networks import VesselUNet

ROOT = Path(retinal_octa_vessel_segmentation.__file__).parent
CONFIGS = ROOT / "configs"


def configs(*names: str) -> list[str]:
    return [str(CONFIGS / f"{name}.yaml") for name in names]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dp")
    workflow = ConfigWorkflow(
        config_file=configs("train", "dp"),
        workflow_type="train",
        logging_file=False,
        bundle_root=str(ROOT),
        output_dir=str(folder / "out"),
        dataset_dir=str(folder / "data"),
        manifest=str(Path(__file__).parent / "few_vessel_graphs.yaml"),
        expected_batch=1,
        steps=4,
        val_interval=2,
        window=[32, 32],
        physical_batch=1,
        workers=0,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()
    return folder / "out"


def test_the_statement_counts_eyes_and_stays_within_the_budget(trained: Path) -> None:
    statement = read_statement(trained / "models")
    assert (statement.unit, statement.units, statement.steps) == ("patient", 2, 4)
    assert 7 < statement.epsilon <= 8
    assert "patient" in statement.text()


def test_the_run_tells_epsilon_and_no_training_loss(trained: Path) -> None:
    with (trained / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"epsilon", "val_dice"} <= set(rows[1])
    assert "train_loss" not in rows[0]


def test_the_weights_are_those_of_the_small_network(trained: Path) -> None:
    network = VesselUNet(features=[8] * 6)
    network.load_state_dict(torch.load(trained / "models" / "model.pt", weights_only=True))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(12_000, rel=0.05)
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_no_layer_lets_one_eye_change_another() -> None:
    assert find_batch_coupling(VesselUNet(), torch.rand(3, 1, 32, 32)) is None


def test_gradients_of_each_window_are_those_of_the_window_alone() -> None:
    torch.manual_seed(0)
    network = VesselUNet(features=[4] * 6).double()
    for layer in network.modules():
        if isinstance(layer, torch.nn.LeakyReLU):
            layer.inplace = False  # as the trainer does
    image, label = torch.randn(3, 1, 32, 32, dtype=torch.double), torch.ones(3, 2, 32, 32, dtype=torch.double)
    label[..., :16] = 0
    loss = VesselLoss()
    with PerSampleGradients(network):
        PerSampleLoss(loss)(network(image), label).sum().backward()
        found = [p.grad_sample for p in network.parameters()]
    for number in range(3):
        alone = torch.autograd.grad(loss(network(image[[number]]), label[[number]]), list(network.parameters()))
        for gradients, gradient in zip(found, alone, strict=True):
            torch.testing.assert_close(gradients[number], gradient, rtol=1e-8, atol=1e-12)


def test_own_images_are_counted_by_patient_and_start_from_the_shipped_weights(tmp_path: Path) -> None:
    for folder in ("image", "label"):
        (tmp_path / folder).mkdir()
        for name in ("A", "B", "C", "D", "E", "F"):
            Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / folder / f"{name}.png")
    parser = ConfigParser()
    parser.read_config(configs("train", "finetune", "dp"))
    changes = {"dataset_dir": str(tmp_path), "fov_mm": 1.0, "features": [16, 16, 32, 64, 128, 16]}
    parser.update({"bundle_root": str(ROOT), "start": str(ROOT / "models" / "model.pt"), **changes})
    patients = parser.get_parsed_content("patients")
    cases = parser.get_parsed_content("training_cases")
    assert set(patients) == {case["patient"] for case in cases} <= set("ABCDEF")
    assert len(patients) == 2 * len(cases)  # each image twice, as two windows of one patient
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(ROOT / "models" / "model.pt", map_location="cpu", weights_only=True))
