"""Flow metrics on flows whose errors are known."""

from __future__ import annotations

import math

import pytest
import torch

from clinbundles.mcmr.flow_composition import pair_flows, pixel_places
from clinbundles.mcmr.flow_metrics import (
    cycle_error,
    endpoint_error,
    folding_share,
    log_determinant_sd,
    photometric_error,
)


def shifts(frames: int = 3, size: int = 24) -> torch.Tensor:
    """(T, 2, X, Y): frame t is the template shifted by t rows."""
    v = torch.zeros(frames, 2, size, size, dtype=torch.float64)
    v[:, 0] = torch.arange(float(frames))[:, None, None]
    return v


def shifted_discs(frames: int = 3, size: int = 24) -> torch.Tensor:
    rows, columns = pixel_places(torch.zeros(2, size, size, dtype=torch.float64))
    return torch.stack([torch.sigmoid(5 - torch.hypot(rows - 10 - t, columns - 12)) for t in range(frames)])


def test_endpoint_error_is_the_mean_length_of_the_difference_in_the_mask() -> None:
    flow = torch.zeros(2, 2, 8, 8)
    flow[:, 0, :4], flow[:, 1, :4] = 3.0, 4.0
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:4] = True
    assert endpoint_error(flow, torch.zeros_like(flow)) == pytest.approx(2.5)
    assert endpoint_error(flow, torch.zeros_like(flow), mask) == pytest.approx(5)


def test_true_flow_predicts_frames_from_one_another_and_zero_flow_does_not() -> None:
    images, flow = shifted_discs(), pair_flows(shifts())
    assert photometric_error(images, flow) < 1e-3
    assert photometric_error(images, torch.zeros_like(flow)) > 0.05
    assert photometric_error(images * 1j, flow) < 1e-3


def test_photometric_error_is_relative_to_the_peak_and_of_the_chosen_pairs() -> None:
    images = torch.zeros(3, 8, 8)
    images[1], images[2] = 1, 4
    flow, weights = torch.zeros(3, 3, 2, 8, 8), torch.zeros(3, 3)
    weights[0, 1] = weights[0, 0] = 1
    assert photometric_error(images, flow, weights=weights) == pytest.approx(1 / 4)
    assert photometric_error(images, flow) == pytest.approx(math.sqrt((1 + 16 + 9) / 3) / 4)


def test_folding_is_the_share_of_pixels_whose_determinant_is_not_positive() -> None:
    flow = torch.zeros(2, 10, 10)
    flow[0, 5:] = -2 * torch.arange(5.0)[:, None]
    assert folding_share(torch.zeros_like(flow)) == 0
    assert folding_share(flow) == pytest.approx(50)  # slope -2 over the last four rows, central -1 at the edge


def test_area_change_of_a_uniform_scaling_does_not_vary() -> None:
    flow = 0.2 * pixel_places(torch.zeros(2, 9, 9, dtype=torch.float64))
    assert log_determinant_sd(flow) < 1e-12
    both = torch.stack([flow, torch.zeros_like(flow)])
    assert log_determinant_sd(both) == pytest.approx(math.log(1.44) / 2, rel=0.01)


def test_cycle_error_of_pair_flows_is_small_and_of_two_equal_flows_large() -> None:
    flow = pair_flows(shifts())
    assert cycle_error(flow, (torch.ones(24, 24) * 1).bool()) < 1e-9
    same_way = torch.ones(2, 2, 2, 8, 8)
    assert cycle_error(same_way) == pytest.approx(math.sqrt(8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: endpoint_error(torch.zeros(2, 8, 8), torch.zeros(2, 8, 7)), "they must agree"),
        (lambda: folding_share(torch.zeros(2, 8, 8), torch.zeros(8, 8)), "mask is empty"),
        (lambda: folding_share(torch.zeros(2, 8, 8), torch.ones(8, 7)), "they must have one grid"),
        (lambda: photometric_error(torch.ones(3, 8, 8), torch.zeros(2, 3, 2, 8, 8)), "expected \\(T, X, Y\\)"),
        (lambda: photometric_error(torch.zeros(2, 8, 8), torch.zeros(2, 2, 2, 8, 8)), "nothing to compare"),
        (lambda: cycle_error(torch.zeros(1, 1, 2, 8, 8)), "at least two frames"),
    ],
)
def test_what_cannot_be_measured_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
