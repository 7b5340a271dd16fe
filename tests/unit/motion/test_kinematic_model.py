"""The incompressible model of the ventricle and its fit to pictures."""

from __future__ import annotations

import math

import pytest
import torch

from clinbundles.motion.kinematic_model import PARAMETERS, SPREAD, KinematicModel, zero_motion
from clinbundles.motion.kinematic_refinement import Refinement, refine_motion
from clinbundles.motion.motion_grid import GRID_SIZE, grid_points

APEX, BASE = torch.tensor([3.0, -2.0, -45.0], dtype=torch.float64), torch.tensor([-1.0, 4.0, 42.0], dtype=torch.float64)
LENGTH = float((BASE - APEX).norm())


def ventricle(rows: int = 30, columns: int = 36, thickness: float = 0.0) -> torch.Tensor:
    """Points of a half ellipsoid about the axis, elliptic across."""
    upright = (BASE - APEX) / LENGTH
    first = torch.linalg.cross(upright, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    first = first / first.norm()
    second = torch.linalg.cross(upright, first)
    height = torch.linspace(0.02, 1.0, rows, dtype=torch.float64).repeat_interleave(columns)
    angle = torch.arange(columns, dtype=torch.float64).mul(2 * math.pi / columns).repeat(rows)
    radius = 25 * (1 - (1 - height).square()).sqrt() * (1 + 0.08 * (2 * angle).cos()) + thickness
    around = radius[:, None] * (angle.cos()[:, None] * first + angle.sin()[:, None] * second)
    return APEX + height[:, None] * LENGTH * upright + around


@pytest.fixture(scope="module")
def model() -> KinematicModel:
    return KinematicModel(APEX, BASE, ventricle())


def random_parameters(frames: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, len(PARAMETERS), generator=generator, dtype=torch.float64) * torch.tensor(SPREAD) * 0.5


def test_no_motion_moves_no_point(model: KinematicModel) -> None:
    points = torch.cat([ventricle(), ventricle(thickness=8.0), ventricle(thickness=-10.0)])
    assert (model(zero_motion(2, points), points) - points).abs().max() < 1e-9


def test_the_outline_passes_through_the_endocardium(model: KinematicModel) -> None:
    radius, outline, height = model.endocardial_radius(ventricle())
    assert ((radius - outline).abs() < 1.0).all()
    assert height.min() > 0


def test_the_wall_keeps_its_volume_whatever_the_parameters(model: KinematicModel) -> None:
    points = ventricle(12, 15, thickness=5.0)
    for parameters in random_parameters(4):
        jacobian = torch.func.vmap(
            torch.func.jacrev(lambda point, row=parameters: model(row[None], point[None])[0, 0])
        )(points)
        assert (torch.linalg.det(jacobian) - 1).abs().max() < 1e-6


def test_the_cavity_loses_the_share_that_contracts(model: KinematicModel) -> None:
    parameters = zero_motion(1, APEX)
    parameters[0, PARAMETERS.index("contraction")] = 0.6
    parameters[0, PARAMETERS.index("long_axis_log_scale")] = math.log(0.85)
    points = ventricle(12, 15, thickness=-9.0)[4 * 15 :]  # above the rows at the apex, which are narrower than that
    jacobian = torch.func.vmap(torch.func.jacrev(lambda point: model(parameters, point[None])[0, 0]))(points)
    assert torch.linalg.det(jacobian).numpy() == pytest.approx(0.4, abs=1e-6)


def test_gradients_of_the_parameters_are_those_of_finite_differences(model: KinematicModel) -> None:
    points = ventricle(5, 7, thickness=4.0)
    parameters = random_parameters(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: model(p, points), (parameters,), atol=1e-5)


def test_an_axis_that_is_no_ventricles_and_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="0 mm from apex to base: expected 30 to 160 mm"):
        KinematicModel(APEX, APEX + 0.1, ventricle())
    with pytest.raises(ValueError, match="6 points of the endocardium are too few"):
        KinematicModel(APEX, BASE, ventricle(2, 3))
    with pytest.raises(ValueError, match="expected steps of 0 or more"):
        Refinement(steps=-1)


