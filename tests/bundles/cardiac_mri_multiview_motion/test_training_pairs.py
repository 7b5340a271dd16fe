"""Pairs of frames for training: what is drawn, dropped and varied."""

from __future__ import annotations

import pytest
import torch

from cardiac_mri_multiview_motion.training_pairs import TrainingTensorsd, prepare_pair
from clinbundles.cine.training_pairs import RandCineIntensityd, RandDropViewsd, RandFramePaird


def exam(frames=5, slices=4):
    pose = torch.zeros(3 + 8, 3, 4)
    pose[: 3 + slices] = 1.0
    return {
        "case": "A",
        "image": torch.arange(frames).reshape(-1, 1, 1, 1).expand(-1, 8, 8, 4).float() / frames,
        "lax": torch.arange(frames).reshape(-1, 1, 1, 1).expand(-1, 3, 8, 8).float() / frames + 0.1,
        "lax_pose": torch.ones(3, 3, 4),
        "planes_label": torch.ones(frames, 11, 8, 8, dtype=torch.uint8),
        "planes_pose": pose,
    }


def pair(seed=0, **arguments):
    return RandFramePaird("image", **arguments).set_random_state(seed)


def test_first_frame_of_a_pair_is_end_diastole_and_all_tensors_show_the_same_second_one():
    seen = set()
    draw = pair()
    for _ in range(30):
        sample = draw(TrainingTensorsd()(exam()))
        assert sample["image"].shape == (2, 8, 8, 4)
        assert float(sample["image"][0].max()) == 0
        assert float(sample["lax"][1].mean() - sample["image"][1].mean()) == pytest.approx(0.1, abs=1e-3)
        seen.add(round(5 * float(sample["image"][1].mean())))
    assert seen >= {1, 2, 3, 4}


@pytest.mark.parametrize(("wanted", "there"), [(2, 2), (6, 4)])
def test_planes_of_a_pair_have_one_number_whatever_the_stack(wanted, there):
    sample = pair(sax_planes=wanted)(TrainingTensorsd()(exam(slices=4)))
    assert sample["planes_label"].shape == (2, 3 + wanted, 8, 8)
    assert int((sample["planes_pose"].abs().sum(dim=(1, 2)) > 0).sum()) == 3 + there
    assert bool((sample["planes_label"][:, 3 + there :] == 255).all())


def test_lost_view_is_zero_for_the_network_and_still_teaches():
    sample = RandDropViewsd("lax", prob=1.0)(pair()(TrainingTensorsd()(exam())))
    assert float(sample["lax"].abs().sum() + sample["lax_pose"].abs().sum()) == 0
    assert float(sample["lax_target"].abs().sum()) > 0
    silent = RandDropViewsd("lax", prob=1.0, supervise=False)(pair()(TrainingTensorsd()(exam())))
    assert float(silent["lax_target"].abs().sum()) == 0
    assert bool((silent["planes_label"][:, :3] == 255).all())


def test_contrast_changes_alike_at_both_frames_and_missing_views_stay_missing():
    sample = pair()(TrainingTensorsd()(exam()))
    sample["lax"][:, 1] = 0
    varied = RandCineIntensityd(("image", "lax"), noise=0.0).set_random_state(1)(sample)
    assert float(varied["lax"][:, 1].abs().sum()) == 0
    assert not torch.equal(varied["lax"][:, 0], sample["lax"][:, 0])
    same = RandCineIntensityd(("image",), gamma=1.0, scale=0.0, offset=0.0, noise=0.0)(sample)
    assert torch.allclose(same["image"], sample["image"])


def test_flicker_scales_each_frame_by_its_own_factor_within_its_limit():
    image = torch.full((2, 16, 16, 8), 0.5)
    flickers = RandCineIntensityd(("image",), gamma=1.0, scale=0.0, offset=0.0, flicker=0.08, noise=0.0)
    changed = flickers.set_random_state(3)({"image": image})["image"] / image
    first, second = (frame.flatten() for frame in changed)
    assert torch.equal(first, first[:1].expand_as(first))
    assert torch.equal(second, second[:1].expand_as(second))
    assert 0.92 <= float(changed.min()) < float(changed.max()) <= 1.08


def test_same_seed_gives_the_same_pair():
    first, second = (pair(seed=4)(TrainingTensorsd()(exam())) for _ in range(2))
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["planes_pose"], second["planes_pose"])


def test_exam_without_labels_is_refused_for_training():
    unlabelled = exam()
    unlabelled["planes_label"] = torch.full_like(unlabelled["planes_label"], 255)
    with pytest.raises(ValueError, match=r"case 'A' has no label map: training needs sax_label"):
        TrainingTensorsd()(unlabelled)


def test_trainer_gets_network_inputs_and_targets_apart():
    sample = RandDropViewsd("lax", prob=1.0)(pair()(TrainingTensorsd()(exam())))
    batch = {key: value[None] for key, value in sample.items() if isinstance(value, torch.Tensor)}
    image, wanted, _, named = prepare_pair(batch)
    assert image.shape == (1, 2, 8, 8, 4)
    assert set(named) == {"lax", "lax_pose"}
    assert float(named["lax"].abs().sum()) == 0
    assert float(wanted["lax"].abs().sum()) > 0
