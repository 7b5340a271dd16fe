"""Pairs of frames for training, and what happens to exams whose motion is not known."""

from __future__ import annotations

import pytest
import torch
from exact_heart_case import exact_vertices

from cardiac_mri_mesh_motion.training_samples import MeshTrainingTensorsd
from clinbundles.cine.training_pairs import RandCineIntensityd, RandDropViewsd, RandFramePaird


@pytest.fixture(scope="module")
def tensors(sample):
    return MeshTrainingTensorsd("image")(dict(sample))


def test_simulated_hearts_bring_their_exact_mesh_and_motion(case, sample, tensors):
    exact = exact_vertices(case, sample["frame_to_world"])
    torch.testing.assert_close(tensors["ed_vertices"], exact[0], atol=1e-3, rtol=0)
    assert tensors["wall_displacements"].shape == (3, 800, 3)
    assert not tensors["wall_displacements"][0].abs().max() > 1e-3
    assert tensors["wall_displacements"][2].norm(dim=-1).mean() > 2


def test_exams_of_patients_get_a_mesh_from_their_labels_and_no_motion(sample):
    patient = {key: value for key, value in sample.items() if key != "truth"}
    tensors = MeshTrainingTensorsd("image")(patient)
    assert tensors["ed_vertices"].shape == (1970, 3)
    assert torch.isnan(tensors["wall_displacements"]).all()


def test_exams_without_labels_cannot_be_trained_on(sample):
    without = {key: value for key, value in sample.items() if key != "planes_label"}
    with pytest.raises(ValueError, match="has no label map: training needs sax_label"):
        MeshTrainingTensorsd("image")(without)


def test_a_pair_holds_end_diastole_and_the_drawn_frame(tensors):
    pair = RandFramePaird("image", static=0.0, sax_planes=12)
    pair.set_random_state(0)
    drawn = pair(tensors)
    assert drawn["image"].shape[0] == drawn["lax"].shape[0] == drawn["planes_label"].shape[0] == 2
    torch.testing.assert_close(drawn["image"][0], tensors["image"][0].float())
    frame = next(t for t in (1, 2) if torch.equal(drawn["image"][1], tensors["image"][t].float()))
    assert torch.equal(drawn["wall_displacements"], tensors["wall_displacements"][frame])
    assert drawn["planes_pose"].shape == (15, 3, 4)
    missing = drawn["planes_pose"].abs().sum((1, 2)) == 0
    assert missing.any()
    assert (drawn["planes_label"][:, missing] == 255).all()


def test_lost_views_are_zeros_and_their_labels_stay(tensors):
    pair = RandFramePaird("image", static=0.0)
    pair.set_random_state(0)
    drawn = pair(tensors)
    lost = RandDropViewsd("lax", prob=1.0)(drawn)
    assert not lost["lax"].any()
    assert not lost["lax_pose"].any()
    assert torch.equal(lost["planes_label"], drawn["planes_label"])


def test_contrast_changes_both_frames_alike_and_leaves_missing_views_empty(tensors):
    pair = RandFramePaird("image", static=0.0)
    pair.set_random_state(0)
    drawn = pair(tensors)
    drawn["lax"][:, 1] = 0
    vary = RandCineIntensityd(noise=0.0)
    vary.set_random_state(2)
    varied = vary(drawn)
    assert not varied["lax"][:, 1].any()
    assert varied["image"].min() >= 0
    assert varied["image"].max() <= 1
    same = drawn | {"image": drawn["image"][:1].repeat(2, 1, 1, 1)}
    twice = vary(same)["image"]
    torch.testing.assert_close(twice[0], twice[1])
