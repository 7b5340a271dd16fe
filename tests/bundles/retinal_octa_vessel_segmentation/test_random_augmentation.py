import numpy as np
import pytest
import torch
import torch.nn.functional as F

from retinal_octa_vessel_segmentation.augmentation.random_augmentation import (
    RandVesselContrastd,
    apply_vessel_contrast,
    draw_contrast_grids,
    enlarge_grid,
    sample_beta_field,
)
from retinal_octa_vessel_segmentation.augmentation.resolution_loss import RandResolutionLossd, lose_resolution


def vessel_map(side=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(1, side, side, generator=generator)
    return drawn * (torch.rand(1, side, side, generator=generator) > 0.6)


def centroid(image):
    weight = image.double().squeeze()
    axis = torch.arange(weight.shape[0], dtype=torch.float64)
    return torch.stack([(weight.sum(1) * axis).sum(), (weight.sum(0) * axis).sum()]) / weight.sum()


def dot(side=64, at=(30, 37)):
    image = torch.zeros(1, side, side)
    image[0, at[0], at[1]] = 1.0
    return image


def slow_resolution_loss(image, coarse):
    """Pixel by pixel: exact area average down, bilinear between centres up."""
    size = image.shape[0]
    step = size / coarse
    down = np.zeros((coarse, coarse))
    for i in range(coarse):
        for j in range(coarse):
            for y in range(int(i * step), min(int(np.ceil((i + 1) * step)), size)):
                for x in range(int(j * step), min(int(np.ceil((j + 1) * step)), size)):
                    height = min(y + 1, (i + 1) * step) - max(y, i * step)
                    width = min(x + 1, (j + 1) * step) - max(x, j * step)
                    down[i, j] += image[y, x] * max(height, 0) * max(width, 0) / step**2
    up = np.zeros_like(image)
    for y in range(size):
        for x in range(size):
            v, u = (min(max((p + 0.5) / step - 0.5, 0), coarse - 1) for p in (y, x))
            i, j = min(int(v), coarse - 2), min(int(u), coarse - 2)
            a, b = v - i, u - j
            up[y, x] = (1 - a) * ((1 - b) * down[i, j] + b * down[i, j + 1]) + a * (
                (1 - b) * down[i + 1, j] + b * down[i + 1, j + 1]
            )
    return up


def test_zero_strengths_leave_the_image_as_it_is():
    image = vessel_map()
    sample = {"image": image, "background": torch.ones_like(image)}
    for transform in (
        RandVesselContrastd("image", delta=0, noise=0, gamma=0),
        RandResolutionLossd("image", factor=(1.0, 1.0)),
    ):
        assert torch.equal(transform(sample)["image"], image)


@pytest.mark.parametrize("part", ["delta", "noise", "gamma"])
def test_each_part_works_alone(part):
    image = vessel_map()
    background = torch.ones_like(image)
    strengths = {"delta": 0.0, "noise": 0.0, "gamma": 0.0, part: 1.0}
    grids = draw_contrast_grids(np.random.default_rng(0))
    result = apply_vessel_contrast(image, background, grids, np.random.default_rng(1), **strengths)
    assert not torch.equal(result, image)
    if part == "delta":
        assert torch.all(result >= image)
    if part == "noise":
        assert torch.all(result <= image)
    if part == "gamma":  # full pixels stay full, empty ones stay almost empty for exponents above 0.5
        assert torch.all(result[image > 0.999] > 0.999)


@pytest.mark.parametrize("seed", range(5))
def test_result_stays_in_unit_range(seed):
    sample = {"image": vessel_map(seed=seed), "background": vessel_map(seed=seed + 100)}
    result = RandVesselContrastd("image", gamma=1.0, noise=1.0).set_random_state(seed)(sample)["image"]
    result = RandResolutionLossd("image").set_random_state(seed)({"image": result})["image"]
    assert torch.isfinite(result).all()
    assert 0 <= result.min() <= result.max() <= 1


def test_same_seed_gives_the_same_bytes():
    sample = {"image": vessel_map(), "background": vessel_map(seed=1)}
    first, second = (RandVesselContrastd("image").set_random_state(3)(sample)["image"] for _ in range(2))
    other = RandVesselContrastd("image").set_random_state(4)(sample)["image"]
    assert first.numpy().tobytes() == second.numpy().tobytes()
    assert not torch.equal(first, other)


def test_background_from_a_larger_pool_is_the_same_kind_of_map():
    pool = [np.random.default_rng(k).random((1, 90, 80), dtype=np.float32) for k in range(3)]
    transform = RandVesselContrastd("image", pool=pool, noise=0, gamma=0).set_random_state(0)
    result = transform({"image": torch.zeros(1, 64, 64)})["image"]
    assert result.shape == (1, 64, 64)
    assert result.mean() > 0.05


def test_bicubic_enlargement_equals_torch():
    grid = torch.rand(2, 1, 9, 9)
    expected = F.interpolate(grid, size=(40, 33), mode="bicubic", align_corners=False)
    torch.testing.assert_close(enlarge_grid(grid, (40, 33)), expected, rtol=0, atol=2e-6)


def test_beta_field_has_the_moments_of_the_beta_distribution():
    a, b = torch.full((1, 200, 200), 2.0), torch.full((1, 200, 200), 0.5)
    field = sample_beta_field(a, b, np.random.default_rng(0), torch.ones(1, 200, 200, dtype=torch.bool))
    assert float(field.mean()) == pytest.approx(0.8, abs=0.005)
    assert float(field.var()) == pytest.approx(2 * 0.5 / (2.5**2 * 3.5), abs=0.002)


def test_values_are_drawn_only_where_they_matter():
    where = torch.zeros(1, 8, 8, dtype=torch.bool)
    where[0, 2:4] = True
    field = sample_beta_field(torch.ones(8, 8), torch.ones(8, 8), np.random.default_rng(0), where)
    assert torch.all((field > 0) == where)


def test_contrast_keeps_the_centroid_of_a_dot_on_average_over_draws():
    transform = RandVesselContrastd("image", delta=0.0).set_random_state(0)
    blurred = F.avg_pool2d(dot(), 5, 1, 2) * 20
    places = torch.stack([centroid(transform({"image": blurred.clamp(0, 1)})["image"] ** 2) for _ in range(400)])
    assert (places.mean(0) - torch.tensor([30.0, 37.0])).abs().max() < 0.1


def test_resolution_loss_keeps_the_centroid_of_a_dot_on_average_over_draws():
    transform = RandResolutionLossd("image").set_random_state(0)
    places = torch.stack([centroid(transform({"image": dot()})["image"]) for _ in range(400)])
    assert (places.mean(0) - torch.tensor([30.0, 37.0])).abs().max() < 0.1


@pytest.mark.parametrize("factor", [0.25, 0.4, 0.8])
def test_resolution_loss_does_not_move_an_image_whereas_nearest_neighbour_does(factor):
    # mean over all positions of a dot inside a window: the grid's phase cancels, a systematic shift remains
    shifts, nearest = [], []
    for row in range(24, 44):
        image = dot(at=(row, row))
        shifts.append(centroid(lose_resolution(image, factor)) - row)
        size = round(64 * factor)
        down = F.interpolate(F.avg_pool2d(image[None], 3, 1, 1), size=(size, size), mode="nearest")
        back = F.interpolate(down, size=(64, 64), mode="nearest")
        if back.sum() > 0:
            nearest.append(centroid(back) - row)
    assert torch.stack(shifts).mean(0).abs().max() < 0.06
    assert torch.stack(nearest).mean(0).min() > 0.3


@pytest.mark.parametrize("coarse", [6, 11, 17, 19])
def test_resolution_loss_equals_the_slow_way(coarse):
    image = np.random.default_rng(coarse).random((20, 20))
    fast = lose_resolution(torch.from_numpy(image)[None].double(), coarse / 20)[0]
    np.testing.assert_allclose(fast.numpy(), slow_resolution_loss(image, coarse), atol=1e-6)


def test_resolution_loss_keeps_a_constant_image():
    torch.testing.assert_close(lose_resolution(torch.full((1, 50, 41), 0.3), 0.37), torch.full((1, 50, 41), 0.3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandVesselContrastd("image", delta=1.5), "delta is 1.5"),
        (lambda: RandResolutionLossd("image", factor=(0.0, 1.0)), r"within \(0, 1\]"),
        (lambda: RandVesselContrastd("image")({"image": torch.zeros(1, 8, 8)}), "no 'background'"),
        (lambda: RandVesselContrastd("image", delta=0)({"image": torch.full((1, 8, 8), 9.0)}), r"works on \[0, 1\]"),
        (
            lambda: RandVesselContrastd("image")({"image": torch.zeros(1, 8, 8), "background": torch.zeros(1, 9, 9)}),
            "crop and resize both alike",
        ),
    ],
)
def test_bad_settings_and_input_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
