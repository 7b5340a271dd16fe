"""Volume, thickness, strain, axes, segments and function against shapes whose measures are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from matplotlib import colormaps

from clinbundles.phantoms.heart import mean_heart
from clinbundles.phantoms.heart.heart_mesh import heart_mesh
from clinbundles.rasterizer.aha_segments import aha_segments, segment_means
from clinbundles.rasterizer.bulls_eye import bulls_eye_figure, draw_bulls_eye
from clinbundles.rasterizer.long_axis import LongAxis, long_axis_of
from clinbundles.rasterizer.mesh_file import read_mesh
from clinbundles.rasterizer.mesh_volume import boundary_loops, cavity_volume, signed_volume
from clinbundles.rasterizer.strain import (
    engineering_strain,
    faces_to_vertices,
    green_lagrange,
    strain_along,
    stretch_strain,
    surface_strain,
    triangle_areas,
)
from clinbundles.rasterizer.ventricular_function import ventricular_function, volume_curve_figure
from clinbundles.rasterizer.wall_thickness import distance_to_surface, wall_thickness

AXIS = LongAxis(np.array([0.0, 0, -80]), np.zeros(3), np.array([-10.0, -10, -30]))


@pytest.fixture(scope="module")
def heart():
    return mean_heart()


@pytest.fixture(scope="module")
def shell(heart):
    return heart_mesh(heart, rows=40, columns=96, seed=1)


def endo(shell):
    return shell.faces[(shell.surface[shell.faces] == 1).all(1)]


def ball(radius, subdivisions=4):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return torch.tensor(np.array(mesh.vertices)), torch.tensor(np.array(mesh.faces))


def test_volume_of_a_ball_and_its_gradient():
    vertices, faces = ball(30.0)
    vertices.requires_grad_()
    volume = signed_volume(vertices, faces)
    assert float(volume.detach()) == pytest.approx(4 / 3 * np.pi * 30**3, rel=3e-3)
    volume.backward()
    # growing by dr changes the volume by 3 V / r
    assert float((vertices.grad * vertices.detach() / 30).sum()) == pytest.approx(3 * float(volume.detach()) / 30)


def test_volume_does_not_depend_on_the_place_in_float32():
    vertices, faces = ball(30.0)
    far = (vertices + torch.tensor([200.0, -150, 90])).float()
    assert float(signed_volume(far, faces)) == pytest.approx(float(signed_volume(vertices, faces)), rel=1e-5)


def test_open_half_ball_is_closed_at_its_rim_whatever_way_its_faces_turn():
    vertices, faces = ball(30.0)
    lower = faces[(vertices[faces][:, :, 2] <= 1e-6).all(1)]
    assert len(boundary_loops(lower)) == 1
    whole = float(signed_volume(vertices, faces))
    assert float(cavity_volume(vertices, lower)) == pytest.approx(whole / 2, rel=0.03)
    assert float(cavity_volume(vertices, lower.flip(1))) == pytest.approx(whole / 2, rel=0.03)
    assert float(cavity_volume(vertices, faces)) == pytest.approx(whole)


def test_faces_that_are_turned_both_ways_have_no_rim():
    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [3, 2, 4]])  # the last one is turned over
    with pytest.raises(ValueError, match="faces must be turned consistently"):
        boundary_loops(faces)


def test_two_rims_are_both_closed():
    tube = trimesh.creation.cylinder(radius=10, height=40, sections=64)
    sides = np.asarray(tube.faces)[np.abs(tube.face_normals[:, 2]) < 0.5]
    volume = cavity_volume(torch.tensor(np.array(tube.vertices)), torch.tensor(sides))
    assert float(volume.detach()) == pytest.approx(abs(tube.volume), rel=1e-9)


def test_volumes_of_the_heart_are_its_own_at_every_time(heart, shell):
    faces = torch.as_tensor(shell.faces)
    for time in (0.0, heart.end_systole, 0.7):
        vertices = torch.as_tensor(shell.at(heart, time))
        cavity, muscle, _ = heart.volumes(time)
        assert float(cavity_volume(vertices, torch.as_tensor(endo(shell)))) / 1000 == pytest.approx(cavity, rel=0.015)
        assert float(signed_volume(vertices, faces)) / 1000 == pytest.approx(muscle, rel=0.01)


def test_ejection_fraction_from_meshes_is_that_of_the_heart(heart, shell):
    times = [0.0, 0.2, heart.end_systole, 0.6, 0.8]
    faces = torch.as_tensor(endo(shell))
    volumes = [float(cavity_volume(torch.as_tensor(shell.at(heart, time)), faces)) / 1000 for time in times]
    function = ventricular_function(volumes, [heart.volumes(t)[1] for t in times])
    assert (function.ed_frame, function.es_frame) == (0, 2)
    assert function.ejection_fraction == pytest.approx(heart.ejection_fraction, abs=0.005)
    assert function.mass_g == pytest.approx(heart.mass_g)
    assert function.stroke_volume_ml == pytest.approx(volumes[0] - volumes[2])


def test_volumes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="positive mL"):
        ventricular_function([100.0, np.nan])


def test_volume_curve_shows_the_volumes():
    figure = volume_curve_figure(np.array([120.0, 50, 90]), np.array([0.0, 300, 600]), myocardium_ml=np.full(3, 110.0))
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [120, 50, 90])
    assert "EF 58 %" in figure.axes[0].get_title()


def test_distance_to_a_surface_is_that_to_its_nearest_point_not_vertex():
    square = np.array([[0.0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    points = np.array([[5.0, 4, 3], [13, 5, 4], [-3, -4, 0], [2, 8, 0]])
    np.testing.assert_allclose(distance_to_surface(points, square, faces), [3, 5, 5, 0], atol=1e-12)


def test_thickness_of_a_spherical_shell():
    inner, faces = ball(25.0)
    outer, _ = ball(34.0)
    frames = np.stack([np.concatenate([inner, outer]), np.concatenate([0.8 * inner, outer])])
    found = wall_thickness(frames, np.arange(len(inner)), np.asarray(faces) + len(inner))
    np.testing.assert_allclose(found[0], 9, atol=0.06)
    np.testing.assert_allclose(found[1], 14, atol=0.06)


def rotation(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def test_rotation_strains_nothing():
    gradient = torch.as_tensor(rotation(0.7))
    assert green_lagrange(gradient).abs().max() < 1e-15
    vertices, faces = ball(30.0, 2)
    frames = np.stack([vertices.numpy(), vertices.numpy() @ rotation(0.7).T + [3, 4, 5]])
    directions = AXIS.wall_directions(vertices.numpy()[faces].mean(1))[:, 1:]
    assert np.abs(surface_strain(frames, faces.numpy(), directions)).max() < 1e-12


def test_stretch_along_the_axis_is_half_of_lambda_squared_minus_one():
    stretch = 1.2
    gradient = torch.diag(torch.tensor([1.0, 1.0, stretch], dtype=torch.float64))
    axes = torch.eye(3, dtype=torch.float64)
    expected = [0, 0, (stretch**2 - 1) / 2]
    np.testing.assert_allclose(strain_along(gradient, axes), expected, atol=1e-15)
    tube = trimesh.creation.cylinder(radius=20, height=60, sections=48)
    sides = np.asarray(tube.faces)[np.abs(tube.face_normals[:, 2]) < 0.5]
    vertices = np.asarray(tube.vertices)
    frames = np.stack([vertices, vertices * [0.9, 0.9, stretch]])
    directions = AXIS.wall_directions(vertices[sides].mean(1), tube.face_normals[np.abs(tube.face_normals[:, 2]) < 0.5])
    strain = surface_strain(frames, sides, directions)[1]
    np.testing.assert_allclose(strain[:, 2], (stretch**2 - 1) / 2, atol=1e-9)
    np.testing.assert_allclose(strain[:, 1], (0.81 - 1) / 2, atol=1e-9)


def test_engineering_strain_is_the_relative_change_of_length():
    lengths = np.array([10.0, 8.0, 13.0])
    np.testing.assert_allclose(engineering_strain(stretch_strain(lengths, lengths[:1])), [0, -0.2, 0.3], atol=1e-12)
    assert float(engineering_strain(torch.tensor((1.3**2 - 1) / 2))) == pytest.approx(0.3)


def test_surface_strain_is_that_of_the_simulated_heart(heart, shell):
    """Against F of the closed form at the endocardium, along the same directions."""
    faces = endo(shell)
    middle = shell.material[faces].mean(1)
    frames = np.stack([shell.at(heart, 0.0), shell.at(heart, heart.end_systole)])
    corners = frames[0][faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    axis = LongAxis(
        heart.to_spatial(np.array([[0, 0, -heart.anatomy.cavity_length]]), 0.0)[0],
        heart.landmark("base_centre"),
        heart.landmark("rv_insertion_anterior"),
    )
    directions = axis.wall_directions(corners.mean(1), normals)
    strain = surface_strain(frames, faces, directions)[1]
    # just inside the muscle, as triangles cut the corner
    depth = heart.to_material(corners.mean(1) - 1.0 * normals / np.linalg.norm(normals, axis=1)[:, None] * 0, 0.0)
    outside = depth * [1.03, 1.03, 1.0]
    gradient = heart.deformation_gradient(outside, heart.end_systole)
    known = np.isfinite(gradient).all((1, 2)) & (middle[:, 2] > -0.6 * heart.anatomy.length)
    turned = directions[known] @ heart.rotation
    stretched = np.einsum("nij,naj->nai", gradient[known], turned)
    true = 0.5 * ((stretched**2).sum(-1) - 1)
    for axis_number in (1, 2):
        error = strain[known][:, axis_number] - true[:, axis_number]
        assert abs(np.median(error)) < 0.02
        assert np.percentile(np.abs(error), 90) < 0.05


def test_constant_values_of_triangles_stay_constant_at_vertices():
    vertices, faces = ball(30.0, 2)
    areas = triangle_areas(vertices.numpy(), faces.numpy())
    assert areas.sum() == pytest.approx(4 * np.pi * 900, rel=0.05)
    found = faces_to_vertices(np.full((2, len(faces)), 0.3), faces.numpy(), areas, len(vertices) + 1)
    np.testing.assert_allclose(found[:, :-1], 0.3)
    assert np.isnan(found[:, -1]).all()


def test_long_axis_of_the_heart_is_found_from_its_mesh(heart, shell):
    vertices = shell.at(heart, 0.0)
    axis = long_axis_of(vertices, endo(shell), heart.landmark("rv_insertion_anterior"))
    assert np.linalg.norm(axis.base - heart.landmark("base_centre")) < 2.0
    assert axis.length == pytest.approx(heart.anatomy.cavity_length, abs=2.0)
    assert axis.direction @ heart.rotation[:, 2] > 0.99


def test_closed_endocardium_has_no_base():
    vertices, faces = ball(30.0, 2)
    with pytest.raises(ValueError, match="closed: expected it open at the base"):
        long_axis_of(vertices.numpy(), faces.numpy(), np.zeros(3))


def at(angle, depth):
    """A point of the wall at an angle from the insertion of AXIS, through the septum (x < 0), which is clockwise."""
    start = np.arctan2(-10, -10)
    turn = start - np.radians(angle)
    return [30 * np.cos(turn), 30 * np.sin(turn), -80 * depth]


def test_angle_starts_at_the_insertion_and_passes_through_the_septum_first():
    points = np.array([at(a, 0.5) for a in (0.01, 60, 170, 300)])
    np.testing.assert_allclose(AXIS.angle(points), [0.01, 60, 170, 300], atol=1e-6)


@pytest.mark.parametrize(
    ("angle", "depth", "segment"),
    [
        (30, 0.1, 2), (90, 0.1, 3), (150, 0.1, 4), (210, 0.1, 5), (270, 0.1, 6), (330, 0.1, 1),
        (30, 0.5, 8), (90, 0.5, 9), (150, 0.5, 10), (210, 0.5, 11), (270, 0.5, 12), (330, 0.5, 7),
        (60, 0.8, 14), (150, 0.8, 15), (240, 0.8, 16), (330, 0.8, 13), (10, 0.8, 13), (60, 0.97, 17), (30, -0.1, 2),
    ],
)  # fmt: skip
def test_segment_of_a_place_in_the_wall(angle, depth, segment):
    assert aha_segments(np.array([at(angle, depth)]), AXIS).tolist() == [segment]


def test_septal_wall_of_the_heart_is_septal(heart):
    """The septum faces the right ventricle: at -x of the heart's frame; lateral is +x, inferior +y."""
    axis = LongAxis(
        heart.to_spatial(np.array([[0, 0, -heart.anatomy.cavity_length]]), 0.0)[0],
        heart.landmark("base_centre"),
        heart.landmark("rv_insertion_anterior"),
    )
    spots = np.array([[-30.0, 0, -40], [30, 0, -40], [0, 30, -40], [0, -30, -40]])
    septal, lateral, inferior, anterior = aha_segments(heart.to_spatial(spots, 0.0), axis)
    assert septal in (8, 9)
    assert lateral in (11, 12)
    assert inferior in (9, 10)
    assert anterior in (7, 8, 12)


