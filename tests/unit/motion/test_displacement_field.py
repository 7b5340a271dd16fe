"""Displacement fields: identities that hold exactly, or as far as trilinear interpolation allows."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch

from clinbundles.motion.displacement_field import (
    DisplacementField,
    compose,
    deformation_gradient_at,
    determinant,
    invert,
    invert_at,
    jacobian_determinant,
    sample_field,
    warp,
)
from clinbundles.motion.displacement_file import displacement_image, write_displacement
from clinbundles.motion.motion_errors import strain_at
from clinbundles.motion.motion_grid import grid_affine, grid_points, mm_to_normalised, normalised_to_mm, sample_at

SIZE = (20, 24, 12)
SPACING = (2.0, 2.5, 4.0)


def points_of(size=SIZE, spacing=SPACING):
    return grid_points(size, spacing, torch.float64)


def affine_field(matrix, size=SIZE, spacing=SPACING):
    """The field of x -> matrix x, on the grid."""
    points = points_of(size, spacing)
    moved = torch.einsum("cd,ijkd->ijkc", torch.as_tensor(matrix, dtype=torch.float64), points)
    return (moved - points).movedim(-1, 0)[None]


def swirl(strength, size=(32, 32, 16), spacing=(1.0, 1.0, 1.0)):
    """A smooth field that fades to zero before the border."""
    x, y, z = points_of(size, spacing).unbind(-1)
    bump = torch.exp(-(x**2 + y**2) / 30 - z**2 / 12)
    return (strength * torch.stack([-y * bump / 4, x * bump / 4, bump]))[None]


def test_grid_affine_takes_indices_to_the_places_of_voxels():
    index = torch.tensor([3.0, 5.0, 7.0, 1.0], dtype=torch.float64)
    assert torch.allclose((grid_affine(SIZE, SPACING) @ index)[:3], points_of()[3, 5, 7])


def test_mm_and_normalised_coordinates_go_round_trip_and_corners_are_voxel_centres():
    points = torch.rand(100, 3, dtype=torch.float64) * 50 - 25
    there = mm_to_normalised(points, SIZE, SPACING)
    assert torch.allclose(normalised_to_mm(there, SIZE, SPACING), points, atol=1e-12)
    assert torch.equal(mm_to_normalised(points_of()[-1, -1, -1], SIZE, SPACING), torch.ones(3, dtype=torch.float64))
    volume = torch.rand(1, 1, *SIZE, dtype=torch.float64)
    corner = points_of()[0, 0, 0]
    half = corner + torch.tensor([1.0, 0, 0], dtype=torch.float64)  # half a voxel along i
    expected = torch.stack([volume[0, 0, 0, 0, 0], volume[0, 0, :2, 0, 0].mean()])
    assert torch.allclose(sample_at(volume, torch.stack([corner, half])[None], SPACING)[0, 0], expected)


def test_zero_field_leaves_an_image_as_it_is():
    image = torch.rand(2, 3, *SIZE)
    assert torch.equal(warp(image, torch.zeros(2, 3, *SIZE), SPACING), image) or torch.allclose(
        warp(image, torch.zeros(2, 3, *SIZE), SPACING), image, atol=1e-5
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("voxels", [-2, 3])
def test_whole_voxel_field_moves_content_along_its_own_axis(axis, voxels):
    image = torch.rand(1, 1, *SIZE, dtype=torch.float64)
    field = torch.zeros(1, 3, *SIZE, dtype=torch.float64)
    field[:, axis] = voxels * SPACING[axis]
    expected = torch.roll(image, -voxels, dims=axis + 2)  # out(x) = image(x + field)
    inside = slice(3, -3)
    assert torch.allclose(
        warp(image, field, SPACING)[..., inside, inside, inside], expected[..., inside, inside, inside], atol=1e-12
    )


def test_linear_field_on_a_linear_image_is_exact():
    points = points_of()
    gradient = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    image = (points @ gradient)[None, None]
    matrix = torch.tensor([[0.9, 0.05, 0], [0, 0.92, 0.02], [0.01, 0, 0.95]], dtype=torch.float64)
    field = affine_field(matrix)
    expected = torch.einsum("ijkc,c->ijk", points + field[0].movedim(0, -1), gradient)
    inside = (slice(4, -4),) * 3
    assert torch.allclose(warp(image, field, SPACING)[0, 0][inside], expected[inside], atol=1e-9)


def test_field_sampled_at_points_is_constant_for_a_constant_field_even_beyond_the_grid():
    field = torch.tensor([1.0, -2.0, 3.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, *SIZE)
    places = torch.tensor([[[0.0, 0, 0], [1000.0, 0, 0], [3.3, -7.7, 2.2]]])
    assert torch.allclose(sample_field(field, places, SPACING), torch.tensor([1.0, -2.0, 3.0]).expand(1, 3, 3))


def test_jacobian_of_an_affine_field_is_the_determinant_of_its_matrix():
    matrix = np.array([[1.1, 0.2, 0.0], [-0.1, 0.9, 0.05], [0.02, 0.0, 1.2]])
    expected = torch.full(SIZE, np.linalg.det(matrix), dtype=torch.float64)
    assert torch.allclose(jacobian_determinant(affine_field(matrix), SPACING)[0], expected, atol=1e-10)
    places = torch.rand(1, 50, 3, dtype=torch.float64) * 10 - 5
    at = deformation_gradient_at(affine_field(matrix), places, SPACING)
    assert torch.allclose(at, torch.as_tensor(matrix).expand(1, 50, 3, 3), atol=1e-10)
    assert torch.allclose(determinant(at, 2, 3), torch.linalg.det(at))


def test_jacobian_error_of_an_incompressible_field_shrinks_with_the_square_of_the_grid():
    def wall_error(step):
        """Of r'^2 = r^2 - 150 mm^2 with all lengths kept, at r from 20 to 30 mm: the heart's own motion in the wall."""
        size = (round(72 / step), round(72 / step), 4)
        x, y, z = points_of(size, (step,) * 3).unbind(-1)
        radius = (x**2 + y**2).sqrt()
        scale = (1 - 150 / radius.clamp(min=15) ** 2).sqrt()
        field = torch.stack([x * (scale - 1), y * (scale - 1), torch.zeros_like(z)])[None]
        wall = (radius > 20) & (radius < 30)
        return float((jacobian_determinant(field, (step,) * 3)[0][wall] - 1).abs().mean())

    coarse, fine = wall_error(2.0), wall_error(1.0)
    assert fine < 0.02
    assert 3 < coarse / fine < 5


def test_fixed_point_inverse_undoes_a_field():
    field = swirl(1.5)
    residual = compose(invert(field, (1.0,) * 3), field, (1.0,) * 3)[..., 4:-4, 4:-4, 4:-4]
    assert residual.abs().max() < 0.05  # trilinear resampling of the field itself
    places = torch.rand(1, 200, 3, dtype=torch.float64) * 10 - 5
    back = places + invert_at(field, places, (1.0,) * 3)
    again = back + sample_field(field, back, (1.0,) * 3)
    assert (again - places).abs().max() < 0.01


def test_composition_of_translations_adds_them():
    one = torch.tensor([1.0, 2.0, -1.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, *SIZE)
    two = torch.tensor([0.5, -3.0, 4.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, *SIZE)
    assert torch.allclose(compose(one, two, SPACING), one + two)


@pytest.mark.parametrize("domain", ["ed", "t"])
def test_points_go_to_t_and_back_on_either_domain(domain):
    field = DisplacementField(swirl(1.5), domain, (1.0, 1.0, 1.0))
    places = torch.rand(1, 100, 3, dtype=torch.float64) * 8 - 4
    there = field.from_ed(places)
    assert (there - places).abs().max() > 0.3
    assert (field.to_ed(there) - places).abs().max() < 1e-3
    other = field.on("t" if domain == "ed" else "ed")
    assert other.domain != domain
    assert (other.from_ed(places) - there).abs().max() < 0.1  # resampled


def test_field_with_an_unknown_domain_or_shape_is_refused():
    with pytest.raises(ValueError, match="domain 'ed' or 't', not on 'es'"):
        DisplacementField(swirl(1.0), "es")
    with pytest.raises(ValueError, match=r"shape \(B, 3, I, J, K\), not \(3, 4, 4, 4\)"):
        DisplacementField(torch.zeros(3, 4, 4, 4), "ed")
    with pytest.raises(ValueError, match="on one grid"):
        warp(torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 3, 4, 4, 5))


@pytest.mark.parametrize("domain", ["ed", "t"])
def test_rotation_has_no_strain_and_a_stretch_its_own(domain):
    angle = 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    stretch = np.diag([1.0, 1.0, 0.8])
    places = torch.rand(1, 20, 3, dtype=torch.float64) * 6 - 3
    axes = torch.eye(3, dtype=torch.float64).expand(20, 3, 3)
    for matrix, expected in ((turn, [0, 0, 0]), (stretch, [0, 0, (0.8**2 - 1) / 2])):
        on_domain = matrix if domain == "ed" else np.linalg.inv(matrix)
        field = DisplacementField(affine_field(on_domain), domain, SPACING)
        strain = strain_at(field, places, axes)
        assert torch.allclose(strain, torch.tensor(expected, dtype=torch.float64).expand(1, 20, 3), atol=1e-6)


def test_warped_volume_is_the_integral_of_the_jacobian():
    """Volume at t of what is in the ball at end-diastole, by pulling the ball and by integrating det J over it."""
    field = swirl(2.0, (64, 64, 32))
    x, y, z = points_of((64, 64, 32), (1.0,) * 3).unbind(-1)
    ball = torch.sigmoid((6 - (x**2 + y**2 + z**2).sqrt()) * 4)[None, None]
    warped = warp(ball, invert(field, (1.0,) * 3), (1.0,) * 3).sum()
    integral = (jacobian_determinant(field, (1.0,) * 3) * ball[:, 0]).sum()
    assert abs(float(warped / integral) - 1) < 0.01


def test_written_field_is_in_scanner_space(tmp_path):
    turn = np.array([[0.0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]])
    vectors = torch.zeros(2, 3, *SIZE)
    vectors[1, 0] = 5.0  # along x of the exam frame, which is y of scanner space
    field = DisplacementField(vectors, "t", SPACING)
    write_displacement(tmp_path / "field.nii.gz", field, turn, frame_time_s=0.04)
    image = nibabel.load(tmp_path / "field.nii.gz")
    assert image.shape == (*SIZE, 2, 3)
    assert image.header["intent_code"] == 1007
    assert image.header.get_intent()[2] == "mm RAS on t"
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header.get_zooms()[3] == pytest.approx(0.04)
    values = np.asarray(image.dataobj)
    assert np.allclose(values[..., 1, :], [0, 5, 0])
    centre = (np.asarray(SIZE) - 1) / 2
    assert np.allclose(image.affine @ [*centre, 1], [10, 20, 30, 1])
    assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-4)


def test_one_frame_has_the_shape_that_viewers_take_for_a_vector_image():
    field = DisplacementField(torch.zeros(1, 3, *SIZE), "ed", SPACING)
    assert displacement_image(field, np.eye(4)).shape == (*SIZE, 1, 3)
