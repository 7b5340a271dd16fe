"""Averages along the motion."""

from __future__ import annotations

import pytest
import torch

from clinbundles.mcmr.bilinear_warp import warp
from clinbundles.mcmr.motion_compensated_average import motion_compensated_average


@pytest.fixture
def moving() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    images = torch.randn(4, 9, 8, dtype=torch.complex128)
    flow = torch.rand(4, 4, 2, 9, 8, dtype=torch.float64) * 3 - 1.5
    weights = torch.rand(4, 4, dtype=torch.float64)
    weights[0, 2] = 0.0
    return images, flow, weights


def test_the_average_is_the_weighted_mean_of_all_predictions_of_a_frame(moving: tuple[torch.Tensor, ...]) -> None:
    images, flow, weights = moving
    expected = torch.zeros_like(images)
    for target in range(4):
        for source in range(4):
            expected[source] += weights[target, source] * warp(images[target], flow[target, source])
    expected /= weights.sum(0)[:, None, None]
    torch.testing.assert_close(motion_compensated_average(images, flow, weights), expected)


def test_an_image_that_does_not_move_is_its_own_average(moving: tuple[torch.Tensor, ...]) -> None:
    images, flow, weights = moving
    still = images[:1].expand(4, -1, -1)
    torch.testing.assert_close(motion_compensated_average(still, torch.zeros_like(flow), weights), still.clone())


def test_its_gradients_equal_finite_differences(moving: tuple[torch.Tensor, ...]) -> None:
    images, flow, weights = moving
    images, flow = images[:, :4, :3], flow[..., :4, :3]
    assert torch.autograd.gradcheck(
        lambda x, u: torch.view_as_real(motion_compensated_average(x, u, weights)),
        (images.clone().requires_grad_(), flow.clone().requires_grad_()),
    )


def test_a_frame_without_weight_is_refused(moving: tuple[torch.Tensor, ...]) -> None:
    images, flow, weights = moving
    weights[:, 1] = 0
    with pytest.raises(ValueError, match="frame 1 has no frame to be averaged from"):
        motion_compensated_average(images, flow, weights)


def test_shapes_that_disagree_are_named(moving: tuple[torch.Tensor, ...]) -> None:
    images, flow, weights = moving
    with pytest.raises(ValueError, match=r"images has shape \(3, 9, 8\)"):
        motion_compensated_average(images[:3], flow, weights)
