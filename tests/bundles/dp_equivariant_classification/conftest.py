"""One small private training, which several tests look at, and the configs with values of a test."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism
from small_private_training import ROOT, SMALL, files


@pytest.fixture(scope="session")
def cells_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("simulated cells")


@pytest.fixture(scope="session")
def run(cells_folder):
    """Run configs as the command line does, in this process."""

    def in_process(names, kind, **values):
        small = SMALL if kind == "train" else {"bundle_root": str(ROOT)}
        data = {"dataset_dir": str(cells_folder)} if kind == "train" else {}
        workflow = ConfigWorkflow(
            config_file=files(*names), workflow_type=kind, logging_file=False, **{**small, **data, **values}
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        set_determinism(seed=None)
        return workflow

    return in_process


@pytest.fixture
def parser(cells_folder):
    """A config with values, of which a test takes single components."""

    def read(names, **values):
        found = ConfigParser()
        found.read_config(files(*names))
        found.read_meta(str(ROOT / "configs" / "metadata.json"))
        small = SMALL if names[0] == "train" else {"bundle_root": str(ROOT)}
        found.update({**small, "dataset_dir": str(cells_folder), **values})
        return found

    return read


@pytest.fixture(scope="session")
def trained(run, tmp_path_factory):
    """The first of two epochs of a private training."""
    folder = tmp_path_factory.mktemp("trained")
    run(["train"], "train", output_dir=str(folder), epochs=1)
    return SimpleNamespace(folder=folder, weights=folder / "models" / "model.pt")