def test_means_of_segments_weigh_and_leave_out_what_is_not_known():
    values = np.array([[1.0, 3.0, np.nan, 7.0]])
    means = segment_means(values, np.array([1, 1, 1, 17]), np.array([1.0, 3.0, 9.0, 1.0]))
    assert means.shape == (1, 17)
    assert means[0, 0] == pytest.approx(2.5)
    assert means[0, 16] == 7
    assert np.isnan(means[0, 1:16]).all()


def test_bulls_eye_puts_each_value_at_its_place():
    values = np.arange(1.0, 18.0)
    values[4] = np.nan
    figure = bulls_eye_figure([("strain", values, "%", (0.0, 20.0))])
    patches = draw_bulls_eye(figure.axes[0], values, limits=(0.0, 20.0))
    for segment, patch in patches.items():
        expected = (0.8, 0.8, 0.8, 1.0) if segment == 5 else colormaps["viridis"](segment / 20)
        assert patch.get_facecolor() == pytest.approx(expected, abs=0.01)
    centres = {segment: (patch.theta1 + patch.theta2) / 2 % 360 for segment, patch in patches.items()}
    assert [centres[n] for n in (1, 2, 3, 4, 5, 6)] == [90, 150, 210, 270, 330, 30]  # anterior above, septum left
    assert [centres[n] for n in (13, 14, 15, 16)] == [90, 180, 270, 0]
    assert patches[1].r > patches[7].r > patches[13].r > patches[17].r


def test_bulls_eye_wants_17_values():
    with pytest.raises(ValueError, match=r"expected \(17,\)"):
        bulls_eye_figure([("strain", np.zeros(16), "%", None)])


def test_real_fitted_surfaces_have_plausible_volumes(real_data):
    """End-diastole and phase 10; a fan from one centre to both valves at once gives 172.6 and 75.7 mL."""
    frames = [read_mesh(real_data / f"patient1_LV_ENDOCARDIAL_{n:03d}.vtk", "LPS") for n in (0, 10)]
    assert [len(boundary_loops(mesh.faces)) for mesh in frames] == [2, 2]  # mitral and aortic valve
    volumes = [float(cavity_volume(torch.tensor(m.vertices), torch.tensor(m.faces))) / 1000 for m in frames]
    assert volumes == pytest.approx([174.5, 77.5], abs=0.1)
    assert ventricular_function(volumes).ejection_fraction == pytest.approx(0.556, abs=0.001)
