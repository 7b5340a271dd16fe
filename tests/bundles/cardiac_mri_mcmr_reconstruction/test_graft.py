from __future__ import annotations

import pytest
import torch

from cardiac_mri_mcmr_reconstruction.graft import Graft, all_pairs_products, look_up
from cardiac_mri_mcmr_reconstruction.networks import upsample_convex
from clinbundles.mcmr.bilinear_warp import warp


def small_graft(**settings: object) -> Graft:
    torch.manual_seed(0)
    return Graft(**{"width": 16, "hidden": 32, "radius": 3, "iterations": 3, **settings})


def moving_blobs(shifts: torch.Tensor, seed: int, size: int = 32) -> torch.Tensor:
    """(1, T, X, Y): three blobs, of which frame t sees all at shifts[t] (rows, columns)."""
    chance = torch.Generator().manual_seed(seed)
    centres = size / 4 + size / 2 * torch.rand(3, 2, generator=chance)
    heights = 0.4 + 0.6 * torch.rand(3, generator=chance)
    axis = torch.arange(size, dtype=torch.float32)
    places = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))
    image = torch.zeros(len(shifts), size, size)
    for centre, height in zip(centres, heights, strict=True):
        away = places - (centre + shifts)[..., None, None]
        image += height * torch.exp(-away.square().sum(1) / 18)
    return image[None].clamp(max=1)


def test_the_default_has_the_parameters_of_the_published_network() -> None:
    assert sum(p.numel() for p in Graft().parameters()) == pytest.approx(5.62e6, rel=0.01)


