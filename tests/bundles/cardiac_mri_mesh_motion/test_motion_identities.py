"""Known fields move the mesh as they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact_heart_case import exact_mesh, exact_vertices

from cardiac_mri_mesh_motion.networks import MeshMotionNet, PaperNet
from cardiac_mri_mesh_motion.ventricle.move_mesh import MESH_KEY, VERTICES_KEY, MoveMeshd, field_motion
from cardiac_mri_mesh_motion.ventricle.template import read_template
from clinbundles.motion.motion_grid import GRID_SIZE, grid_points


def test_untrained_network_moves_nothing_by_a_hair():
    network = MeshMotionNet().eval()
    pose = torch.eye(4)[:3].expand(1, 3, 3, 4)
    with torch.no_grad():
        fields = network(torch.rand(1, 2, *GRID_SIZE), torch.rand(1, 2, 3, 64, 64), pose)
    assert fields.shape == (1, 6, *GRID_SIZE)
    vertices = read_template().vertices
    assert torch.equal(vertices + field_motion(fields[:, :3])(vertices)[0], vertices)


def test_paper_network_has_the_papers_widths():
    count = sum(parameter.numel() for parameter in PaperNet(depth=16).parameters())
    assert 15e6 < count < 80e6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_constant_field_moves_every_vertex_by_itself_along_its_axis(axis):
    fields = torch.zeros(2, 3, *GRID_SIZE)
    fields[1, axis] = 4.5
    moved = field_motion(fields)(read_template().vertices)
    expected = torch.zeros(3)
    expected[axis] = 4.5
    torch.testing.assert_close(moved[1], expected.expand_as(moved[1]))
    assert not moved[0].any()


def test_affine_field_is_reproduced_by_trilinear_sampling():
    matrix = torch.tensor([[0.10, 0.02, 0.0], [-0.03, -0.05, 0.01], [0.0, 0.04, 0.08]])
    field = (grid_points() @ matrix.T + torch.tensor([1.0, -2.0, 3.0])).movedim(-1, 0)
    vertices = read_template().vertices
    moved = field_motion(torch.stack([field, field]))(vertices)[1]
    torch.testing.assert_close(moved, vertices @ matrix.T + torch.tensor([1.0, -2.0, 3.0]), atol=1e-4, rtol=0)


def test_end_diastole_stays_where_it_is_even_if_the_network_says_otherwise(sample):
    prediction = torch.zeros(3, 6, *GRID_SIZE)
    prediction[:, 2] = 5.0
    moved = MoveMeshd("pred")(sample | {"pred": prediction})
    assert torch.equal(moved[VERTICES_KEY][0], moved[MESH_KEY].vertices)
    torch.testing.assert_close(moved[VERTICES_KEY][1, :, 2], moved[MESH_KEY].vertices[:, 2] + 5)


def test_template_field_makes_the_mesh_at_end_diastole(sample):
    prediction = torch.zeros(3, 6, *GRID_SIZE)
    prediction[:, 3] = 2.0
    moved = MoveMeshd("pred")(sample | {"pred": prediction})
    torch.testing.assert_close(moved[MESH_KEY].vertices[:, 0], read_template().vertices[:, 0] + 2)


def test_volumes_of_the_exact_mesh_are_those_of_the_simulated_heart(case, sample):
    mesh = exact_mesh(case, sample["frame_to_world"])
    cavity = mesh.cavity_ml(exact_vertices(case, sample["frame_to_world"]))
    with np.load(case["truth"]) as truth:
        np.testing.assert_allclose(cavity, truth["lv_volume_ml"], rtol=0.03)
    assert 1 - cavity[2] / cavity[0] == pytest.approx(case["ef"], abs=0.015)
