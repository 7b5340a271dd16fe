"""The overlays of train.yaml, and what training and inference must have alike."""

from __future__ import annotations

import inspect

from monai.bundle import ConfigParser
from small_private_training import files

from dp_equivariant_classification.images.fixed_normalisation import MEAN, STD
from dp_equivariant_classification.images.preprocessing import preprocessing

SHARED = ("in_channels", "image_size", "pad_to", "mean", "std", "num_classes")


def test_the_recipe_of_the_paper_is_their_network_and_their_numbers(parser):
    stated = ConfigParser.load_config_files(files("train", "paper_train"))
    asked = ("expected_batch", "steps", "views", "learning_rate", "ema", "delta")
    assert [stated[name] for name in asked] == [8192, 2160, 4, 2.0, 0.999, 1e-5]
    assert stated["max_grad_norm"] == 2 / 4  # they sum four views, here is their mean
    read = parser(["train", "paper_train"], num_classes=10)
    del read["network_def"]["fields"]
    network = read.get_parsed_content("network_def")
    assert sum(p.numel() for p in network.parameters()) == 255675
    image = read.get_parsed_content("train#dataset")[0]["image"]
    assert image.shape == (3, 32, 32)
    assert network(image.as_tensor()[None]).shape == (1, 10)


def test_training_and_inference_see_the_same_numbers():
    train, inference = (ConfigParser.load_config_file(files(name)[0]) for name in ("train", "inference"))
    assert {name: train[name] for name in SHARED} == {name: inference[name] for name in SHARED}
    defaults = {name: value.default for name, value in inspect.signature(preprocessing).parameters.items()}
    assert {name: defaults[name] for name in SHARED if name in defaults} == {
        name: train[name] for name in SHARED if name in defaults
    }
    assert (train["mean"], train["std"]) == (MEAN, STD)
