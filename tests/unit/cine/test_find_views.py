"""Views are told by where they lie: on simulated hearts in any pose, and on a real exam whose descriptions lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from clinbundles.cine import LAX_VIEWS, LoadImageCineExamd, read_cine_exam


def test_views_are_found_whatever_the_files_are_called(exam_folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate((*LAX_VIEWS, "sax")):
        shutil.copy(exam_folder / f"{name}.nii.gz", tmp_path / f"{number}.nii.gz")
    exam = read_cine_exam(tmp_path)
    assert [view.name for view in exam.lax] == list(LAX_VIEWS)
    assert [view.where[0] for view in exam.lax] == ["0.nii.gz", "1.nii.gz", "2.nii.gz"]


def test_the_loaded_exam_has_the_agreed_tensors(exam_folder: Path) -> None:
    sample = LoadImageCineExamd(labels=True)({"image": str(exam_folder)})
    assert sample["image"].shape == (4, 64, 64, 16)
    assert sample["lax"].shape == (4, 3, 64, 64)
    assert sample["lax_pose"].shape == (3, 3, 4)
    assert sample["planes_label"].shape == sample["planes"].shape == (4, 19, 64, 64)
    truth = np.load(exam_folder / "truth.npz")
    cavity = truth["vertices"][0][truth["surface"] == 1].mean(axis=0)
    assert np.linalg.norm(sample["frame_to_world"][:3, 3].numpy() - cavity) < 15
