"""Every way of training runs, also without references, and so does the papers' pairwise network."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from clinbundles.data import datalist

ROOT = Path(__file__).resolve().parents[3] / "bundles" / "cardiac_mri_mcmr_reconstruction"
CONFIGS = ROOT / "configs"
HERE = Path(__file__).parent
FEW = HERE / "few_cines.yaml"
SMALL = yaml.safe_load((HERE / "conformity.yaml").read_text())["train"] | {"manifest": str(FEW)}


def _train(tmp_path: Path, configs: list[str], **values: Any) -> dict[str, str]:
    files = [str(CONFIGS / f"{name}.yaml") for name in configs]
    output = {"bundle_root": str(ROOT), "output_dir": str(tmp_path / "out"), "epochs": 1, "train_cases": 1}
    workflow = ConfigWorkflow(config_file=files, logging_file=False, **output | SMALL | values)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    with (tmp_path / "out" / "history.csv").open() as file:
        (epoch,) = csv.DictReader(file)
    assert (tmp_path / "out" / "models" / "model.pt").is_file()
    return epoch


@pytest.mark.parametrize("mode", ["photometric", "recon_driven"])
def test_a_network_is_trained_by(tmp_path: Path, mode: str) -> None:
    epoch = _train(tmp_path, ["train"], mode=mode, outer_iterations=2)
    assert math.isfinite(float(epoch["train_loss"]))


def test_without_reference_files_the_network_is_trained_by_held_out_lines(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for split in ("training", "validation"):
        for case in datalist(str(FEW), str(folder), split):
            Path(case["reference"]).unlink()
    cases = sorted(path.parent for path in folder.rglob("kspace.npy"))
    manifest = tmp_path / "own.yaml"
    layout = {"files": {"kspace": "{case}/kspace.npy", "sensitivity_maps": "{case}/maps.npy"}}
    splits = {"training": [cases[0].name], "validation": [cases[1].name]}
    content = {
        "name": "own", "title": "t", "description": "d", "modality": "MR", "licence": "none", "citation": "none",
        "access": {"url": "https://example.org", "registration": False, "steps": "none"},
        "layout": layout, "splits": {"explicit": splits},
    }  # fmt: skip
    manifest.write_text(yaml.safe_dump(content))
    epoch = _train(
        tmp_path,
        ["train"],
        mode="kspace",
        manifest=str(manifest),
        dataset_dir=str(cases[0].parent),
        select_by="held_out",
    )
    assert math.isfinite(float(epoch["train_loss"]))


def test_the_papers_pairwise_network_is_trained_and_validated(tmp_path: Path) -> None:
    small = {"network_def#width": 8, "network_def#hidden": 8, "network_def#iterations": 1, "rows": 32}
    epoch = _train(tmp_path, ["train", "paper_train"], outer_iterations=1, **small)
    assert math.isfinite(float(epoch["train_loss"]))


def test_the_papers_network_has_its_size() -> None:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.yaml"), str(CONFIGS / "paper_train.yaml")])
    network = parser.get_parsed_content("network_def")
    assert sum(one.numel() for one in network.parameters()) == pytest.approx(5.62e6, rel=0.01)
