"""The reference's contour loss: its literal definition, and the bias for which it is a baseline only."""

import pytest
import torch
from mesh_losses_by_loops import weighted_hausdorff as literal_hausdorff
from simple_meshes import axial_plane, ventricle

from clinbundles.rasterizer.vertex_projection import projected_vertices, vertex_projection_loss, weighted_hausdorff


def test_weighted_hausdorff_is_its_literal_definition():
    generator = torch.Generator().manual_seed(0)
    points = 40 * torch.rand(30, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(30, generator=generator, dtype=torch.float64)
    contour = torch.randint(0, 40, (25, 2), generator=generator)
    value = weighted_hausdorff(points, weights, contour, (40, 40))
    expected = literal_hausdorff(points.numpy(), weights.numpy(), contour.numpy(), (40, 40))
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_vertices_within_one_step_are_kept_with_gaussian_weights():
    vertices = torch.tensor([[0.0, 0, 0], [1, 2, 1], [3, 3, 1.9], [0, 0, 2.1]])
    plane = axial_plane(0.0, 11, dtype=torch.float32)
    plane[2, 2] = 2.0
    points, weights = projected_vertices(vertices, plane, (11, 11))
    assert torch.allclose(points, torch.tensor([[5.0, 5], [6, 7], [8, 8]]))
    assert torch.allclose(weights, torch.exp(-3 * torch.tensor([0.0, 0.5, 0.95]) ** 2))


def test_without_contour_or_vertices_the_loss_is_a_constant():
    vertices = torch.zeros(4, 3, requires_grad=True)
    contour = torch.ones(1, 30, 40, dtype=torch.bool)
    far, near = axial_plane(50.0, 30, dtype=torch.float32)[None], axial_plane(0.0, 30, dtype=torch.float32)[None]
    loss = vertex_projection_loss(vertices, far, contour)
    assert loss.item() == pytest.approx(50.0)
    assert (torch.autograd.grad(loss, vertices)[0] == 0).all()
    assert vertex_projection_loss(vertices, near, ~contour).item() == 0


def test_gradients_are_finite_and_reach_x_y_and_z():
    vertices, _ = ventricle(jitter=0.8)
    contour = torch.zeros(1, 90, 90, dtype=torch.bool)
    contour[0, 20:70, 15] = True
    vertices.requires_grad_()
    loss = vertex_projection_loss(vertices, axial_plane(-30.0, 90)[None], contour)
    (gradient,) = torch.autograd.grad(loss, vertices)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum(0) > 0).all()
