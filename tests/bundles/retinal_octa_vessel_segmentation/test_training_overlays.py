"""The overlays of train.yaml: other augmentations train, and the paper's recipe is the paper's network and sizes."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

import retinal_octa_vessel_segmentation

ROOT = Path(retinal_octa_vessel_segmentation.__file__).parent
CONFIGS = ROOT / "configs"
FEW_GRAPHS = str(Path(__file__).parent / "few_vessel_graphs.yaml")


@pytest.mark.parametrize("overlay", ["menten_train", "adversarial_train"])
def test_other_augmentations_train(overlay: str, tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / "train.yaml"), str(CONFIGS / f"{overlay}.yaml")],
        workflow_type="train",
        logging_file=False,
        bundle_root=str(ROOT),
        output_dir=str(tmp_path / "out"),
        dataset_dir=str(tmp_path / "data"),
        manifest=FEW_GRAPHS,
        epochs=1,
        decay_epochs=0,
        val_interval=1,
        windows_per_case=1,
        batch_size=2,
        window=[64, 64],
        workers=0,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    with (tmp_path / "out" / "history.csv").open() as file:
        (epoch,) = csv.DictReader(file)
    assert math.isfinite(float(epoch["train_loss"]))
    assert (tmp_path / "out" / "models" / "model.pt").is_file()


def test_the_recipe_of_the_paper(tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.yaml"), str(CONFIGS / "paper_train.yaml")])
    parser.update({"bundle_root": str(ROOT), "manifest": FEW_GRAPHS, "dataset_dir": str(tmp_path)})
    network = parser.get_parsed_content("network_def")
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(7.37e6, rel=0.005)
    (case, *_) = parser.get_parsed_content("training_cases")
    sample = parser.get_parsed_content("train#preprocessing")(case)
    assert sample["image"].shape == (1, 1216, 1216)
    assert sample["label"].shape == (2, 1216, 1216)
    scheduler = parser.get_parsed_content("lr_scheduler")
    rates = [scheduler.lr_lambdas[0](epoch) for epoch in (0, 19, 20, 29)]
    assert rates == pytest.approx([1, 1, 10 / 11, 1 / 11])
