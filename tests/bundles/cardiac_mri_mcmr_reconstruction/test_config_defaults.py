"""The numbers of the reconstruction stand in the configs and in the code: they are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cardiac_mri_mcmr_reconstruction.instance_optimised_motion import InstanceOptimisedMotion
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import UnrolledSettings

CONFIGS = Path(__file__).resolve().parents[3] / "bundles" / "cardiac_mri_mcmr_reconstruction" / "configs"
SHARED = (
    "init", "init_sigma", "regularisation", "prior_sigma", "weight_sigma", "neighbours", "cyclic", "pairwise",
)  # fmt: skip


@pytest.mark.parametrize("name", ["train", "inference"])
@pytest.mark.parametrize("number", SHARED)
def test_a_config_says_what_the_code_has_as_its_default(name: str, number: str) -> None:
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert config[number] == getattr(UnrolledSettings(), number)


@pytest.mark.parametrize(("name", "number"), [("train", "val_outer_iterations"), ("inference", "outer_iterations")])
def test_as_many_outer_iterations_are_validated_as_are_used(name: str, number: str) -> None:
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert config[number] == UnrolledSettings().outer_iterations


@pytest.mark.parametrize("name", ["inference", "evaluate"])
def test_motion_is_refined_in_as_many_steps_as_fitting_has_by_default(name: str) -> None:
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert config["refine_steps"] == InstanceOptimisedMotion().steps
