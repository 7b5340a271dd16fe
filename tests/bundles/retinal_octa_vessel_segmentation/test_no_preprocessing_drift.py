"""The network sees the same numbers whether an image was drawn from a graph in training or read from a file."""

from __future__ import annotations

import inspect
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from retinal_octa_vessel_segmentation.enface import preprocessing as shared
from retinal_octa_vessel_segmentation.networks import TRAINING_PIXEL_MM
from retinal_octa_vessel_segmentation.simulation.rasterize_transform import RasterizeVesselsd
from retinal_octa_vessel_segmentation.simulation.vessel_growth import GrowthParameters, grow_vessels


def test_training_and_inference_share_one_pixel_size():
    default = inspect.signature(shared.preprocessing).parameters["pixel_size_mm"].default
    assert default == inspect.signature(RasterizeVesselsd).parameters["pixel_mm"].default == TRAINING_PIXEL_MM


def test_drawn_image_equals_the_same_image_read_from_a_file(tmp_path):
    parameters = GrowthParameters.from_config({"field_mm": 3.0, "stages": [{"name": "SVC", "iterations": 40}]})
    drawn = RasterizeVesselsd("graph")({"graph": grow_vessels(parameters, 5)})["image"]
    affine = np.diag([TRAINING_PIXEL_MM, TRAINING_PIXEL_MM, 1.0, 1.0])
    nib.save(nib.Nifti1Image(drawn[0].numpy(), affine), tmp_path / "image.nii.gz")
    read = shared.preprocessing()({"image": str(tmp_path / "image.nii.gz")})["image"]
    seen = shared.intensity_normalisation("image")({"image": drawn})["image"]
    assert read.shape == seen.shape
    difference = torch.as_tensor(read) - torch.as_tensor(seen)
    transposed = torch.as_tensor(read).transpose(-2, -1) - torch.as_tensor(seen)
    assert min(difference.abs().max(), transposed.abs().max()) < 1e-3  # NIfTI's first axis may be the column


@pytest.mark.parametrize("workflow", ["train", "validate"])
def test_last_change_of_the_image_is_the_shared_normalisation(bundle_configs, workflow):
    steps = bundle_configs["train"][workflow]["preprocessing"]["transforms"]
    assert steps[-1]["_target_"] == "SelectItemsd"
    assert steps[-2]["_target_"] == "retinal_octa_vessel_segmentation.enface.preprocessing.intensity_normalisation"


@pytest.fixture(scope="module")
def bundle_configs():
    configs = Path(shared.__file__).parents[1] / "configs"
    return {name: ConfigParser.load_config_file(configs / f"{name}.yaml") for name in ("train", "inference")}
