"""Numerical truths of the mesh sections: areas, derivatives, symmetries, planes in special position."""

import math

import numpy as np
import pytest
import torch
from simple_meshes import axial_plane, oblique_plane, random_rotation, sphere, torus, ventricle
from winding_number_coverage import section, shoelace, supersampled_coverage

from clinbundles.rasterizer.plane_coverage import plane_coverage, stack_coverage


def directional_error(function, inputs, step, seed=0):
    """Relative difference between autograd and central differences along random directions."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [value.detach().requires_grad_() for value in inputs]
    ways = [torch.randn(value.shape, generator=generator, dtype=value.dtype) for value in inputs]
    gradients = torch.autograd.grad(function(*inputs), inputs)
    exact = sum(float((gradient * way).sum()) for gradient, way in zip(gradients, ways, strict=True))
    with torch.no_grad():
        plus = function(*[value + step * way for value, way in zip(inputs, ways, strict=True)])
        minus = function(*[value - step * way for value, way in zip(inputs, ways, strict=True)])
    return abs(float(plus - minus) / (2 * step) - exact) / abs(exact)


@pytest.mark.parametrize("seed", range(4))
def test_sum_of_coverage_is_the_shoelace_area_of_the_section(seed):
    vertices, faces = ventricle()
    plane = oblique_plane(seed, (3.0, 2.0, -40.0), (120, 140))
    coverage = plane_coverage(vertices, faces, plane[None], (120, 140))
    expected = shoelace(section(vertices.numpy(), faces.numpy(), plane.numpy()))
    assert coverage.sum().item() == pytest.approx(expected, abs=1e-10)
    assert expected > 100


def test_coverage_lies_between_0_and_1():
    vertices, faces = ventricle(jitter=0.8)
    planes = torch.stack([oblique_plane(seed, (0.0, 0.0, -30.0), (90, 90)) for seed in range(20)])
    coverage = plane_coverage(vertices, faces, planes, (90, 90))
    assert coverage.min() >= -1e-13
    assert coverage.max() <= 1 + 1e-13
    single = plane_coverage(vertices.float(), faces, planes.float(), (90, 90))
    assert single.dtype == torch.float32
    assert (single - coverage).abs().max() < 2e-4
    assert single.min() > -1e-5


def test_supersampled_winding_number_agrees():
    vertices, faces = ventricle(rows=10, columns=24)
    plane = oblique_plane(5, (0.0, 0.0, -25.0), (30, 36))
    plane[:, :2] *= 2
    plane[:, 3] -= plane[:, :2] @ torch.tensor([7.0, 9.0], dtype=torch.float64)
    coverage = plane_coverage(vertices, faces, plane[None], (30, 36))[0].numpy()
    slow = supersampled_coverage(vertices.numpy(), faces.numpy(), plane.numpy(), (30, 36))
    on_outline = (slow > 1e-6) & (slow < 1 - 1e-6)
    assert on_outline.sum() > 40
    assert np.abs(coverage - slow)[on_outline].max() < 0.04
    assert np.abs(coverage - slow)[~on_outline].max() < 0.01
    assert np.abs(coverage - slow).mean() < 1e-3


def test_area_is_that_of_trimesh_section():
    trimesh = pytest.importorskip("trimesh", reason="independent oracle of sections")
    vertices, faces = ventricle(jitter=0.8)
    solid = trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)
    for seed in range(8):
        plane = oblique_plane(seed, (1.0, -2.0, -35.0), (200, 200))
        normal = torch.linalg.cross(plane[:, 0], plane[:, 1])
        area_mm2 = (plane_coverage(vertices, faces, plane[None], (200, 200)).sum() * normal.norm()).item()
        outline = solid.section(plane_normal=normal.numpy(), plane_origin=plane[:, 3].numpy())
        loops = [np.linalg.norm(np.cross(loop[:-1], loop[1:]).sum(0)) / 2 for loop in outline.discrete]
        assert area_mm2 == pytest.approx(2 * max(loops) - sum(loops), rel=1e-7)  # one loop, or the cavity in the wall


def test_directional_derivative_is_that_of_central_differences_in_vertices_and_pose():
    vertices, faces = ventricle(rows=12, columns=20, jitter=0.7)
    planes = torch.stack([oblique_plane(seed, (0.0, 0.0, -40.0), (60, 70)) for seed in range(4)])
    weight = torch.randn(4, 60, 70, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def functional(points, poses):
        return (
            plane_coverage(points, faces, poses, (60, 70), slab_mm=[4.0, 0.0, 2.0, 1.0], sub_planes=3) * weight
        ).sum()

    assert directional_error(functional, [vertices, planes], 1e-7) < 1e-5
    assert directional_error(lambda points: functional(points, planes), [vertices], 1e-7) < 1e-5
    assert directional_error(lambda poses: functional(vertices, poses), [planes], 1e-7) < 1e-5


def test_smooth_functional_has_the_derivative_of_central_differences_to_1e_8():
    vertices, faces = ventricle(rows=12, columns=20, jitter=0.7)
    plane = oblique_plane(3, (0.0, 0.0, -40.0), (150, 150))[None]
    error = directional_error(lambda points: plane_coverage(points, faces, plane, (150, 150)).sum(), [vertices], 1e-4)
    assert error < 1e-8


def test_gradcheck_of_autograd_passes():
    vertices, faces = sphere(0, radius=4.0)
    vertices = vertices @ random_rotation(2).T
    planes = torch.stack([oblique_plane(seed, (0.1, 0.2, 0.3), (7, 8)) for seed in range(2)])
    inputs = (vertices.requires_grad_(), planes.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda points, poses: plane_coverage(points, faces, poses, (7, 8), slab_mm=1.0, sub_planes=2),
        inputs,
        eps=1e-7,
        atol=1e-5,
    )


def test_area_does_not_change_with_in_plane_translation():
    vertices, faces = ventricle()
    plane = oblique_plane(1, (0.0, 0.0, -40.0), (150, 150))
    vertices.requires_grad_()
    (gradient,) = torch.autograd.grad(plane_coverage(vertices, faces, plane[None], (150, 150)).sum(), vertices)
    assert (gradient.sum(0) @ plane[:, :2]).abs().max() < 1e-10


def test_area_grows_with_scale_twice_as_fast_as_itself():
    vertices, faces = sphere()
    plane = axial_plane(0.0, 80)[None]
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    area = plane_coverage(scale * vertices, faces, plane, (80, 80)).sum()
    area.backward()
    assert scale.grad.item() == pytest.approx(2 * area.item(), rel=1e-12)


@pytest.mark.parametrize("level, error", [(3, 5.2e-3), (4, 1.3e-3), (5, 3.3e-4)])
@pytest.mark.parametrize("height", [0.0, 11.0])
def test_sphere_has_a_disc_of_known_area_and_known_growth(level, error, height):
    vertices, faces = sphere(level, radius=1.0)
    radius = torch.tensor(30.0, dtype=torch.float64, requires_grad=True)
    area = plane_coverage(radius * vertices, faces, axial_plane(height, 70)[None], (70, 70)).sum()
    area.backward()
    assert area.item() == pytest.approx(math.pi * (900 - height**2), rel=1.5 * error)
    assert radius.grad.item() == pytest.approx(2 * math.pi * 30, rel=2 * error)
    if height == 0:  # error falls by 4 with every refinement
        assert 1 - area.item() / (math.pi * 900) == pytest.approx(error, rel=0.1)


def test_ellipsoid_has_an_ellipse_of_known_area():
    vertices, faces = sphere(5, radius=1.0)
    axes = torch.tensor([30.0, 20.0, 40.0], dtype=torch.float64)
    area = plane_coverage(vertices * axes, faces, axial_plane(10.0, 70)[None], (70, 70)).sum()
    assert area.item() == pytest.approx(math.pi * 600 * (1 - (10 / 40) ** 2), rel=1e-3)


def test_cone_has_a_polygon_of_exactly_known_area():
    count = 60
    angle = torch.arange(count, dtype=torch.float64) * 2 * math.pi / count
    ring = torch.stack([20 * torch.cos(angle), 20 * torch.sin(angle), torch.zeros(count)], 1)
    vertices = torch.cat([ring, torch.tensor([[0, 0, 40.0], [0, 0, 0]], dtype=torch.float64)])
    here, there = torch.arange(count), (torch.arange(count) + 1) % count
    tip, foot = torch.full((count,), count), torch.full((count,), count + 1)
    faces = torch.cat([torch.stack([here, there, tip], 1), torch.stack([there, here, foot], 1)])
    for height in (0.0, 10.0, 30.0):
        radius = 20 * (1 - height / 40)
        expected = 0.5 * count * radius**2 * math.sin(2 * math.pi / count)
        area = plane_coverage(vertices, faces, axial_plane(height + 1e-9, 50)[None], (50, 50)).sum()
        assert area.item() == pytest.approx(expected, rel=1e-8)


def test_torus_is_cut_into_two_discs():
    vertices, faces = torus()
    plane = torch.tensor([[1.0, 0, 0, -39.5], [0, 0, -1, 0.1], [0, 1, 0, -19.5]], dtype=torch.float64)
    coverage = plane_coverage(vertices, faces, plane[None], (80, 40))[0]
    disc = 0.5 * 48 * 64 * math.sin(2 * math.pi / 48)
    assert coverage[:40].sum().item() == pytest.approx(disc, rel=2e-3)
    assert coverage[40:].sum().item() == pytest.approx(disc, rel=2e-3)
    assert coverage[37:43].abs().max() < 1e-13


def test_nested_spheres_of_opposite_orientation_make_a_ring():
    vertices, faces = sphere(4)
    both = torch.cat([vertices, 0.5 * vertices])
    shell = torch.cat([faces, faces.flip(1) + len(vertices)])
    coverage = plane_coverage(both, shell, axial_plane(0.0, 70)[None], (70, 70))[0]
    assert coverage.sum().item() == pytest.approx(math.pi * (900 - 225), rel=2e-3)
    assert coverage[35, 35].abs() < 1e-13
    assert coverage[35, 35 + 22] == pytest.approx(1, abs=1e-13)


def test_open_sheets_with_the_same_rim_give_the_image_of_the_welded_mesh():
    planes = torch.stack([oblique_plane(seed, (0.0, 0.0, -10.0), (90, 90)) for seed in range(5)])
    welded = plane_coverage(*ventricle(), planes, (90, 90))
    open_sheets = plane_coverage(*ventricle(welded=False), planes, (90, 90))
    assert (welded - open_sheets).abs().max() < 1e-12


def test_reversed_faces_change_the_sign():
    vertices, faces = ventricle()
    planes = oblique_plane(2, (0.0, 0.0, -30.0), (80, 80))[None]
    forward = plane_coverage(vertices, faces, planes, (80, 80))
    assert torch.allclose(plane_coverage(vertices, faces.flip(1), planes, (80, 80)), -forward, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_planes_through_rings_caps_and_vertices_give_closed_outlines_and_finite_gradients(dtype):
    vertices, faces = ventricle(rows=18, columns=36, dtype=dtype)
    rings = vertices[::36][:18, 2].tolist()
    planes = torch.stack([axial_plane(height, 90, dtype=dtype) for height in [*rings, -90.0, -82.0]])
    through_axis = torch.tensor([[1.0, 0, 0, -44.5], [0, 0, 1, 0], [0, 1, 0, -94.5]], dtype=dtype)
    vertices.requires_grad_()
    for poses in (planes, through_axis[None]):
        coverage = plane_coverage(vertices, faces, poses, (90, 100))
        assert torch.isfinite(coverage).all()
        assert coverage.min() > -1e-4
        assert coverage.max() < 1 + 1e-4
        assert coverage[:, :, -1].abs().max() < 1e-4  # an open outline would leave a streak to the border
        (gradient,) = torch.autograd.grad((coverage**2).sum(), vertices)
        assert torch.isfinite(gradient).all()


def test_the_flat_base_is_in_the_plane_and_below_it_but_not_above():
    vertices, faces = ventricle()
    areas = [plane_coverage(vertices, faces, axial_plane(z, 90)[None], (90, 90)).sum().item() for z in (0, -1e-9, 1e-9)]
    ring = 0.5 * 40 * math.sin(2 * math.pi / 40) * (36**2 - 27**2)
    assert areas == pytest.approx([ring, ring, 0.0], rel=1e-7, abs=1e-12)


def test_areas_of_a_fine_stack_sum_to_the_volume():
    vertices, faces = ventricle(rows=30, columns=60)
    step = 0.25
    affine = torch.cat([axial_plane(-91.0 + step / 2, 80), torch.tensor([[0, 0, 0, 1.0]])])
    affine[2, 2] = step
    volume = step * stack_coverage(vertices, faces, affine, (80, 80, 368)).sum().item()
    corners = vertices[faces]
    exact = (torch.linalg.cross(corners[:, 0], corners[:, 1]) * corners[:, 2]).sum().item() / 6
    assert volume == pytest.approx(exact, rel=1e-3)


def test_mesh_and_plane_that_move_together_give_the_same_image():
    vertices, faces = ventricle()
    plane = oblique_plane(6, (0.0, 0.0, -30.0), (80, 90))
    still = plane_coverage(vertices, faces, plane[None], (80, 90))
    for seed in range(3):
        rotation, shift = random_rotation(seed), torch.tensor([11.0, -200.0, 37.0], dtype=torch.float64)
        moved_plane = rotation @ plane
        moved_plane[:, 3] += shift
        moved = plane_coverage(vertices @ rotation.T + shift, faces, moved_plane[None], (80, 90))
        assert (moved - still).abs().max() < 1e-10


def test_lps_and_ras_give_the_same_image():
    vertices, faces = ventricle()
    plane = oblique_plane(6, (0.0, 0.0, -30.0), (80, 90))
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
    ras = plane_coverage(vertices, faces, plane[None], (80, 90))
    lps = plane_coverage(vertices * flip, faces, (flip[:, None] * plane)[None], (80, 90))
    assert (ras - lps).abs().max() < 1e-11


def test_swapped_or_reversed_pixel_axes_only_rearrange_the_image():
    vertices, faces = ventricle()
    plane = oblique_plane(7, (0.0, 0.0, -30.0), (80, 90))
    image = plane_coverage(vertices, faces, plane[None], (80, 90))[0]
    swapped = plane_coverage(vertices, faces, plane[None][..., [1, 0, 2, 3]], (90, 80))[0]
    assert (swapped.T - image).abs().max() < 1e-11
    reversed_i = plane.clone()
    reversed_i[:, 3] += 79 * plane[:, 0]
    reversed_i[:, 0] *= -1
    assert (plane_coverage(vertices, faces, reversed_i[None], (80, 90))[0].flip(0) - image).abs().max() < 1e-11


def test_parts_outside_of_the_image_leave_the_rest_as_it_is():
    vertices, faces = ventricle()
    plane = oblique_plane(4, (0.0, 0.0, -40.0), (120, 120))
    whole = plane_coverage(vertices, faces, plane[None], (120, 120))[0]
    for i, j in ((0, 55), (55, 0), (60, 60), (30, 30)):
        part = plane.clone()
        part[:, 3] += plane[:, 0] * i + plane[:, 1] * j
        cut = plane_coverage(vertices, faces, part[None], (25, 35))[0]
        assert (cut - whole[i : i + 25, j : j + 35]).abs().max() < 1e-12
        points = vertices.clone().requires_grad_()
        part_of_whole = plane_coverage(points, faces, plane[None], (120, 120))[0, i : i + 25, j : j + 35]
        (expected,) = torch.autograd.grad((part_of_whole**2).sum(), points)
        (gradient,) = torch.autograd.grad((plane_coverage(points, faces, part[None], (25, 35)) ** 2).sum(), points)
        assert (gradient - expected).abs().max() < 1e-10


def test_large_faces_over_many_pixels_are_exact():
    vertices, faces = sphere(0, radius=40.0)
    plane = oblique_plane(8, (0.0, 0.0, 5.0), (90, 110))
    coverage = plane_coverage(vertices, faces, plane[None], (90, 110))[0].numpy()
    expected = shoelace(section(vertices.numpy(), faces.numpy(), plane.numpy()))
    assert coverage.sum() == pytest.approx(expected, rel=1e-12)
    assert np.percentile(coverage, 1) > -1e-13


def test_a_slab_is_the_mean_of_its_planes():
    vertices, faces = ventricle()
    plane = oblique_plane(3, (0.0, 0.0, -20.0), (80, 80))
    normal = torch.linalg.cross(plane[:, 0], plane[:, 1])
    normal = normal / normal.norm()
    singles = []
    for offset in (-8 / 3, 0.0, 8 / 3):
        moved = plane.clone()
        moved[:, 3] += offset * normal
        singles.append(plane_coverage(vertices, faces, moved[None], (80, 80)))
    slab = plane_coverage(vertices, faces, plane[None], (80, 80), slab_mm=8.0, sub_planes=3)
    assert (slab - torch.stack(singles).mean(0)).abs().max() < 1e-12


def test_the_third_column_of_a_plane_has_no_say():
    vertices, faces = ventricle()
    plane = oblique_plane(3, (0.0, 0.0, -20.0), (40, 40))
    other = plane.clone()
    other[:, 2] = 7.0
    pair = plane_coverage(vertices, faces, torch.stack([plane, other]), (40, 40), slab_mm=6.0)
    assert torch.equal(pair[0], pair[1])


@pytest.mark.parametrize("sub_planes, slab_mm", [(1, 0.0), (4, 8.0), (3, 30.0)])
@pytest.mark.parametrize("sheared", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_stack_is_its_slices_one_by_one(sub_planes, slab_mm, sheared, reverse):
    vertices, faces = ventricle(jitter=0.8)
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3] = oblique_plane(9, (0.0, 0.0, -40.0), (60, 50))
    affine[:3, 2] *= -9.0 if reverse else 9.0
    affine[:3, 3] -= 3 * affine[:3, 2]
    if sheared:
        affine[:3, 2] += 0.4 * affine[:3, 0] - 0.1 * affine[:3, 1]
    planes = affine[:3].repeat(7, 1, 1)
    planes[:, :, 3] += torch.arange(7)[:, None] * affine[:3, 2]
    points, pose, poses = (value.requires_grad_() for value in (vertices, affine, planes))
    stack = stack_coverage(points, faces, pose, (60, 50, 7), slab_mm, sub_planes)
    single = plane_coverage(points, faces, poses, (60, 50), slab_mm, sub_planes)
    assert (stack.movedim(-1, 0) - single).abs().max() < 1e-12
    weight = torch.randn(60, 50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_stack = torch.autograd.grad((stack * weight).sum(), (points, pose))
    by_plane = torch.autograd.grad((single * weight.movedim(-1, 0)).sum(), (points, poses))
    assert (by_stack[0] - by_plane[0]).abs().max() < 1e-9
    assert torch.allclose(by_stack[1][:3, [0, 1, 3]], by_plane[1].sum(0)[:, [0, 1, 3]], atol=1e-8)
    index = torch.arange(7, dtype=torch.float64)[:, None]
    assert torch.allclose(by_stack[1][:3, 2], (by_plane[1][..., 3] * index).sum(0), atol=1e-8)


def test_frames_and_planes_in_a_batch_are_those_one_by_one():
    vertices, faces = ventricle()
    frames = torch.stack([vertices * scale for scale in (1.0, 0.9, 0.8)])  # [T, V, 3]
    planes = torch.stack([oblique_plane(seed, (0.0, 0.0, -30.0), (50, 60)) for seed in range(4)])
    together = plane_coverage(frames, faces, planes, (50, 60), slab_mm=4.0, sub_planes=2)
    assert together.shape == (3, 4, 50, 60)
    for frame in range(3):
        for plane in range(4):
            alone = plane_coverage(frames[frame], faces, planes[plane][None], (50, 60), slab_mm=4.0, sub_planes=2)
            assert (together[frame, plane] - alone[0]).abs().max() < 1e-12
    each_its_own = plane_coverage(frames[:, None], faces, planes[None].expand(3, 4, 3, 4)[:, None], (50, 60))
    assert each_its_own.shape == (3, 1, 4, 50, 60)


def test_more_planes_than_bits_are_drawn():
    vertices, faces = sphere(2)
    planes = torch.stack([axial_plane(height, 70) for height in np.linspace(-29, 29, 150)])
    many = plane_coverage(vertices, faces, planes, (70, 70))
    for index in (0, 61, 62, 63, 124, 149):
        assert torch.allclose(many[index], plane_coverage(vertices, faces, planes[index][None], (70, 70))[0])


def test_a_mesh_out_of_view_gives_zeros_and_no_gradient():
    vertices, faces = sphere()
    vertices.requires_grad_()
    coverage = plane_coverage(vertices, faces, axial_plane(50.0, 30)[None], (30, 30))
    assert (coverage == 0).all()
    (gradient,) = torch.autograd.grad(coverage.sum(), vertices)
    assert (gradient == 0).all()


def test_through_plane_shift_is_recovered_where_vertices_lie_in_rings():
    vertices, faces = ventricle(rows=30, columns=40)
    planes = torch.stack([axial_plane(height, 80) for height in range(-85, 0, 8)])
    target = plane_coverage(vertices, faces, planes, (80, 80))
    shifts = torch.linspace(-3, 3, 25, dtype=torch.float64)
    loss = torch.stack(
        [
            (
                (plane_coverage(vertices + vertices.new_tensor([0, 0, shift]), faces, planes, (80, 80)) - target) ** 2
            ).mean()
            for shift in shifts.tolist()
        ]
    )
    assert shifts[loss.argmin()].abs() < 1e-9
    assert (loss[:12].diff() < 0).all()
    assert (loss[13:].diff() > 0).all()


def test_what_cannot_be_drawn_is_refused():
    vertices, faces = sphere(1)
    plane = axial_plane(0.0, 30)[None]
    broken = vertices.clone()
    broken[3, 1] = float("nan")
    with pytest.raises(ValueError, match="1 vertices are not finite"):
        plane_coverage(broken, faces, plane, (30, 30))
    with pytest.raises(ValueError, match=r"float32 or float64, but they are torch.float16"):
        plane_coverage(vertices.half(), faces, plane, (30, 30))
    with pytest.raises(ValueError, match=r"faces name vertices 1 to 42, but there are 42"):
        plane_coverage(vertices, faces + 1, plane, (30, 30))
    with pytest.raises(ValueError, match=r"planes must be .* shape is \(3, 4\)"):
        plane_coverage(vertices, faces, plane[0], (30, 30))
    missing = torch.cat([plane, torch.zeros_like(plane)])
    with pytest.raises(ValueError, match=r"of plane 1 .* span no plane"):
        plane_coverage(vertices, faces, missing, (30, 30))
    with pytest.raises(ValueError, match="slab_mm must be one number or 1"):
        plane_coverage(vertices, faces, plane, (30, 30), slab_mm=[1.0, 2.0])
    with pytest.raises(ValueError, match="must not be negative"):
        plane_coverage(vertices, faces, plane, (30, 30), slab_mm=-1.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_same_image_and_gradient():
    vertices, faces = ventricle()
    planes = torch.stack([oblique_plane(seed, (0.0, 0.0, -30.0), (50, 60)) for seed in range(4)])
    results = []
    for device in ("cpu", "cuda"):
        points = vertices.to(device).requires_grad_()
        coverage = plane_coverage(points, faces.to(device), planes.to(device), (50, 60), slab_mm=4.0)
        (coverage**2).sum().backward()
        results.append((coverage.detach().cpu(), points.grad.cpu()))
    assert (results[0][0] - results[1][0]).abs().max() < 1e-11
    assert (results[0][1] - results[1][1]).abs().max() < 1e-9
