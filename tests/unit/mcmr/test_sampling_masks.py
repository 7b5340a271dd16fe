from __future__ import annotations

import pytest
import torch

from clinbundles.mcmr.sampling_masks import variable_density_lines


@pytest.mark.parametrize("acceleration", [4, 8, 12, 16, 20])
@pytest.mark.parametrize("lines", [96, 127, 128, 156, 160])
def test_every_frame_has_exactly_its_lines(lines, acceleration):
    mask = variable_density_lines(25, lines, acceleration, seed=3)
    assert mask.shape == (25, lines)
    assert mask.dtype == torch.float32
    assert torch.equal(mask.unique(), torch.tensor([0.0, 1.0]))
    assert torch.equal(mask.sum(1), torch.full((25,), float(round(lines / acceleration))))


@pytest.mark.parametrize("acceleration", [4, 8, 16])
def test_realised_acceleration_is_within_2_percent_where_the_lines_divide(acceleration):
    mask = variable_density_lines(25, 128, acceleration, seed=0)
    assert mask.numel() / float(mask.sum()) == pytest.approx(acceleration, rel=0.02)


@pytest.mark.parametrize("lines", [128, 160])
def test_25_frames_at_16_fold_acceleration_cover_80_percent_of_the_lines(lines):
    shares = [float(variable_density_lines(25, lines, 16, seed).amax(0).mean()) for seed in range(40)]
    assert min(shares) >= 0.8


def test_the_middle_is_sampled_more_often_than_the_rim():
    mask = sum(variable_density_lines(25, 128, 8, seed) for seed in range(20)) / 20
    share = mask.mean(0)
    assert share[56:72].mean() > 3 * share[:16].mean()
    assert torch.allclose(share[64:112].mean(), share[17:65].mean(), rtol=0.05)


def test_neighbouring_frames_share_few_lines():
    mask = variable_density_lines(25, 128, 16, seed=1)
    assert (mask[1:] * mask[:-1]).sum(1).mean() < 1


def test_the_same_seed_gives_the_same_mask_and_another_one_another():
    one = variable_density_lines(25, 128, 12, seed=5)
    assert torch.equal(one, variable_density_lines(25, 128, 12, seed=5))
    assert not torch.equal(one, variable_density_lines(25, 128, 12, seed=6))


def test_full_sampling_is_possible():
    assert variable_density_lines(3, 16, 1, seed=0).all()


@pytest.mark.parametrize("arguments", [(0, 128, 8), (25, 1, 1), (25, 128, 0.5), (25, 128, 200)])
def test_numbers_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ValueError, match="expected at least one frame, two lines and an acceleration"):
        variable_density_lines(*arguments, seed=0)
