"""The mesh losses against their literal definitions, and their gradients."""

import math

import pytest
import torch
from mesh_losses_by_loops import cotangent_laplacian, edge_loss, normal_consistency, uniform_laplacian
from simple_meshes import random_rotation, sphere, torus, ventricle

from clinbundles.rasterizer.mesh_regularity import (
    mesh_edge_loss,
    mesh_laplacian_smoothing,
    mesh_normal_consistency,
)
from clinbundles.rasterizer.pytorch3d_interop import from_pytorch3d, to_pytorch3d
from clinbundles.rasterizer.triangle_mesh import TriangleMesh

LOSSES = {
    "uniform": lambda mesh: mesh_laplacian_smoothing(mesh, "uniform"),
    "cot": lambda mesh: mesh_laplacian_smoothing(mesh, "cot"),
    "edge": lambda mesh: mesh_edge_loss(mesh, 2.0),
    "normal": mesh_normal_consistency,
}
LITERAL = {
    "uniform": uniform_laplacian,
    "cot": cotangent_laplacian,
    "edge": lambda vertices, faces: edge_loss(vertices, faces, 2.0),
    "normal": normal_consistency,
}


def rough(mesh, seed=0, size=0.5):
    vertices, faces = mesh
    generator = torch.Generator().manual_seed(seed)
    return vertices + size * torch.randn(vertices.shape, generator=generator, dtype=vertices.dtype), faces


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mesh", [rough(sphere(2)), rough(torus(around=30, across=16)), rough(ventricle(10, 16))])
def test_a_loss_is_its_literal_definition(name, mesh):
    vertices, faces = mesh
    value = LOSSES[name](TriangleMesh(vertices, faces))
    assert value.item() == pytest.approx(LITERAL[name](vertices.numpy(), faces.numpy()), rel=1e-10)


@pytest.mark.parametrize("name", ["uniform", "edge", "normal"])
def test_a_loss_with_holes_turned_faces_and_fins_is_its_literal_definition(name):
    vertices, faces = rough(sphere(1, radius=10.0))
    faces = torch.cat([faces[3:], faces[:1].flip(1), torch.tensor([[0, 1, 40]])])
    value = LOSSES[name](TriangleMesh(vertices, faces))
    assert value.item() == pytest.approx(LITERAL[name](vertices.numpy(), faces.numpy()), rel=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_a_batch_is_the_mean_of_its_meshes(name):
    vertices, faces = rough(sphere(2))
    batch = torch.stack([vertices, 0.8 * vertices, rough((vertices, faces), seed=1)[0]])
    together = LOSSES[name](TriangleMesh(batch, faces))
    alone = torch.stack([LOSSES[name](TriangleMesh(one, faces)) for one in batch]).mean()
    assert together.item() == pytest.approx(alone.item(), rel=1e-12)


@pytest.mark.parametrize("name", ["uniform", "edge", "normal"])
def test_gradients_are_those_of_finite_differences(name):
    vertices, faces = rough(sphere(0, radius=5.0))
    assert torch.autograd.gradcheck(lambda points: LOSSES[name](TriangleMesh(points, faces)), vertices.requires_grad_())


def test_cotangent_weights_carry_no_gradient():
    vertices, faces = rough(sphere(1, radius=5.0))
    vertices.requires_grad_()
    (gradient,) = torch.autograd.grad(mesh_laplacian_smoothing(TriangleMesh(vertices, faces), "cot"), vertices)
    # with fixed weights the loss is homogeneous of degree 1 in the vertices
    loss = mesh_laplacian_smoothing(TriangleMesh(vertices, faces), "cot")
    assert (gradient * vertices).sum().item() == pytest.approx(loss.item(), rel=1e-10)
    assert gradient.sum(0).abs().max() < 1e-12


@pytest.mark.parametrize("name", LOSSES)
def test_a_rigid_motion_changes_no_loss(name):
    vertices, faces = rough(sphere(2))
    moved = vertices @ random_rotation(3).T + torch.tensor([5.0, -60.0, 20.0])
    before, after = (LOSSES[name](TriangleMesh(points, faces)).item() for points in (vertices, moved))
    assert after == pytest.approx(before, rel=1e-9)


def test_a_cube_has_known_edges_and_normals():
    corners = torch.tensor([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = torch.tensor([face for a, b, c, d in quads for face in ([a, b, c], [a, c, d])])
    cube = TriangleMesh(corners, faces)
    assert mesh_edge_loss(cube).item() == pytest.approx((12 * 1 + 6 * 2) / 18)
    assert mesh_edge_loss(cube, 1.0).item() == pytest.approx(6 * (math.sqrt(2) - 1) ** 2 / 18, rel=1e-5)
    assert mesh_normal_consistency(cube).item() == pytest.approx(12 / 18)  # 12 right angles, 6 flat diagonals


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match="'cotcurv', but must be 'uniform' or 'cot'"):
        mesh_laplacian_smoothing(TriangleMesh(*sphere(0)), "cotcurv")


def test_pytorch3d_gives_the_same_losses_and_gets_the_same_mesh():
    pytest.importorskip("pytorch3d", reason="it has no wheel: compare with it where it was built from source")
    from pytorch3d import loss

    vertices, faces = rough(sphere(2))
    mesh = TriangleMesh(torch.stack([vertices, 0.5 * vertices]).float(), faces)
    theirs = to_pytorch3d(mesh)
    assert torch.equal(from_pytorch3d(theirs).vertices, mesh.vertices)
    assert loss.mesh_laplacian_smoothing(theirs).item() == pytest.approx(LOSSES["uniform"](mesh).item(), rel=1e-4)
    assert loss.mesh_laplacian_smoothing(theirs, "cot").item() == pytest.approx(LOSSES["cot"](mesh).item(), rel=1e-4)
    assert loss.mesh_edge_loss(theirs, 2.0).item() == pytest.approx(LOSSES["edge"](mesh).item(), rel=1e-5)
    assert loss.mesh_normal_consistency(theirs).item() == pytest.approx(LOSSES["normal"](mesh).item(), rel=1e-5)


def test_meshes_of_different_faces_are_not_taken_for_one():
    class Meshes:  # the two methods that are used
        def faces_list(self):
            return [sphere(0)[1], sphere(0)[1].flip(1)]

        def verts_list(self):
            return [sphere(0)[0]] * 2

    with pytest.raises(ValueError, match="mesh 1 has other faces than mesh 0"):
        from_pytorch3d(Meshes())