def test_trained_flow_points_from_the_grids_owner_into_the_sampled_frame() -> None:
    network = small_graft(iterations=1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    chance = torch.Generator().manual_seed(1)
    for step in range(50):
        shifts = 4 * torch.rand(4, 2, generator=chance) - 2
        true = (shifts[:, None] - shifts)[..., None, None]  # [t, s]: what is at p in frame s is at p + true in frame t
        image = moving_blobs(shifts, seed=step)
        error = (network(image)[0] - true).abs().mean(2)
        optimiser.zero_grad()
        error[(image[0] > 0.1).expand_as(error)].mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        shift = torch.zeros(2)
        shift[axis] = 2.0 * sign
        image = moving_blobs(torch.stack([torch.zeros(2), shift]), seed=1000)
        with torch.no_grad():
            flow = network(image)[0]
        forth, back = flow[1, 0][:, image[0, 0] > 0.3].mean(1), flow[0, 1][:, image[0, 1] > 0.3].mean(1)
        assert sign * forth[axis] > max(0.5, 1.2 * forth[1 - axis].abs())
        assert sign * back[axis] < -max(0.5, 1.2 * back[1 - axis].abs())
        misfit = (warp(image[0, 1], flow[1, 0]) - image[0, 0]).square().mean()
        assert misfit < 0.8 * (image[0, 1] - image[0, 0]).square().mean()


def test_products_are_looked_up_at_the_place_where_the_flow_points() -> None:
    chance = torch.Generator().manual_seed(0)
    sampled = torch.randn(1, 64, 16, 20, generator=chance)
    owner = sampled.roll((-2, 3), (2, 3))  # owner(p) = sampled(p + (2, -3))
    pyramid = all_pairs_products(owner, sampled)
    still = look_up(pyramid, torch.zeros(1, 2, 16, 20), radius=4)[0, :81, 8, 10]
    assert divmod(int(still.argmax()), 9) == (4 + 2, 4 - 3)
    there = torch.tensor([2.0, -3.0]).reshape(1, 2, 1, 1).expand(1, 2, 16, 20)
    assert int(look_up(pyramid, there, radius=4)[0, :81, 8, 10].argmax()) == 40


def test_levels_of_the_products_lie_over_each_other() -> None:
    rows = torch.arange(32.0)[:, None].expand(32, 32)
    columns = torch.arange(32.0).expand(32, 32)
    sampled = torch.stack([rows, columns])[None]
    for axis in range(2):
        owner = torch.zeros(1, 2, 32, 32)
        owner[:, axis] = 2**0.5  # the products are then the row, or the column, of the sampled place
        found = look_up(all_pairs_products(owner, sampled), torch.full((1, 2, 32, 32), 0.3), radius=0)
        middle = (rows, columns)[axis][12:20, 12:20] + 0.3
        for level in range(4):
            torch.testing.assert_close(found[0, level, 12:20, 12:20], middle, atol=1e-4, rtol=0)


def test_upsampled_flow_counts_pixels_of_the_image() -> None:
    coarse = torch.full((1, 2, 5, 6), 0.5)
    fine = upsample_convex(coarse, torch.randn(1, 144, 5, 6))
    assert fine.shape == (1, 2, 20, 24)
    torch.testing.assert_close(fine, torch.full_like(fine, 2.0))


def test_an_image_of_any_size_is_filled_up_at_its_end() -> None:
    network = small_graft(iterations=2).eval()
    image = moving_blobs(torch.tensor([[0.0, 0.0], [1.0, -2.0]]), seed=3, size=40)[:, :, :37, :35]
    filled = torch.nn.functional.pad(image, (0, 1, 0, 3), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(network(image), network(filled)[..., :37, :35])


def test_flow_does_not_depend_on_the_size_of_blocks_or_on_unwanted_pairs() -> None:
    network = small_graft(iterations=2).eval()
    image = moving_blobs(torch.rand(4, 2, generator=torch.Generator().manual_seed(0)), seed=4)
    weights = torch.tensor([[1.0, 0.5, 0.0, 0.5]] * 4)
    with torch.no_grad():
        all_flow = network(image)
        network.pairs_at_once = 3
        some_flow = network(image, weights)
    assert all_flow.shape == (1, 4, 4, 2, 32, 32)
    assert not all_flow[0, range(4), range(4)].any()
    assert not some_flow[0, :, 2].any()
    torch.testing.assert_close(some_flow[0, :, [0, 1, 3]], all_flow[0, :, [0, 1, 3]], atol=1e-5, rtol=1e-4)


def test_the_owner_of_the_grid_is_seen_with_its_neighbours_in_time() -> None:
    frames = torch.arange(4.0).reshape(1, 4, 1, 1)
    assert Graft(8, 8)._shifted(frames, -1).flatten().tolist() == [3, 0, 1, 2]
    assert Graft(8, 8, cyclic=False)._shifted(frames, 1).flatten().tolist() == [1, 2, 3, 3]
    network = small_graft(iterations=1).eval()
    image = moving_blobs(torch.rand(5, 2, generator=torch.Generator().manual_seed(0)), seed=5)
    changed = image.clone()
    changed[:, 2] = changed[:, 2].flip(-1)
    with torch.no_grad():
        before, after = network(image), network(changed)
    assert not torch.equal(before[0, 4, 1], after[0, 4, 1])  # frame 2 follows frame 1, which owns the grid
    torch.testing.assert_close(before[0, 1, 4], after[0, 1, 4])  # and is no neighbour of frame 4


def test_gradients_reach_image_and_all_parameters() -> None:
    network = small_graft(iterations=2, pairs_at_once=1)
    image = moving_blobs(torch.tensor([[0.0, 0.0], [1.0, -2.0]]), seed=3).requires_grad_()
    network(image).square().mean().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert not without


def test_errors_say_the_size_that_is_needed() -> None:
    with pytest.raises(ValueError, match=r"image has 24 x 40 pixels: expected at least 32"):
        small_graft()(torch.zeros(1, 2, 24, 40))
    with pytest.raises(ValueError, match=r"weights has shape \(3, 2\): expected \(2, 2\) for 2 frames"):
        small_graft()(torch.zeros(1, 2, 32, 32), torch.ones(3, 2))
