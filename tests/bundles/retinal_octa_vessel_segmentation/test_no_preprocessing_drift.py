"""The network sees the same numbers whether an image was drawn from a graph in training or read from a file."""

from __future__ import annotations

import inspect

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from retinal_octa_vessel_segmentation import preprocessing as shared
from retinal_octa_vessel_segmentation.enface.load_vessel_truth import LoadImageVesselTruthd
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
    folder = shared.__file__.rsplit("/", 1)[0] + "/configs"
    return {name: ConfigParser.load_config_file(f"{folder}/{name}.yaml") for name in ("train", "inference")}


@pytest.mark.parametrize(("channel", "expected"), [(0, [0, 1, 1]), (1, [0, 0, 1])])
def test_truth_of_a_label_map_is_the_compared_channel(tmp_path, channel, expected):
    Image.fromarray(np.tile(np.array([0, 1, 2], np.uint8), (70, 30))).save(tmp_path / "map.png")
    label = LoadImageVesselTruthd("label", channel)({"label": str(tmp_path / "map.png")})["label"]
    assert label.shape == (1, 70, 90)
    assert label[0, 0, :3].tolist() == expected


def test_truth_of_a_mask_is_the_mask(tmp_path):
    Image.fromarray(np.tile(np.array([0, 255], np.uint8), (70, 40))).save(tmp_path / "mask.png")
    for channel in (0, 1):
        label = LoadImageVesselTruthd("label", channel)({"label": str(tmp_path / "mask.png")})["label"]
        assert label[0, 0, :2].tolist() == [0, 1]
