"""The chamfer distance against its literal definition; neighbours by tree and by brute force."""

import pytest
import torch
from mesh_losses_by_loops import chamfer

from clinbundles.rasterizer.chamfer_distance import chamfer_distance
from clinbundles.rasterizer.nearest_points import nearest_by_brute_force, nearest_by_tree


def clouds(batch=2, first=60, second=45, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, first, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(batch, second, 3, generator=generator, dtype=torch.float64)
    return x, y


@pytest.mark.parametrize("norm", [1, 2])
def test_tree_and_brute_force_find_the_same_points(norm):
    x, y = clouds(1, 3000, 2500)
    assert torch.equal(nearest_by_tree(x[0], y[0], norm), nearest_by_brute_force(x[0], y[0], norm))


def test_distance_is_its_literal_definition():
    x, y = clouds()
    value, normals = chamfer_distance(x, y)
    assert value.item() == pytest.approx(sum(chamfer(a, b) for a, b in zip(x.numpy(), y.numpy(), strict=True)) / 2)
    assert normals is None


def test_gradient_is_that_of_all_pairs():
    x, y = (points.requires_grad_() for points in clouds())
    value, _ = chamfer_distance(x, y)
    squared = ((x[:, :, None] - y[:, None]) ** 2).sum(-1)
    slow = (squared.amin(2).mean(1) + squared.amin(1).mean(1)).mean()
    for ours, theirs in zip(torch.autograd.grad(value, (x, y)), torch.autograd.grad(slow, (x, y)), strict=True):
        assert (ours - theirs).abs().max() < 1e-14


def test_the_distance_of_a_cloud_to_itself_is_zero_and_so_is_the_gradient():
    x = clouds()[0].requires_grad_()
    value, _ = chamfer_distance(x, x.detach().flip(1))
    assert value.item() == 0
    assert (torch.autograd.grad(value, x)[0] == 0).all()


def test_padding_plays_no_part():
    x, y = clouds()
    lengths = torch.tensor([60, 20]), torch.tensor([13, 45])
    value, _ = chamfer_distance(x, y, *lengths, batch_reduction=None)
    for cloud in range(2):
        alone, _ = chamfer_distance(
            x[cloud : cloud + 1, : lengths[0][cloud]], y[cloud : cloud + 1, : lengths[1][cloud]]
        )
        assert value[cloud].item() == pytest.approx(alone.item())


def test_reductions_and_weights_are_those_of_the_single_distances():
    x, y = clouds(3)
    each, _ = chamfer_distance(x, y, batch_reduction=None)
    assert chamfer_distance(x, y, batch_reduction="sum")[0].item() == pytest.approx(each.sum().item())
    weights = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    expected = (each * weights).sum() / 4
    assert chamfer_distance(x, y, weights=weights)[0].item() == pytest.approx(expected.item())
    zero = chamfer_distance(x.requires_grad_(), y, weights=torch.zeros(3))[0]
    assert zero.item() == 0
    one_way, _ = chamfer_distance(x, y, single_directional=True, point_reduction="sum")
    other_way, _ = chamfer_distance(y, x, single_directional=True, point_reduction="sum")
    both, _ = chamfer_distance(x, y, point_reduction="sum")
    assert both.item() == pytest.approx((one_way + other_way).item())


def test_absolute_differences_are_the_norm_1():
    x, y = clouds(1)
    table = (x[0, :, None] - y[0]).abs().sum(-1)
    assert chamfer_distance(x, y, norm=1)[0].item() == pytest.approx(
        (table.amin(0).mean() + table.amin(1).mean()).item()
    )


def test_normals_of_neighbours_are_compared():
    x, y = clouds(1)
    generator = torch.Generator().manual_seed(1)
    u, v = torch.randn(x.shape, generator=generator).double(), torch.randn(y.shape, generator=generator).double()
    _, turn = chamfer_distance(x, y, x_normals=u, y_normals=v)
    to_y, to_x = nearest_by_brute_force(x[0], y[0]), nearest_by_brute_force(y[0], x[0])
    u, v = u[0] / u[0].norm(dim=1, keepdim=True), v[0] / v[0].norm(dim=1, keepdim=True)
    expected = (1 - (u * v[to_y]).sum(1).abs()).mean() + (1 - (v * u[to_x]).sum(1).abs()).mean()
    assert turn.item() == pytest.approx(expected.item())
    same, _ = clouds(1)
    assert chamfer_distance(x, x, x_normals=same, y_normals=-same)[1].item() == pytest.approx(0, abs=1e-12)
    assert chamfer_distance(x, x, x_normals=same, y_normals=-same, abs_cosine=False)[1].item() == pytest.approx(4)


def test_what_has_no_distance_is_refused():
    x, y = clouds()
    with pytest.raises(ValueError, match=r"x \(2, 60, 3\) and y \(1, 45, 3\)"):
        chamfer_distance(x, y[:1])
    with pytest.raises(ValueError, match="batch_reduction is 'max'"):
        chamfer_distance(x, y, batch_reduction="max")
    with pytest.raises(ValueError, match="point_reduction is 'max'"):
        chamfer_distance(x, y, point_reduction="max")
    with pytest.raises(ValueError, match="norm is 3"):
        chamfer_distance(x, y, norm=3)
    with pytest.raises(ValueError, match="weights must be 2 numbers"):
        chamfer_distance(x, y, weights=torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match=r"x_lengths must be 2 numbers from 1 to 60, but they are \[0, 61\]"):
        chamfer_distance(x, y, x_lengths=torch.tensor([0, 61]))
    with pytest.raises(ValueError, match="y has points that are not finite"):
        chamfer_distance(x, y / 0)
