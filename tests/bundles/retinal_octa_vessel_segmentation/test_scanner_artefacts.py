import pytest
import torch

from retinal_octa_vessel_segmentation.augmentation.image_translation import ImageTranslationd
from retinal_octa_vessel_segmentation.augmentation.scanner_artefacts import (
    FWHM_PER_SIGMA,
    RandMotionLinesd,
    RandPointSpreadd,
    RandSpeckleGraind,
    blur_point_spread,
)


def dot():
    image = torch.zeros(1, 65, 65)
    image[0, 30, 37] = 1.0
    return image


@pytest.mark.parametrize(
    "transform",
    [
        RandMotionLinesd("image", strength=0.0, prob=1.0),
        RandPointSpreadd("image", fwhm_mm=(0.0, 0.0), prob=1.0),
        RandSpeckleGraind("image", contrast=(0.0, 0.0), prob=1.0),
    ],
)
def test_zero_strength_is_the_identity(transform):
    image = torch.rand(1, 40, 50)
    torch.testing.assert_close(transform({"image": image})["image"], image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [RandMotionLinesd, RandPointSpreadd, RandSpeckleGraind])
def test_result_stays_in_unit_range_and_repeats_for_the_same_seed(kind):
    image = torch.rand(1, 40, 50)
    first, second = (kind("image", prob=1.0).set_random_state(0)({"image": image})["image"] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, image)
    assert first.min() >= 0
    assert first.max() <= 1 + 1e-6


def test_point_spread_leaves_the_centroid_of_a_dot_where_it_is():
    transform = RandPointSpreadd("image", prob=1.0).set_random_state(0)
    mean = torch.stack([transform({"image": dot()})["image"][0] for _ in range(100)]).mean(0)
    axis = torch.arange(65.0)
    assert float((mean.sum(1) * axis).sum() / mean.sum()) == pytest.approx(30, abs=0.1)
    assert float((mean.sum(0) * axis).sum() / mean.sum()) == pytest.approx(37, abs=0.1)


def test_point_spread_has_the_stated_width():
    profile = blur_point_spread(dot(), 6.0 / FWHM_PER_SIGMA)[0, 30]
    assert float(profile[37 + 3] / profile[37]) == pytest.approx(0.5, abs=0.01)


def test_speckle_grain_keeps_the_mean_and_has_the_stated_contrast_and_grain():
    flat = torch.full((1, 256, 256), 0.2)
    transform = RandSpeckleGraind("image", contrast=(0.3, 0.3), grain_mm=(0.03, 0.03), prob=1.0).set_random_state(0)
    field = transform({"image": flat})["image"][0] / 0.2
    assert float(field.mean()) == pytest.approx(1, abs=0.01)
    assert float(field.std() / field.mean()) == pytest.approx(
        (torch.exp(torch.tensor(0.09)) - 1).sqrt().item(), rel=0.05
    )
    sigma = 0.03 / FWHM_PER_SIGMA / (3 / 304)
    centred = torch.log(field) - torch.log(field).mean()
    neighbours = float((centred[:, 1:] * centred[:, :-1]).mean() / centred.square().mean())
    assert neighbours == pytest.approx(torch.exp(torch.tensor(-1 / (4 * sigma**2))).item(), abs=0.03)


@pytest.mark.parametrize("settings", [{"contrast": (0.5, 0.1)}, {"grain_mm": (-1.0, 1.0)}])
def test_speckle_grain_refuses_ranges_that_are_none(settings):
    with pytest.raises(ValueError, match="it must be an ordered range, 0 or more"):
        RandSpeckleGraind("image", **settings)


@pytest.mark.parametrize(("direction", "axis"), [("horizontal", 1), ("vertical", 0)])
def test_motion_lines_run_in_the_stated_direction(direction, axis):
    transform = RandMotionLinesd("image", strength=1, rate=4, grain=0, direction=direction, prob=1).set_random_state(0)
    lines = transform({"image": torch.zeros(1, 40, 50)})["image"][0]
    assert lines.max() > 0
    assert torch.all(lines.amax(axis) == lines.amin(axis))


def test_image_translation_uses_a_torchscript_generator(tmp_path):
    class Invert(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return 1.0 - image

    path = tmp_path / "generator.ts"
    torch.jit.script(Invert()).save(str(path))
    image = torch.rand(1, 8, 8)
    torch.testing.assert_close(ImageTranslationd("image", str(path))({"image": image})["image"], 1 - image)


def test_image_translation_refuses_what_it_cannot_use(tmp_path):
    with pytest.raises(FileNotFoundError, match="TorchScript"):
        ImageTranslationd("image", tmp_path / "missing.ts")
    with pytest.raises(ValueError, match="keep the shape"):
        ImageTranslationd("image", lambda image: image[..., :4])({"image": torch.rand(1, 8, 8)})
