"""The training loss against closed forms, finite differences and the exactness of its own parts."""

from __future__ import annotations

import math

import pytest
import torch

from cardiac_mri_multiview_motion.losses import MultiViewLoss, label_edges, overlap_loss, plane_logits
from clinbundles.motion.plane_slicing import plane_points, planes_from_poses

SPACING = (2.0, 2.0, 8.0)
TERMS = ("image", "lax_image", "shape", "bending", "diffusion", "huber", "volume", "truth")


def only(name, **arguments):
    return MultiViewLoss(**{**dict.fromkeys(TERMS, 0.0), name: 1.0, **arguments})


def poses(count):
    planes = []
    for index in range(count):
        angle = 0.4 + index
        across = torch.tensor([math.cos(angle), math.sin(angle), 0.0], dtype=torch.float64)
        along = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        normal = torch.linalg.cross(across, along)
        middle = torch.tensor([7.5], dtype=torch.float64)
        none = torch.zeros(1, dtype=torch.float64)
        planes.append(torch.stack([torch.cat([across / 2, middle]), torch.cat([along / 2, middle]),
                                   torch.cat([normal, none])]))  # fmt: skip
    return torch.stack(planes)[None]


def targets(classes=4, planes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.rand(1, 2, 16, 16, 8, generator=generator, dtype=torch.float64),
        "lax": torch.rand(1, 2, planes, 16, 16, generator=generator, dtype=torch.float64),
        "lax_pose": poses(planes),
        "planes_label": torch.randint(classes, (1, 2, planes, 16, 16), generator=generator).to(torch.uint8),
        "planes_pose": poses(planes),
        "wall_points": 8 * torch.rand(1, 20, 3, generator=generator, dtype=torch.float64),
        "wall_displacements": torch.full((1, 20, 3), torch.nan, dtype=torch.float64),
    }


def outputs(classes=4):
    return torch.zeros(1, 3 + 2 * classes, 16, 16, 8, dtype=torch.float64)


def test_cross_entropy_of_uniform_logits_is_the_log_of_the_number_of_classes():
    loss = only("shape", overlap=0.0, class_weights=None)
    assert math.isclose(float(loss(outputs(4), targets(4))), math.log(4), rel_tol=1e-9)
    edges = only("shape", overlap=0.0, edges=True)
    assert math.isclose(float(edges(outputs(2), targets(2))), math.log(2), rel_tol=1e-9)


@pytest.mark.parametrize("name", TERMS)
def test_no_motion_of_equal_frames_costs_nothing_but_the_constant_of_huber(name):
    given = targets()
    given["image"][:, 1], given["lax"][:, 1] = given["image"][:, 0], given["lax"][:, 0]
    if name == "shape":
        return
    expected = 0.1 if name == "huber" else 0.0  # sqrt(0.01)
    assert float(only(name)(outputs(), given)) == pytest.approx(expected, abs=1e-12)


def test_distance_to_the_exact_motion_is_zero_for_the_field_that_goes_back_and_unknown_points_cost_nothing():
    given, prediction, loss = targets(), outputs(), only("truth")
    assert float(loss(prediction, given)) == 0.0
    move = torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64)
    given["wall_displacements"][:, :10] = move
    assert float(loss(prediction, given)) == pytest.approx(3.0, abs=1e-4)
    prediction[:, :3] = -move.reshape(1, 3, 1, 1, 1)
    assert float(loss(prediction, given)) == pytest.approx(0.01, abs=1e-6)  # sqrt(1e-4)


def test_order_of_the_planes_changes_nothing():
    given = targets()
    prediction = outputs() + torch.randn(outputs().shape, dtype=torch.float64)
    order = [2, 0, 1]
    swapped = {
        "image": given["image"],
        "lax": given["lax"][:, :, order],
        "lax_pose": given["lax_pose"][:, order],
        "planes_label": given["planes_label"][:, :, order],
        "planes_pose": given["planes_pose"][:, order],
        "wall_points": given["wall_points"],
        "wall_displacements": given["wall_displacements"],
    }
    loss = MultiViewLoss(bending=1.0, huber=1.0).double()
    assert torch.allclose(loss(prediction, given), loss(prediction, swapped))


def test_planes_that_are_not_there_do_not_count():
    given = targets()
    prediction = outputs() + torch.randn(outputs().shape, dtype=torch.float64)
    more = dict(given)
    more["planes_label"] = torch.cat([given["planes_label"], torch.full((1, 2, 2, 16, 16), 255).to(torch.uint8)], dim=2)
    more["planes_pose"] = torch.cat([given["planes_pose"], torch.zeros(1, 2, 3, 4, dtype=torch.float64)], dim=1)
    more["lax"] = torch.cat([given["lax"], torch.zeros(1, 2, 1, 16, 16, dtype=torch.float64)], dim=2)
    more["lax_pose"] = torch.cat([given["lax_pose"], torch.zeros(1, 1, 3, 4, dtype=torch.float64)], dim=1)
    loss = MultiViewLoss().double()
    assert torch.allclose(loss(prediction, given), loss(prediction, more))


def test_gradient_of_the_shape_term_reaches_the_field_and_agrees_with_finite_differences():
    given = targets(planes=1)
    generator = torch.Generator().manual_seed(3)
    points = plane_points(planes_from_poses(given["planes_pose"])[0], (16, 16))[0].reshape(1, -1, 3)[:, 100:108]
    logits = torch.randn(1, 4, 16, 16, 8, generator=generator, dtype=torch.float64)
    moves = (torch.rand(1, 3, 8, generator=generator, dtype=torch.float64) - 0.5).requires_grad_()

    def value(displacement):
        return plane_logits(logits, points, displacement, SPACING).log_softmax(dim=1)[:, 2].mean()

    assert torch.autograd.gradcheck(value, moves, eps=1e-6, atol=1e-5)


def test_warped_term_is_what_carries_labels_to_the_field():
    given = targets()
    prediction = (outputs() + torch.randn(outputs().shape, dtype=torch.float64)).requires_grad_()
    for warped, reached in ((True, True), (False, False)):
        loss = only("shape", warped_shape=warped).double()
        (gradient,) = torch.autograd.grad(loss(prediction, given), prediction)
        assert bool(gradient[:, :3].abs().sum() > 0) is reached


def test_edges_are_the_inner_boundary_of_the_myocardium():
    label = torch.zeros(1, 7, 7, dtype=torch.uint8)
    label[0, 1:6, 1:6] = 2
    edge = label_edges(label)
    assert int(edge.sum()) == 16
    assert int(edge[0, 2:5, 2:5].sum()) == 0
    assert int(label_edges(torch.full((1, 3, 3), 255))[0, 1, 1]) == 255


def test_overlap_is_perfect_for_certain_and_right_logits():
    labels = torch.tensor([[0, 1, 2, 3, 255]])
    certain = 50 * torch.nn.functional.one_hot(labels.clamp(max=3), 4).double().movedim(-1, 1)
    assert float(overlap_loss(certain, labels)) == pytest.approx(0.0, abs=1e-6)
    assert float(overlap_loss(-certain, labels)) > 0.5