@pytest.fixture(scope="module")
def moved_pictures(model: KinematicModel) -> tuple[KinematicModel, torch.Tensor, dict]:
    """A wall with a grain that moves by known parameters, seen in the stack and two long-axis planes."""
    single = KinematicModel(APEX.float(), BASE.float(), ventricle().float())
    true = zero_motion(2, APEX.float())
    true[:, PARAMETERS.index("contraction")] = torch.tensor([0.25, 0.5])
    true[:, PARAMETERS.index("long_axis_log_scale")] = torch.tensor([-0.06, -0.12])

    def seen(points: torch.Tensor) -> torch.Tensor:
        """Brightness at end-diastole: cavity bright, wall dark, surroundings between."""
        radius, outline, height = single.endocardial_radius(points)
        wall = torch.sigmoid((outline + 9 - radius) / 1.0)
        cavity = torch.sigmoid((outline - radius) / 1.0) * torch.sigmoid((height - 0.02) * 60)
        return 0.5 - 0.35 * wall + 0.8 * cavity

    def backwards(points: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        guess = points.clone()
        for _ in range(60):
            guess = guess + 0.7 * (points - single(row[None], guess)[0])
        return guess

    def frames(points: torch.Tensor) -> torch.Tensor:
        return torch.stack([seen(points), *(seen(backwards(points, row)) for row in true)])

    grid = grid_points().reshape(-1, 3)
    image = frames(grid).reshape(3, *GRID_SIZE)
    poses = []
    for x, y in ((1.0, 0.0), (0.3, 0.954)):
        inward = torch.tensor([[x, y, 0.0], [0.0, 0.0, 1.0], [-y, x, 0.0]])
        rows = torch.cat([inward[:2] / 2, inward[2:]])
        poses.append(torch.cat([rows, torch.tensor([[31.5], [31.5], [0.0]])], dim=1))
    for level in range(-3, 4):
        rows = torch.diag(torch.tensor([0.5, 0.5, 1.0]))
        poses.append(torch.cat([rows, torch.tensor([[31.5], [31.5], [-12.0 * level]])], dim=1))
    pixel = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), torch.zeros(1), indexing="ij"), -1)
    planes = []
    for pose in poses:
        points = torch.linalg.solve(pose[:, :3], (pixel.reshape(-1, 3) - pose[:, 3]).T).T
        planes.append(frames(points).reshape(3, 64, 64))
    pictures = {"image": image, "planes": torch.stack(planes, 1), "planes_pose": torch.stack(poses)}
    return single, true, pictures | {"long_axis_planes": 2}


def test_refinement_finds_a_motion_that_the_network_missed(moved_pictures) -> None:
    single, true, pictures = moved_pictures
    wall = torch.cat([ventricle(12, 15, thickness=depth).float() for depth in (0.5, 4.0, 8.0)])
    truth = single(true, wall) - wall
    still = lambda points: torch.zeros(3, *points.shape)  # noqa: E731
    refined = refine_motion(still, single, wall, **pictures, settings=Refinement(prior=0.0005))(wall)
    assert refined[0].abs().max() == 0
    error, motion = (refined[1:] - truth).norm(dim=-1).mean(), truth.norm(dim=-1).mean()
    assert error < 0.35 * motion


def test_what_the_model_cannot_express_is_kept(moved_pictures) -> None:
    single, _, pictures = moved_pictures
    wall = ventricle(12, 15, thickness=4.0).float()

    def odd(points: torch.Tensor) -> torch.Tensor:
        ripple = 0.2 * torch.sin(points[:, :1] * 9.0).expand(-1, 3)
        return torch.stack([torch.zeros_like(ripple), ripple, ripple])

    kept = refine_motion(odd, single, wall, **pictures, settings=Refinement(steps=1, fit_steps=1))(wall)
    ripple = odd(wall)[1]
    share = ((kept[1] - kept[1].mean(0)) * ripple).sum() / ripple.square().sum()
    assert share == pytest.approx(1.0, abs=0.25)


def test_no_steps_leave_the_motion_as_it_is(moved_pictures) -> None:
    single, _, pictures = moved_pictures
    still = lambda points: torch.zeros(3, *points.shape)  # noqa: E731
    assert refine_motion(still, single, ventricle().float(), **pictures, settings=Refinement(steps=0)) is still
