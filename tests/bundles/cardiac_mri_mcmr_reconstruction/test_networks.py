"""The groupwise motion network."""

from __future__ import annotations

import pytest
import torch

from cardiac_mri_mcmr_reconstruction.networks import (
    GroupwiseMotionNet,
    local_correlation,
    sample_at,
    upsample_convex,
)


@pytest.fixture(scope="module")
def network() -> GroupwiseMotionNet:
    torch.manual_seed(0)
    network = GroupwiseMotionNet(features=8, hidden=8, radius=1, iterations=2).eval()
    torch.nn.init.normal_(network.flow_head[2].weight, std=0.1)  # so that there is motion to look at
    return network


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (33, 30)])
def test_every_frame_gets_two_components_of_the_size_of_the_image(
    network: GroupwiseMotionNet, rows: int, columns: int
) -> None:
    flow = network(torch.rand(2, 5, rows, columns))
    assert flow.shape == (2, 10, rows, columns)
    assert float(flow.abs().max()) > 1e-3


def test_the_mean_motion_over_the_frames_is_zero(network: GroupwiseMotionNet) -> None:
    flow = network(torch.rand(1, 5, 32, 32)).unflatten(1, (5, 2))
    assert float(flow.mean(1).abs().max()) < 1e-5


def test_a_cine_that_starts_later_in_the_cycle_has_the_same_motion_later(network: GroupwiseMotionNet) -> None:
    cine = torch.rand(1, 6, 32, 32)
    flow, later = (network(one).unflatten(1, (6, 2)) for one in (cine, cine.roll(2, 1)))
    torch.testing.assert_close(later, flow.roll(2, 1), atol=1e-4, rtol=0)


def test_a_real_time_series_does_not_wrap_around() -> None:
    torch.manual_seed(0)
    network = GroupwiseMotionNet(features=8, hidden=8, radius=1, iterations=1, cyclic=False).eval()
    cine = torch.rand(1, 6, 32, 32)
    before, after = network._neighbours(cine)
    assert torch.equal(before[:, 0], cine[:, 0])
    assert torch.equal(after[:, -1], cine[:, -1])
    assert torch.equal(before[:, 1:], cine[:, :-1])


def test_the_scripted_network_gives_the_same(network: GroupwiseMotionNet) -> None:
    cine = torch.rand(1, 4, 32, 36)
    torch.testing.assert_close(torch.jit.script(network)(cine), network(cine))


def test_features_are_looked_up_in_rows_and_columns_of_pixels() -> None:
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    flow = torch.zeros(1, 2, 6, 8)
    flow[:, 0], flow[:, 1] = 1.5, -0.25
    seen = sample_at(torch.stack([rows, columns])[None], flow)[0]
    torch.testing.assert_close(seen[0, 1:4, 2:6], rows[1:4, 2:6] + 1.5)
    torch.testing.assert_close(seen[1, 1:4, 2:6], columns[1:4, 2:6] - 0.25)


def test_the_correlation_is_greatest_where_the_second_image_was_moved_to() -> None:
    torch.manual_seed(0)
    first = torch.randn(1, 32, 10, 10)
    second = first.roll((1, -2), (2, 3))
    similar = local_correlation(first, second, 2)[0, :, 3:7, 3:7]
    assert (similar.argmax(0) == (1 + 2) * 5 + (-2 + 2)).all()


def test_upsampling_keeps_a_constant_flow_in_pixels_of_the_finer_grid() -> None:
    flow = torch.tensor([0.5, -1.0])[None, :, None, None].expand(1, 2, 3, 5)
    fine = upsample_convex(flow, torch.randn(1, 144, 3, 5))
    torch.testing.assert_close(fine, 4 * flow[..., :1, :1].expand(1, 2, 12, 20))
