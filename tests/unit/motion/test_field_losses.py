"""Penalties of displacement fields against their closed forms."""

from __future__ import annotations

import math

import torch

from clinbundles.motion.field_losses import (
    HuberSmoothness,
    bending_energy,
    diffusion_energy,
    incompressibility,
    incompressibility_at,
)
from clinbundles.motion.motion_grid import grid_points

SIZE = (12, 14, 8)
SPACING = (2.0, 2.0, 4.0)


def linear(slope, axis=0, component=0):
    field = torch.zeros(2, 3, *SIZE, dtype=torch.float64)
    field[:, component] = slope * grid_points(SIZE, SPACING, torch.float64)[..., axis]
    return field


def test_huber_of_a_linear_field_is_the_root_of_its_slope():
    loss = HuberSmoothness(epsilon=0.01, spacing_mm=SPACING)(linear(0.3))
    assert math.isclose(float(loss), math.sqrt(0.01 + 0.3**2), rel_tol=1e-9)


def test_huber_of_the_paper_counts_voxels_as_its_code_does():
    slope = 0.3
    loss = HuberSmoothness(epsilon=0.01, paper=True, spacing_mm=SPACING)(linear(slope))
    step = slope * 2 / (SIZE[0] - 1)  # normalised units per voxel
    count = (SIZE[0] - 1) * SIZE[1] * SIZE[2]
    assert math.isclose(float(loss), math.sqrt(0.01 + step**2 * count / SIZE[0]), rel_tol=1e-9)


def test_constant_field_costs_nothing_and_a_linear_one_does_not_bend():
    constant = torch.ones(1, 3, *SIZE, dtype=torch.float64)
    assert float(diffusion_energy(constant, SPACING)) == 0
    assert float(bending_energy(linear(0.4, 2, 1), SPACING)) < 1e-20
    assert math.isclose(float(diffusion_energy(linear(0.4, 2, 1), SPACING)), 0.16, rel_tol=1e-9)


def test_bending_of_a_parabola_is_its_curvature_squared():
    field = torch.zeros(1, 3, *SIZE, dtype=torch.float64)
    field[:, 2] = 0.5 * 0.01 * grid_points(SIZE, SPACING, torch.float64)[..., 2] ** 2
    assert math.isclose(float(bending_energy(field, SPACING)), 0.01**2, rel_tol=1e-9)
    everywhere = torch.ones(1, 1, *SIZE, dtype=torch.float64)
    assert math.isclose(float(bending_energy(field, SPACING, everywhere)), 0.01**2, rel_tol=1e-9)
    assert float(bending_energy(field, SPACING, 0 * everywhere)) == 0


def test_incompressibility_is_the_squared_change_of_volume_where_it_counts():
    field = linear(-0.2)
    assert math.isclose(float(incompressibility(field, None, SPACING)), 0.04, rel_tol=1e-9)
    weight = torch.zeros(2, 1, *SIZE, dtype=torch.float64)
    assert float(incompressibility(field, weight, SPACING)) == 0
    places = torch.rand(2, 30, 3, dtype=torch.float64) * 8 - 4
    assert math.isclose(float(incompressibility_at(field, places, SPACING)), 0.04, rel_tol=1e-9)


def test_gradient_of_incompressibility_agrees_with_finite_differences():
    field = (torch.randn(1, 3, 4, 4, 4, dtype=torch.float64) * 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda phi: incompressibility(phi, None, SPACING), field)
