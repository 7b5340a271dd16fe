"""The slicing operator and its adjoint."""

from __future__ import annotations

import pytest
import torch

from clinbundles.motion.motion_grid import grid_points
from clinbundles.motion.plane_slicing import plane_points, planes_from_poses, slice_volume, slice_volume_adjoint

SIZE = (16, 18, 10)
SPACING = (2.0, 2.0, 4.0)


def oblique_planes(count=3, seed=0, pixel_mm=1.5, pixels=(12, 10)):
    generator = torch.Generator().manual_seed(seed)
    planes = torch.zeros(1, count, 3, 4, dtype=torch.float64)
    for index in range(count):
        axes, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
        planes[0, index, :, 0] = axes[:, 0] * pixel_mm
        planes[0, index, :, 1] = axes[:, 1] * pixel_mm
        planes[0, index, :, 2] = axes[:, 2]
        middle = axes[:, 0] * pixels[0] + axes[:, 1] * pixels[1]
        planes[0, index, :, 3] = -middle * pixel_mm / 2
    return planes


def test_oblique_slice_of_a_linear_volume_is_linear():
    gradient = torch.tensor([0.7, -0.4, 0.2], dtype=torch.float64)
    volume = (grid_points(SIZE, SPACING, torch.float64) @ gradient)[None, None]
    planes = oblique_planes()
    images = slice_volume(volume, planes, (12, 10), SPACING, slab_mm=3.0, sub_planes=3)
    points, _ = plane_points(planes, (12, 10))
    assert images.shape == (1, 1, 3, 12, 10)
    assert torch.allclose(images[0, 0], points[0, :, 0] @ gradient, atol=1e-9)


def test_slice_on_the_grid_is_the_volume_itself():
    volume = torch.rand(1, 2, *SIZE, dtype=torch.float64)
    plane = torch.zeros(1, 1, 3, 4, dtype=torch.float64)
    plane[0, 0, 0, 0], plane[0, 0, 1, 1], plane[0, 0, 2, 2] = SPACING[0], SPACING[1], 1.0
    plane[0, 0, :, 3] = grid_points(SIZE, SPACING, torch.float64)[0, 0, 7]
    assert torch.allclose(slice_volume(volume, plane, SIZE[:2], SPACING)[:, :, 0], volume[..., 7], atol=1e-12)


@pytest.mark.parametrize("sub_planes", [1, 4])
def test_adjoint_is_that_of_slicing(sub_planes):
    planes = oblique_planes(seed=1)
    volume = torch.randn(1, 2, *SIZE, dtype=torch.float64, requires_grad=True)
    images = torch.randn(1, 2, 3, 12, 10, dtype=torch.float64)
    sliced = slice_volume(volume, planes, (12, 10), SPACING, 6.0, sub_planes)
    back = slice_volume_adjoint(images, planes, SIZE, SPACING, 6.0, sub_planes)
    assert torch.allclose((sliced * images).sum(), (volume * back).sum(), rtol=1e-10)
    (gradient,) = torch.autograd.grad((sliced * images).sum(), volume)
    assert torch.allclose(gradient, back, atol=1e-12)


def test_planes_undo_poses_and_a_missing_view_stays_missing():
    planes = oblique_planes()
    square = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    square[:, :, :3], square[:, :, 3, 3] = planes, 1
    poses = torch.linalg.inv(square)[:, :, :3].clone()
    poses[0, 1] = 0
    again, present = planes_from_poses(poses)
    assert present.tolist() == [[True, False, True]]
    assert torch.allclose(again[0, [0, 2]], planes[0, [0, 2]], atol=1e-10)
    assert torch.equal(again[0, 1], torch.zeros(3, 4, dtype=torch.float64))


def test_slab_without_planes_is_refused():
    with pytest.raises(ValueError, match="at least one plane, not 0"):
        plane_points(oblique_planes(), (4, 4), 8.0, 0)
