"""A run over exams of which one alone is good: the others are listed with file, finding and remedy.

What reading refuses besides is tested in tests/unit/cine.
"""

from __future__ import annotations

import csv
import re
import shutil

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

import cardiac_mri_multiview_motion
from cardiac_mri_multiview_motion.networks import MultiViewNet
from cardiac_mri_multiview_motion.preprocessing import preprocessing
from clinbundles.phantoms.heart.simulated_exam import simulate_heart_exam

ROOT = cardiac_mri_multiview_motion.__path__[0]
VIEWS = ("sax", "lax_2ch", "lax_3ch", "lax_4ch")


def values(function):
    return lambda array, affine: (function(array), affine)


def aside(array, affine):
    return array, affine + np.outer(60 * affine[:, 2] / np.linalg.norm(affine[:, 2]), [0, 0, 0, 1])


def contour(array):
    wall = array == 2
    inner = wall.copy()
    for axis in (0, 1):
        inner &= np.roll(wall, 1, axis) & np.roll(wall, -1, axis)
    return np.where(wall & ~inner, 2, 0).astype(np.uint8)


def constant(array):
    array[:, :, 1, 2] = 5
    return array


def not_a_number(array):
    array = array.astype(np.float32)
    array[9, 9, 0, 0] = np.nan
    return array


BAD = {  # exam -> file, what happens to it, what is said of it
    "no cine": ("sax", values(lambda a: a[..., :1]), ["sax.nii.gz", "dimensions 64 x 64 x", "expected 4"]),
    "volume": ("sax", values(lambda a: a[..., 0]), ["sax.nii.gz", "expected 4", "slices x phases"]),
    "three slices": ("sax", values(lambda a: a[:, :, :3]), ["at most 3 are parallel", "at least 4", "give all series"]),
    "constant": ("sax", values(constant), ["sax.nii.gz", "slice 1, phase 2 is constant", "export it again"]),
    "not a number": ("lax_4ch", values(not_a_number), ["lax_4ch.nii.gz", "NaN or infinite", "export it again"]),
    "cut off": ("sax", values(lambda a: a[:38]), ["sax.nii.gz", "outside the image", "field of view is too small"]),
    "centimetres": (
        "lax_2ch",
        lambda a, affine: (a, affine @ np.diag([0.1, 0.1, 0.1, 1])),
        ["lax_2ch.nii.gz", "expected 0.5 to 4 mm", "are the units millimetres"],
    ),
    "fewer frames": ("lax_3ch", values(lambda a: a[..., :2]), ["lax_3ch.nii.gz", "2 phases but 3", "states no times"]),
    "beside the heart": ("lax_2ch", aside, ["no lax_2ch", "found: lax_3ch, lax_4ch", "let the view be missing"]),
    "unknown label": (
        "sax_label",
        values(lambda a: np.where(a == 2, 7, a)),
        ["sax_label.nii.gz", "label values 7", "2 LV myocardium", "rename"],
    ),
    "no muscle": (
        "sax_label",
        values(lambda a: a * (a != 2)),
        ["sax_label.nii.gz", "no LV myocardium", "end-diastole"],
    ),
    "contour": ("sax_label", values(contour), ["sax_label.nii.gz", "mm thick", "is it a contour", "filled label"]),
    "other grid": (
        "sax_label",
        values(lambda a: a[:, :, 1:]),
        ["sax_label.nii.gz", "that of no image in the exam", "dimensions and affine", "resample"],
    ),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run over a good exam and the bad ones; what it says of each, and its results."""
    made = tmp_path_factory.mktemp("made")
    simulate_heart_exam(made, 500021, frames=[0.0, 0.2, 0.36], slice_spacing_mm=14.0, wall_points=10)
    data, out = tmp_path_factory.mktemp("exams"), tmp_path_factory.mktemp("out")
    for name in ("good", "without 4CH", *BAD):
        (data / name).mkdir()
        labelled = name == "good" or BAD.get(name, ("",))[0] == "sax_label"
        for view in (*VIEWS, "sax_label") if labelled else VIEWS:
            shutil.copy(made / f"{view}.nii.gz", data / name)
    (data / "without 4CH" / "lax_4ch.nii.gz").unlink()
    for name, (file, change, _) in BAD.items():
        image = nibabel.load(made / f"{file}.nii.gz")
        array, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
        changed = nibabel.Nifti1Image(array, affine)
        changed.header.set_xyzt_units("mm", "sec")
        (data / name / f"{file}.nii.gz").unlink()
        nibabel.save(changed, data / name / f"{file}.nii.gz")
    workflow = ConfigWorkflow(
        config_file=f"{ROOT}/configs/inference.yaml",
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(ROOT),
        dataset_dir=str(data),
        output_dir=str(out),
        allow_missing_views=["lax_3ch"],
        figures=False,
    )
    workflow.initialize()
    workflow.run()
    with pytest.raises(SystemExit) as stopped:
        workflow.finalize()
    assert stopped.value.code == 3
    with (out / "failures.csv").open(newline="", encoding="utf-8") as file:
        said = {row["study"]: row["error"] for row in csv.DictReader(file)}
    return said, out, data


def test_the_good_exam_is_done_and_all_others_are_listed(run):
    said, out, _ = run
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        assert [(row["study"], row["label_source"]) for row in csv.DictReader(file)] == [("good", "given label")]
    assert set(said) == {"without 4CH", *BAD}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_exam_is_named_with_what_was_found_and_what_to_do(run, name):
    said, _, data = run
    assert re.search(".*".join(map(re.escape, BAD[name][2])), said[name]), said[name]
    assert str(data) not in said[name]


def test_a_view_that_must_not_be_missing_is_asked_for(run):
    assert re.search("no lax_4ch .*found: lax_2ch, lax_3ch; told by position.*add the series", run[0]["without 4CH"])


def test_a_grid_that_the_network_cannot_halve_is_refused_with_one_that_it_can():
    with pytest.raises(ValueError, match=r"size is \[64, 64, 12\].*multiples of 16.*8 in depth.*\[64, 64, 16\]"):
        preprocessing(size=[64, 64, 12])


def test_weights_of_another_slice_count_are_refused_with_the_setting_to_change():
    shipped = torch.load(f"{ROOT}/models/model.pt", weights_only=True)
    with pytest.raises(ValueError, match=r"weights are those of a network for 16 slices .* set its depth to 16"):
        MultiViewNet(depth=24).load_state_dict(shipped)
