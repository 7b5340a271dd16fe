"""Time of the augmentations per sample, on one core."""

import pytest
import torch

from retinal_octa_vessel_segmentation.augmentation.adversarial_augmentation import AdversarialContrast
from retinal_octa_vessel_segmentation.augmentation.menten_augmentation import RandMentenAugmentationd
from retinal_octa_vessel_segmentation.augmentation.random_augmentation import RandVesselContrastd
from retinal_octa_vessel_segmentation.augmentation.resolution_loss import RandResolutionLossd
from retinal_octa_vessel_segmentation.scanner.scanner_phantom import simulate_scanner_case

pytestmark = pytest.mark.benchmarks


def sample(side):
    generator = torch.Generator().manual_seed(0)
    image = (torch.rand(1, side, side, generator=generator) < 0.4).float() * 0.7
    background = (torch.rand(1, side, side, generator=generator) < 0.4).float() * 0.7
    return {"image": image, "label": (image > 0).float().repeat(2, 1, 1), "background": background}


@pytest.mark.parametrize("side", [160, 304])
@pytest.mark.parametrize(
    "transform",
    [RandVesselContrastd("image"), RandResolutionLossd("image"), RandMentenAugmentationd(floater=1.0)],
    ids=["random_contrast", "resolution_loss", "menten"],
)
def test_augmentation(benchmark, transform, side):
    transform.set_random_state(0)
    result = benchmark(transform, sample(side))
    assert result["image"].shape == (1, side, side)


def test_adversarial_batch(benchmark):
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    batch = {key: value[None].repeat(4, 1, 1, 1) for key, value in sample(160).items()}
    image, _ = benchmark(AdversarialContrast(network, torch.nn.BCEWithLogitsLoss()), batch)
    assert image.shape == (4, 1, 160, 160)


def test_scanner_case(benchmark, tmp_path):
    entry = benchmark.pedantic(simulate_scanner_case, (tmp_path, 3000), rounds=2, warmup_rounds=1)
    assert (tmp_path / entry["image"]).is_file()
