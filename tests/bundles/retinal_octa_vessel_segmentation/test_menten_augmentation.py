import numpy as np
import pytest
import torch
from scipy import ndimage

from retinal_octa_vessel_segmentation.augmentation.menten_augmentation import (
    RandMentenAugmentationd,
    ScanMotion,
    apply_scan_motion,
    draw_scan_motion,
    floater_shadow,
    vessel_noise,
)


def sample(side=64, factor=1):
    image = (torch.rand(1, side, side, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    label = image.repeat(2, 1, 1).repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    return {"image": image, "label": label}


OFF = {"vessel_noise": 0, "quantum_noise": 0, "floater": 0, "cuts": 0, "brightness": 0}


def test_zero_strengths_leave_image_and_label_as_they_are():
    data = sample()
    result = RandMentenAugmentationd(**OFF)(data)
    assert torch.equal(result["image"], data["image"])
    assert torch.equal(result["label"], data["label"])


@pytest.mark.parametrize("factor", [1, 4])
@pytest.mark.parametrize("seed", range(6))
def test_motion_moves_the_label_like_the_image(seed, factor):
    data = sample(factor=factor)
    always = {**OFF, "cuts": 2, "shear": 1, "stretch": 1, "buckle": 1, "whiteout": 0}
    result = RandMentenAugmentationd(**always).set_random_state(seed)(data)
    assert result["label"].shape == data["label"].shape
    assert torch.equal(result["label"][0, ::factor, ::factor], result["image"][0])
    assert torch.equal(result["label"][0, factor - 1 :: factor, factor - 1 :: factor], result["image"][0])


def test_motion_by_hand():
    image = torch.arange(6.0).view(1, 6, 1) * 10 + torch.arange(4.0)
    motion = ScanMotion(np.array([0, 1, 2, 2, 2, 3]), np.array([0, 0, 0, 0, 0, 1]), np.array([0, 0.7, 0, 0, 0, 0]))
    moved = apply_scan_motion(image, motion, whiten=True)[0]
    assert moved.shape == (6, 4)
    assert torch.equal(moved[0], image[0, 0])
    assert torch.all(moved[1] == 0.7)
    assert torch.equal(moved[4], image[0, 2])
    assert moved[5].tolist() == [31.0, 30.0, 31.0, 32.0]  # moved right by one, mirrored at the border


@pytest.mark.parametrize("kind", ["stretch", "buckle"])
def test_stretch_and_buckle_keep_the_number_of_rows_and_never_leave_the_image(kind):
    chances = {"shear": 0, "stretch": 0, "buckle": 0, "whiteout": 0, kind: 1}
    for seed in range(30):
        motion = draw_scan_motion(50, np.random.default_rng(seed), **chances)
        assert len(motion.rows) == 50
        assert motion.rows.min() == 0
        assert motion.rows.max() < 50
        steps = np.diff(motion.rows)
        assert set(steps[steps != 1]) <= ({0} if kind == "stretch" else set(range(-10, 0)) | {0})


def test_floater_keeps_its_drawn_opacity():
    peaks = [floater_shadow((200, 200), np.random.default_rng(seed)).max() for seed in range(25)]
    assert max(peaks) <= 1.0
    assert np.mean(peaks) < 0.9  # the reference implementation's dilation makes every floater opaque


def test_floater_equals_repeated_dilation():
    line = np.zeros((40, 40), bool)
    line[20, 10:30] = True
    expected = ndimage.binary_dilation(line, iterations=7)
    np.testing.assert_array_equal(ndimage.distance_transform_cdt(~line, metric="taxicab") <= 7, expected)


def test_vessel_noise_is_weaker_in_the_fovea():
    noise = np.mean([vessel_noise((200, 200), np.random.default_rng(seed)) for seed in range(10)], axis=0)
    assert noise[90:110, 90:110].mean() / noise[:30, :30].mean() == pytest.approx(0.7**5, rel=0.2)


def test_result_stays_in_unit_range_and_repeats_for_the_same_seed():
    data = sample()
    results = [RandMentenAugmentationd(floater=1.0).set_random_state(seed)(data)["image"] for seed in (0, 1, 2, 0)]
    assert all(r.min() >= 0 and r.max() <= 1 for r in results)
    assert torch.equal(results[0], results[3])


def test_augmentation_without_motion_keeps_the_centroid_of_a_dot():
    image = torch.zeros(1, 65, 65)
    image[0, 30:33, 36:39] = 1.0
    transform = RandMentenAugmentationd(label_key=None, fovea=None, floater=0.1, cuts=0).set_random_state(0)
    mean = torch.stack([transform({"image": image})["image"][0] for _ in range(400)]).mean(0).double()
    around = (mean - mean[20:25].mean())[27:36, 33:42].clamp_min(0)  # without the even noise
    axis = torch.arange(9, dtype=torch.float64) - 4
    assert abs(float((around.sum(1) * axis).sum() / around.sum())) < 0.1
    assert abs(float((around.sum(0) * axis).sum() / around.sum())) < 0.1


def test_label_of_another_size_is_refused():
    with pytest.raises(ValueError, match="cannot follow a motion"):
        RandMentenAugmentationd()({"image": torch.zeros(1, 64, 64), "label": torch.zeros(2, 96, 96)})
