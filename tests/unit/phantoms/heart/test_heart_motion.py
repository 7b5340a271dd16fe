"""Truths of the heart's anatomy and motion."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, islice

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from clinbundles.phantoms.heart import Heart, draw_heart, heart_mesh, mean_heart
from clinbundles.phantoms.heart.anatomy import cavity_volume, muscle_volume, right_cavity_volume
from clinbundles.phantoms.heart.kinematics import segments
from clinbundles.phantoms.heart.rigid_motion import RigidMotion

TIMES = (0.0, 0.15, 0.36, 0.5, 0.75, 0.93)
HEARTS = {"healthy": draw_heart(1, "F"), "diseased": draw_heart(11, "M", diseased_share=1.0)}
HEARTS["late and weak"] = draw_heart(5)
_weak = HEARTS["late and weak"].motion._replace(delay=0.12, hypokinesia=0.8, bend=3.0)
HEARTS["late and weak"] = Heart(**{**vars(HEARTS["late and weak"]), "motion": _weak})


@pytest.fixture(params=HEARTS, scope="module")
def heart(request: pytest.FixtureRequest) -> Heart:
    return HEARTS[request.param]


def anywhere(heart: Heart, number: int = 4000) -> NDArray[np.float64]:
    """Material points in all parts of the heart and around it."""
    low = [-90.0, -90.0, -heart.anatomy.length - 10.0]
    return np.random.default_rng(0).uniform(low, [90.0, 90.0, 80.0], (number, 3))


def in_muscle(heart: Heart, number: int = 400) -> NDArray[np.float64]:
    tries = np.random.default_rng(1).uniform([-60.0, -60.0, -heart.anatomy.length], [60.0, 60.0, 0.0], (20 * number, 3))
    found = tries[heart.labels(heart.to_spatial(tries, 0.0), 0.0) == 2]
    assert len(found) >= number
    return found[:number]


def test_the_map_at_end_diastole_is_the_identity(heart: Heart) -> None:
    points = heart.to_spatial(anywhere(heart), 0.0)
    assert np.abs(heart.displacement(points, 0.0)).max() < 1e-10
    assert np.abs(heart.to_spatial(anywhere(heart), 1.0) - points).max() < 1e-10  # and the motion is periodic


@pytest.mark.parametrize("time", TIMES)
def test_the_inverse_map_undoes_the_map_everywhere(heart: Heart, time: float) -> None:
    material = anywhere(heart)
    spatial = heart.to_spatial(material, time)
    assert np.abs(heart.to_material(spatial, time) - material).max() < 1e-9
    assert np.abs(heart.pull_back(spatial, time) - heart.to_spatial(material, 0.0)).max() < 1e-9


@pytest.mark.parametrize("time", TIMES)
def test_muscle_keeps_its_volume_at_every_point(heart: Heart, time: float) -> None:
    gradients = heart.deformation_gradient(in_muscle(heart), time)
    assert np.abs(np.linalg.det(gradients) - 1.0).max() < 1e-9


@pytest.mark.parametrize("time", (0.15, 0.36, 0.75))
def test_the_gradient_is_that_of_the_map(heart: Heart, time: float) -> None:
    material, step = in_muscle(heart), 1e-5
    start = heart.to_spatial(material, 0.0)
    inside = heart.tissues(start, 0.0) == 2
    columns = [
        (heart.displacement(start + step * axis, time) - heart.displacement(start - step * axis, time)) / (2 * step)
        for axis in heart.rotation.T
    ]
    slow = np.stack(columns, -1)
    slow = np.einsum("ai,nib->nab", heart.pose(time)[:3, :3].T, slow + heart.rotation)
    # a point nearer to a surface than the step would mix two tissues
    exact = heart.deformation_gradient(material, time)
    error = np.abs(slow - exact).max((1, 2))[inside]
    assert np.quantile(error, 0.99) < 1e-6


def test_the_whole_heart_moves_without_strain(heart: Heart) -> None:
    still, material = replace(heart, rigid=RigidMotion.none()), in_muscle(heart)
    assert np.array_equal(heart.to_spatial(material, 0.0), still.to_spatial(material, 0.0))
    moved, alone = heart.to_spatial(material, 0.3), still.to_spatial(material, 0.3)
    assert np.abs(moved - alone).max() > 0.5
    assert pdist(moved) == pytest.approx(pdist(alone), abs=1e-9)
    assert np.array_equal(heart.strain(material, 0.3), still.strain(material, 0.3))
    assert heart.volumes(0.3) == still.volumes(0.3)


@pytest.mark.parametrize("time", (0.15, 0.36, 0.75))
def test_strain_is_the_lengthening_of_tracked_fibres(heart: Heart, time: float) -> None:
    material, step = in_muscle(heart), 1e-4
    start = heart.to_spatial(material, 0.0)
    axes = heart.local_axes(material) @ heart.rotation.T
    strain = heart.strain(material, time)
    for n in range(3):
        ends = [start + 0.5 * sign * step * axes[:, n] for sign in (-1.0, 1.0)]
        before, after = (
            np.linalg.norm(np.subtract(*[heart.to_spatial(heart.to_material(end, 0.0), t) for end in ends]), axis=-1)
            for t in (0.0, time)
        )
        error = np.abs(0.5 * ((after / before) ** 2 - 1.0) - strain[:, n])
        assert np.quantile(error, 0.99) < 1e-5


def test_wall_axes_are_a_right_handed_frame_and_radial_points_outward(heart: Heart) -> None:
    material = in_muscle(heart)
    axes = heart.local_axes(material)
    assert np.allclose(np.einsum("nai,nbi->nab", axes, axes), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(axes), 1.0)
    assert ((axes[:, 0, :2] * material[:, :2]).sum(-1) > 0).all()
    assert (axes[:, 2, 2] > 0).all()


def test_the_gradient_is_not_defined_outside_the_muscle() -> None:
    heart = HEARTS["healthy"]
    points = np.array([[0.0, 0.0, -20.0], [80.0, 0.0, -20.0], [30.0, 0.0, 5.0]])
    assert np.isnan(heart.deformation_gradient(points, 0.3)).all()


def test_radii_grow_with_the_material_radius_at_every_angle_and_height(heart: Heart) -> None:
    shape, motion = heart.anatomy, heart.motion
    for time in TIMES[1:]:
        beat = 1.0 - (heart.volumes(time)[2] / heart.volumes(0.0)[2])
        beat /= motion.rv_contraction
        for angle in np.linspace(-np.pi, np.pi, 37):
            for height in np.linspace(-shape.length + 0.01, shape.atrium_height, 41):
                inner, outer, right, now_inner, now_outer, now_right, slope = segments(
                    shape, motion, shape.length, angle, np.cos(angle), np.sin(angle), height, time, beat
                )
                assert 0.0 <= inner < outer <= right * (1.0 + 1e-12)
                assert 0.0 <= now_inner < now_outer <= now_right * (1.0 + 1e-12)
                assert (now_inner > 0.0) == (inner > 0.0)
                assert slope > 0.0


def test_ejection_fraction_is_the_weighted_contraction_and_as_given() -> None:
    heart = mean_heart("M")
    assert heart.ejection_fraction == pytest.approx(0.58, abs=1e-12)
    assert heart.edv_ml == pytest.approx(166.0, abs=1e-9)
    assert heart.mass_g == pytest.approx(103.0, abs=1e-9)
    assert heart.volumes(0.0)[2] == pytest.approx(182.0, abs=1e-6)
    end_systolic = heart.volumes(heart.end_systole)
    assert 1.0 - end_systolic[2] / heart.volumes(0.0)[2] == pytest.approx(0.54, abs=1e-12)
    assert 1.0 - end_systolic[0] / heart.edv_ml == pytest.approx(0.58, abs=1e-12)


def test_a_delayed_region_has_the_given_ejection_fraction_too() -> None:
    hearts = (draw_heart(seed, diseased_share=1.0) for seed in count())
    for heart in islice((heart for heart in hearts if heart.motion.delay > 0.0), 2):
        volumes = [heart.volumes(t)[0] for t in np.linspace(0, 1, 400)]
        assert 1.0 - min(volumes) / heart.edv_ml == pytest.approx(heart.ejection_fraction, abs=2e-4)


def test_volumes_are_those_of_the_exact_labels(heart: Heart) -> None:
    step = 1.5
    down = -heart.anatomy.length - 2.0
    grid = np.stack(np.meshgrid(*[np.arange(-96.0, 96.0, step)] * 2, np.arange(down, 4.0, step)), -1).reshape(-1, 3)
    grid += np.random.default_rng(0).uniform(0.0, step, grid.shape)  # else the flat base counts by whole layers
    for time in (0.0, heart.end_systole):
        labels = heart.labels(heart.to_world(grid, time), time)
        counted = np.bincount(labels, minlength=4)[1:] * step**3 / 1000.0
        # surface of some 150 cm2, error of a voxel's rounding averaged over thousands of voxels
        assert counted == pytest.approx(heart.volumes(time), rel=0.006)


def test_the_quadrature_has_converged(heart: Heart) -> None:
    shape = heart.anatomy
    inside = heart.volumes(0.0)
    assert inside[0] == pytest.approx(cavity_volume(shape), abs=1e-9)
    assert inside[1] == pytest.approx(muscle_volume(shape), abs=1e-9)
    assert inside[2] == pytest.approx(right_cavity_volume(shape), abs=1e-9)


def test_muscle_mass_is_constant_by_the_mesh_too(heart: Heart) -> None:
    mesh = heart_mesh(heart, rows=60, columns=120)

    def volume(time: float) -> float:
        corners = mesh.at(heart, time)[mesh.faces] - heart.landmark("base_centre")
        return float(np.linalg.det(corners).sum() / 6000.0)

    at_rest = volume(0.0)
    assert at_rest == pytest.approx(heart.volumes(0.0)[1], rel=0.003)
    assert [volume(t) for t in TIMES] == pytest.approx([at_rest] * len(TIMES), rel=1e-3)


def test_the_base_descends_towards_an_apex_that_stays() -> None:
    heart = mean_heart("F")
    base, apex = ([heart.landmark(name, t) for t in (0.0, heart.end_systole)] for name in ("base_centre", "apex"))
    descent = (base[0] - base[1]) @ heart.rotation[:, 2]
    assert descent == pytest.approx(heart.anatomy.length * heart.motion.shortening, abs=1e-9)
    assert 10.0 < descent < 18.0
    assert np.linalg.norm(apex[1] - apex[0]) < 1e-9


def test_the_roof_of_the_atrium_stays_while_the_base_descends() -> None:
    heart = mean_heart("F")
    roof = np.array([[3.0, 4.0, heart.anatomy.atrium_height]])
    assert np.abs(heart.to_spatial(roof, 0.36) - heart.to_spatial(roof, 0.0)).max() < 1e-9


def test_the_apex_turns_counter_clockwise_seen_from_the_apex() -> None:
    heart = mean_heart("M")
    point = heart.to_material(heart.landmark("rv_insertion_anterior")[None], 0.0)[0]
    low = point * [0.3, 0.3, 1.0] + [0.0, 0.0, 0.85 * -heart.anatomy.length - point[2]]
    turns = []
    for material in (low, point * [1.0, 1.0, 0.0]):
        moved = (heart.to_spatial(material[None], heart.end_systole)[0] - heart.base) @ heart.rotation
        turns.append(np.degrees(np.arctan2(moved[1], moved[0]) - np.arctan2(material[1], material[0])))
    assert turns[0] < -4.0  # the viewer looks along +z, so a negative turn about z looks counter-clockwise
    assert turns[1] > 2.0


def test_diseased_muscle_moves_less() -> None:
    heart = mean_heart("M")
    region = {"region_angle": 0.0, "region_height": -40.0, "region_width": 0.6, "region_length": 18.0}
    sick = Heart(**{**vars(heart), "motion": heart.motion._replace(hypokinesia=0.8, **region)})
    side = 0.5 * (heart.anatomy.radius + heart.anatomy.radius + heart.anatomy.wall)
    points = np.array([[side, 0.0, -40.0], [-side, 0.0, -40.0]])
    healthy_strain, sick_strain = heart.strain(points, 0.36)[:, 1], sick.strain(points, 0.36)[:, 1]
    assert sick_strain[0] > 0.4 * healthy_strain[0]  # shortens less than 40 %
    assert sick_strain[1] == pytest.approx(healthy_strain[1], rel=0.05)


def test_points_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(N, 3\)"):
        mean_heart().to_spatial(np.zeros(3), 0.0)
