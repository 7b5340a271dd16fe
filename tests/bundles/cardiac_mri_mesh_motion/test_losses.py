"""The loss knows the exact motion from a wrong one, and says nothing about what is not known."""

from __future__ import annotations

import pytest
import torch
from exact_heart_case import exact_mesh, exact_vertices

from cardiac_mri_mesh_motion.losses import MeshMotionLoss, coverage_loss, mid_wall, surface_distance
from cardiac_mri_mesh_motion.training_samples import MeshTrainingTensorsd
from cardiac_mri_mesh_motion.ventricle.template import read_template
from clinbundles.cine.training_pairs import RandFramePaird
from clinbundles.motion.motion_grid import GRID_SIZE


@pytest.fixture(scope="module")
def planes(sample):
    return sample["planes_label"], sample["planes_pose"]


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_section_of_the_exact_mesh_fits_labels_of_the_closed_form(case, sample, planes, frame):
    vertices = exact_vertices(case, sample["frame_to_world"])[frame]
    labels, poses = planes
    faces = read_template().faces
    fit = float(coverage_loss(vertices[None], faces, labels[None, frame], poses[None]))
    assert fit < 0.12
    for shift in ([4.0, 0, 0], [0, -4.0, 0], [0, 0, 6.0]):
        moved = vertices + torch.tensor(shift)
        assert float(coverage_loss(moved[None], faces, labels[None, frame], poses[None])) > fit + 0.02


def test_gradient_is_that_of_finite_differences(case, sample, planes):
    labels, poses = planes
    vertices = exact_vertices(case, sample["frame_to_world"])[0].double()
    faces = read_template().faces
    way = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(step):
        return coverage_loss((vertices + step * way)[None], faces, labels[None, 0], poses[None].double())

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    loss(step).backward()
    difference = (float(loss(torch.tensor(1e-5))) - float(loss(torch.tensor(-1e-5)))) / 2e-5
    assert float(step.grad) == pytest.approx(difference, rel=1e-4)


def test_missing_planes_and_unknown_labels_count_nothing(case, sample, planes):
    labels, poses = planes
    vertices = exact_vertices(case, sample["frame_to_world"])[:1]
    faces = read_template().faces
    fit = coverage_loss(vertices, faces, labels[None, 0], poses[None])
    more = torch.cat([labels[0], torch.full((2, 64, 64), 2, dtype=torch.uint8)])
    none = coverage_loss(vertices, faces, more[None], torch.cat([poses, torch.zeros(2, 3, 4)])[None])
    torch.testing.assert_close(none, fit)
    unknown = torch.cat([labels[0], torch.full((1, 64, 64), 255, dtype=torch.uint8)])
    same = coverage_loss(vertices, faces, unknown[None], torch.cat([poses, poses[:1]])[None])
    torch.testing.assert_close(same, fit)


def test_a_mesh_out_of_view_costs_most_and_does_not_break_the_run(planes):
    labels, poses = planes
    template = read_template()
    vertices = (template.vertices[None] + 500).requires_grad_()
    loss = coverage_loss(vertices, template.faces, labels[None, 0], poses[None])
    loss.backward()
    assert float(loss) == pytest.approx(1.0)
    assert torch.isfinite(vertices.grad).all()


def test_middle_of_the_wall_lies_in_the_wall(case, sample):
    mesh = exact_mesh(case, sample["frame_to_world"])
    inner, outer = (mesh.vertices[mesh.surface == side] for side in (1, 0))
    middle = mid_wall(mesh.vertices[None])[0]
    assert len(middle) == len(inner) == len(outer)
    to_inner, to_outer = (torch.cdist(middle, other).amin(1).median() for other in (inner, outer))
    assert 2 < float(to_inner) < 10
    assert 2 < float(to_outer) < 10


def test_surface_distance_of_a_shifted_mesh_is_at_most_the_shift():
    template = read_template()
    start = template.vertices[None]
    assert float(surface_distance(start, start, template.surface)) == pytest.approx(0.1, abs=1e-6)  # sqrt(0.01)
    assert 1.0 < float(surface_distance(start + torch.tensor([3.0, 0, 0]), start, template.surface)) <= 3.01


@pytest.fixture(scope="module")
def batch(case, sample):
    tensors = MeshTrainingTensorsd("image")(dict(sample))
    pair = RandFramePaird("image", static=0.0)
    pair.set_random_state(1)
    return {key: value[None] for key, value in pair(tensors).items()}


def test_every_term_has_a_weight_and_zero_leaves_it_out(batch):
    fields = torch.zeros(1, 6, *GRID_SIZE)
    loss = MeshMotionLoss(volume=0.5)
    terms = loss.terms(fields, batch)
    assert set(terms) == set(loss.weights)
    assert float(terms["laplacian"]) == float(terms["diffusion"]) == float(terms["volume"]) == 0
    alone = MeshMotionLoss(**{name: float(name == "truth") for name in loss.weights})
    assert set(alone.terms(fields, batch)) == {"truth"}


def test_truth_term_is_the_distance_to_the_exact_motion(batch):
    fields = torch.zeros(1, 6, *GRID_SIZE)
    term = MeshMotionLoss().terms(fields, batch)["truth"]
    expected = batch["wall_displacements"].square().sum(-1).add(1e-4).sqrt().mean()
    torch.testing.assert_close(term, expected)


def test_unknown_truth_gives_no_loss_and_no_gradient(batch):
    fields = torch.zeros(1, 6, *GRID_SIZE, requires_grad=True)
    unknown = batch | {"wall_displacements": torch.full_like(batch["wall_displacements"], torch.nan)}
    loss = MeshMotionLoss(**{name: float(name == "truth") for name in MeshMotionLoss().weights})
    value = loss(fields, unknown)
    value.backward()
    assert float(value.detach()) == 0
    assert not fields.grad.any()


def test_papers_laplacian_counts_the_mesh_itself(batch):
    fields = torch.zeros(1, 6, *GRID_SIZE)
    assert float(MeshMotionLoss(laplacian_of="mesh").terms(fields, batch)["laplacian"]) > 0.1
    with pytest.raises(ValueError, match="laplacian_of is 'both', expected displacement or mesh"):
        MeshMotionLoss(laplacian_of="both")
