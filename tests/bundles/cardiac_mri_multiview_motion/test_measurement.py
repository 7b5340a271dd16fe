"""What is read off a motion, on a heart made of tubes whose answers are known."""

from __future__ import annotations

import csv
import json

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from cardiac_mri_multiview_motion.evaluation.hide_views import HideViewsd
from cardiac_mri_multiview_motion.evaluation.score_motion import ScoreMotiond
from cardiac_mri_multiview_motion.measurement.carried_label import carried_label, tissue_volumes_ml
from cardiac_mri_multiview_motion.measurement.measure_motion import MeasureMotiond, measure_motion
from cardiac_mri_multiview_motion.measurement.refine_fields import RefineFieldsd, endocardium
from cardiac_mri_multiview_motion.measurement.tissue_at_ed import tissue_at_ed
from cardiac_mri_multiview_motion.measurement.ventricle import long_axis_at_ed, wall_points
from cardiac_mri_multiview_motion.save_motion_results import SaveImageMotionResultsd
from clinbundles.motion.kinematic_refinement import Refinement
from clinbundles.motion.motion_grid import GRID_SIZE, grid_points

LOW, HIGH, INNER, OUTER = -40.0, 40.0, 20.0, 30.0


def tube():
    """(4, I, J, K): a tube around z with a right ventricle on the side of -x."""
    x, y, z = grid_points(GRID_SIZE).unbind(-1)
    radius = (x**2 + y**2).sqrt()
    level = (z > LOW) & (z < HIGH)
    cavity = level & (radius < INNER)
    wall = level & (radius >= INNER) & (radius < OUTER)
    right = level & (radius >= OUTER) & (radius < 45) & (x < -abs(y))
    tissue = torch.stack([~(cavity | wall | right), cavity, wall, right]).float()
    return tissue


def squeeze(amount):
    """(2, 3, I, J, K) on t: at frame 1 all places were further out by this factor, and z was longer by 10 %."""
    points = grid_points(GRID_SIZE)
    field = points * torch.tensor([amount, amount, 0.1])
    return torch.stack([torch.zeros_like(field), field]).movedim(-1, 1)


def test_volume_of_the_cavity_is_that_of_the_tube_and_falls_by_the_determinant():
    volumes = tissue_volumes_ml(tube(), squeeze(0.25))
    assert float(volumes[0, 1]) == pytest.approx(np.pi * INNER**2 * (HIGH - LOW) / 1000, rel=0.03)
    assert float(volumes[1, 1] / volumes[0, 1]) == pytest.approx(1 / (1.25**2 * 1.1), rel=0.02)


def test_strain_of_a_uniform_squeeze_is_its_stretch():
    measures = measure_motion(tube(), squeeze(0.25), np.array([0.0, 300.0]))
    assert measures.global_strain[0] == pytest.approx(np.zeros(3), abs=1e-6)
    assert measures.global_strain[1] == pytest.approx([1 / 1.25 - 1, 1 / 1.25 - 1, 1 / 1.1 - 1], abs=1e-3)
    assert measures.function.es_frame == 1
    assert np.isfinite(measures.segment_strain[:, :16]).all()
    assert measures.global_peak()["global_longitudinal_strain"] == pytest.approx(1 / 1.1 - 1, abs=1e-3)


def test_endocardium_is_where_the_cavity_meets_the_wall():
    radius = endocardium(tube())[:, :2].norm(dim=1)
    assert float((radius - INNER).abs().max()) < 4


def test_refinement_of_a_heart_whose_pictures_stand_still_takes_away_a_motion_that_is_not_there():
    tissue = tube()
    picture = (tissue[1] + 0.6 * tissue[3] + 0.3 * tissue[0])[None].expand(2, -1, -1, -1)
    poses = torch.zeros(4, 3, 4)
    for plane, level in enumerate((-20.0, 0.0, 20.0)):
        poses[1 + plane] = torch.tensor([[0.5, 0, 0, 31.5], [0, 0.5, 0, 31.5], [0, 0, 1.0, -level]])
    planes = torch.stack([torch.zeros(2, 64, 64), *(picture[..., k] for k in (5, 8, 10))], dim=1)
    logits = tissue.log().clamp(min=-20)[None].expand(2, -1, -1, -1, -1)
    sample = {"pred": torch.cat([squeeze(0.1), logits], dim=1), "image": picture, "planes": planes}
    sample |= {"planes_pose": poses, "lax": torch.zeros(2, 1, 64, 64)}
    refined = RefineFieldsd("pred", Refinement(80, 60, prior=0.0, smoothness=0.0, points=1500))(sample)["pred"]
    wall = tissue[2] > 0
    across = lambda fields: float(fields[1, :2, wall].norm(dim=0).mean())  # noqa: E731
    assert float(refined[0, :3].abs().max()) == 0
    assert across(refined) < 0.5 * across(sample["pred"])
    assert torch.equal(refined[:, 3:], sample["pred"][:, 3:])


def test_axis_runs_from_apex_to_base_and_the_insertion_lies_before_the_septum():
    axis = long_axis_at_ed(tube())
    assert axis.apex == pytest.approx([0, 0, LOW + 4], abs=4.5)
    assert axis.base == pytest.approx([0, 0, HIGH - 4], abs=4.5)
    septum = np.array([[-25.0, 0.0, 0.0]])
    assert 30 < axis.angle(septum)[0] < 60  # the right ventricle spans 45 degrees to either side
    alone = tube()
    alone[0], alone[3] = alone[0] + alone[3], 0
    assert long_axis_at_ed(alone).angle(septum)[0] == pytest.approx(60.0, abs=1.0)


def test_without_a_ventricle_there_is_nothing_to_measure():
    nothing = torch.zeros(4, *GRID_SIZE)
    nothing[0] = 1
    with pytest.raises(ValueError, match="no left ventricle was found"):
        wall_points(nothing)


def sample(label=None):
    prediction = torch.cat([squeeze(0.25), 10 * tube().expand(2, -1, -1, -1, -1)], dim=1)
    pose = torch.zeros(4, 3, 4)
    for number, height in enumerate((-24.0, -8.0, 8.0, 24.0)):
        pose[number, 0, 0] = pose[number, 1, 1] = 0.5
        pose[number, :2, 3] = 31.5
        pose[number, 2, 2], pose[number, 2, 3] = 1.0, -height
    sax = {"image": torch.rand(4, 2, 64, 64), "pose": pose, "pixel_mm": torch.tensor([2.0, 2.0])}
    if label is not None:
        sax["label"] = label
    planes_pose = torch.cat([torch.zeros(3, 3, 4), pose, torch.zeros(1, 3, 4)])
    return {
        "study": "group/exam 1",
        "image": MetaTensor(torch.rand(2, *GRID_SIZE), affine=torch.eye(4)),
        "pred": prediction,
        "frame_to_world": torch.eye(4, dtype=torch.float64),
        "times_ms": torch.tensor([0.0, 300.0]),
        "lax_pose": torch.zeros(3, 3, 4),
        "native": {"sax": sax},
        "planes": torch.rand(2, 8, 64, 64),
        "planes_pose": planes_pose,
    }


def test_label_of_the_user_is_carried_instead_of_the_networks():
    own = torch.zeros(4, 2, 64, 64, dtype=torch.uint8)
    own[:, 0, 20:44, 20:44] = 2
    own[:, 0, 26:38, 26:38] = 1
    tissue, source = tissue_at_ed(sample()["pred"], sample(own)["native"])
    assert source == "given label"
    assert int(tissue[:, 32, 32, 8].argmax()) == 1
    assert int(tissue[:, 22, 32, 8].argmax()) == 2
    assert tissue_at_ed(sample()["pred"], sample()["native"])[1] == "network"


def test_zero_field_carries_a_label_to_itself():
    given = sample()
    pose = given["native"]["sax"]["pose"]
    still = torch.zeros(2, 3, *GRID_SIZE)
    carried = carried_label(tube(), still, pose, (64, 64))
    assert torch.equal(carried[0], carried[1])
    assert set(carried.unique().tolist()) == {0, 1, 2, 3}


def test_end_diastole_is_at_rest_whatever_the_network_says():
    restless = sample()
    restless["pred"][0, :3] = 3.0
    done, still = MeasureMotiond()(restless), MeasureMotiond()(sample())
    assert float(done["pred"][0].abs().max()) == 0
    assert done["results"] == still["results"]


def test_results_are_written_with_their_geometry(tmp_path):
    done = SaveImageMotionResultsd(tmp_path)(MeasureMotiond()(sample()))
    folder = tmp_path / "group" / "exam 1"
    field = nibabel.load(folder / "exam 1_displacement.nii.gz")
    assert field.shape == (*GRID_SIZE, 2, 3)
    assert field.header["intent_code"] == 1007
    corner = field.affine @ [0, 0, 0, 1]
    assert np.allclose(np.asarray(field.dataobj)[0, 0, 0, 1], corner[:3] * [0.25, 0.25, 0.1], atol=1e-3)
    labels = nibabel.load(folder / "exam 1_sax_labels.nii.gz")
    assert labels.shape == (64, 64, 4, 2)
    assert np.allclose(labels.affine @ [31.5, 31.5, 0, 1], [0, 0, -24, 1], atol=1e-4)
    assert np.allclose(labels.affine @ [31.5, 31.5, 3, 1], [0, 0, 24, 1], atol=1e-4)
    report = json.loads((folder / "exam 1_report.json").read_text(encoding="utf-8"))
    assert report["domain"].startswith("t:")
    assert len(report["segments"]) == 17
    assert report["results"] == done["results"]
    with (folder / "exam 1_strain.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 2 * 18
    assert {path.suffix for path in folder.iterdir()} == {".gz", ".csv", ".json", ".png"}
    units = {one["unit"] for one in done["measurements"]}
    assert units == {"mL", "%", "g"}


def test_perfect_prediction_has_a_perfect_score():
    given = sample()
    pose = given["planes_pose"]
    given["planes_label"] = carried_label(tube(), squeeze(0.25), pose, (64, 64))
    given["planes_label"][:, :3] = 255
    given["planes_label"][:, 7] = 255
    scored = ScoreMotiond()(given)
    assert float(scored["dice"]) > 0.99
    assert np.isnan(float(scored["dice_lax"]))
    assert np.isnan(float(scored["epe"]))
    assert float(scored["mcd_mm"]) < 0.3
    with pytest.raises(ValueError, match="'network' or 'given'"):
        ScoreMotiond(ed_label="mine")


def test_hidden_view_is_as_if_it_were_missing():
    given = {"lax": torch.ones(2, 3, 8, 8), "lax_pose": torch.ones(3, 3, 4)}
    hidden = HideViewsd("lax", ["lax_2ch", "lax_3ch", "lax_4ch"], ["lax_3ch"])(given)
    assert hidden["lax"].sum(dim=(0, 2, 3)).tolist() == [128.0, 0.0, 128.0]
    assert hidden["lax_pose"].sum(dim=(1, 2)).tolist() == [12.0, 0.0, 12.0]
    with pytest.raises(ValueError, match="views to hide: lax_5ch; there are lax_2ch"):
        HideViewsd("lax", ["lax_2ch"], ["lax_5ch"])
