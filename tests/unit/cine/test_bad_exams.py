"""An exam that cannot be used is refused with a message that names the file, what was found and what to do."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from clinbundles.cine import CineExamError, LoadImageCineExamd, read_cine_exam, read_named_exam


def refused(*words: str) -> Any:
    """The error and what its message must say, in this order."""
    return pytest.raises(CineExamError, match="(?s)" + ".*".join(map(re.escape, words)))


def test_a_missing_view_is_named_with_what_was_found(exam: Any) -> None:
    (exam.folder / "lax_2ch.nii.gz").unlink()
    with refused("lax_2ch", "found 2 planes", "lax_3ch, lax_4ch", "leave the view out"):
        read_cine_exam(exam.images, ["lax_2ch", "lax_4ch"])
    with refused("no lax_2ch", "lax_3ch, lax_4ch", "told by position"):
        LoadImageCineExamd(allow_missing_views=["lax_3ch"])({"image": exam.images})
    with refused("the case has no lax_2ch", "leave the view out"):
        LoadImageCineExamd(allow_missing_views=False)(exam.case)


def test_a_missing_view_is_zero_where_it_may_be_missing(exam: Any) -> None:
    (exam.folder / "lax_2ch.nii.gz").unlink()
    sample = LoadImageCineExamd(allow_missing_views=["lax_2ch"])({"image": exam.images})
    assert not sample["lax"][:, 0].any()
    assert not sample["lax_pose"][0].any()
    assert sample["lax"][:, 1].any()
    assert sample["lax_pose"][2].any()


def test_the_short_axis_alone_is_an_exam_where_no_view_is_wanted(exam: Any) -> None:
    sample = LoadImageCineExamd(views=[])({"image": [exam.case["sax"]]})
    assert sample["lax"].shape == (4, 0, 64, 64)
    assert set(sample["native"]) == {"sax"}


def test_three_slices_are_no_short_axis_stack(exam: Any) -> None:
    exam.change("sax", lambda values, affine: (values[:, :, :3], affine))
    with refused("6 cine planes", "at most 3 are parallel", "at least 4", "all series"):
        read_cine_exam(exam.images)


def test_a_repeated_slice_of_another_breath_hold_is_refused(exam: Any) -> None:
    sax: Any = nibabel.load(exam.case["sax"])
    values = np.asarray(sax.dataobj)[:, :, 2:3]
    affine = sax.affine.copy()
    affine[:3, 3] += 2 * affine[:3, 2]
    repeated = nibabel.Nifti1Image(values + 1, affine)
    repeated.header.set_xyzt_units("mm", "sec")
    nibabel.save(repeated, exam.folder / "again.nii.gz")
    with refused("sax.nii.gz", "again.nii.gz", "at one position", "Leave one"):
        read_cine_exam(exam.images)


def test_an_identical_copy_of_a_slice_is_left_out(exam: Any) -> None:
    shutil.copy(exam.case["sax"], exam.folder / "copy.nii.gz")
    assert read_cine_exam(exam.images).sax.image.shape[2] == 11


def test_a_long_axis_plane_parallel_to_the_short_axis_is_refused(exam: Any) -> None:
    sax: Any = nibabel.load(exam.case["sax"])
    exam.change("lax_4ch", lambda values, affine: (values, sax.affine))
    with refused("lax_4ch.nii.gz", "stands at 0 degrees", "nearly 90"):
        read_named_exam(exam.case)


def test_a_long_axis_plane_that_misses_the_heart_is_refused(exam: Any) -> None:
    def aside(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        affine[:3, 3] += 50 * affine[:3, 2] / np.linalg.norm(affine[:3, 2])
        return values, affine

    exam.change("lax_4ch", aside)
    with refused("lax_4ch.nii.gz", "mm beside the left ventricle", "another exam"):
        read_named_exam(exam.case)
    with refused("no lax_4ch"):
        read_cine_exam(exam.images, ["lax_4ch"])


def test_frames_of_different_numbers_need_times(exam: Any) -> None:
    exam.change("lax_2ch", lambda values, affine: (values[..., :3], affine), frame_s=None)
    with refused("lax_2ch.nii.gz", "3 phases but 4", "no times", "pixdim[4]"):
        read_cine_exam(exam.images)


def test_frames_of_different_numbers_are_matched_by_their_times(exam: Any) -> None:
    def twice_as_many(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(values, 2, axis=3), affine

    before = read_cine_exam(exam.images).view("lax_2ch")
    exam.change("lax_2ch", twice_as_many, frame_s=0.05)
    after = read_cine_exam(exam.images).view("lax_2ch")
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(after.image, before.image)


@pytest.mark.parametrize("kind", ["sheared", "singular"])
def test_an_affine_that_is_no_grid_is_refused(exam: Any, kind: str) -> None:
    def bend(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        affine[:3, 1] = affine[:3, 0] if kind == "singular" else affine[:3, 1] + 0.3 * affine[:3, 0]
        return values, affine

    path = exam.folder / "lax_3ch.nii.gz"
    image: Any = nibabel.load(path)
    values, affine = bend(np.asarray(image.dataobj), image.affine.copy())
    bent = nibabel.Nifti1Image(values, np.eye(4))
    bent.set_sform(affine, code=1)
    bent.set_qform(None, code=0)
    path.unlink()
    nibabel.save(bent, path)
    with refused("lax_3ch.nii.gz", kind):
        read_cine_exam(exam.images)


def test_forms_that_disagree_are_refused(exam: Any) -> None:
    image: Any = nibabel.load(exam.case["lax_3ch"])
    moved = image.affine.copy()
    moved[0, 3] += 5
    wrong = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine)
    wrong.set_sform(image.affine, code=1)
    wrong.set_qform(moved, code=1)
    path = Path(exam.case["lax_3ch"])
    path.unlink()
    nibabel.save(wrong, path)
    with refused("lax_3ch.nii.gz", "qform and sform disagree by 5 mm", "remove it"):
        read_cine_exam(exam.images)


def test_an_image_without_an_affine_is_refused(exam: Any) -> None:
    image: Any = nibabel.load(exam.case["lax_3ch"])
    lost = nibabel.Nifti1Image(np.asarray(image.dataobj), None)
    path = Path(exam.case["lax_3ch"])
    path.unlink()
    nibabel.save(lost, path)
    with refused("lax_3ch.nii.gz", "no affine"):
        read_cine_exam(exam.images)


def test_a_volume_without_time_is_refused(exam: Any) -> None:
    exam.change("sax", lambda values, affine: (values[..., 0], affine))
    with refused("sax.nii.gz", "64 x 64 x 11", "expected 4", "slices x phases"):
        read_cine_exam(exam.images)


def test_a_damaged_file_is_named(exam: Any) -> None:
    (exam.folder / "lax_3ch.nii.gz").write_bytes(b"\x1f\x8bnothing")
    with refused("lax_3ch.nii.gz", "damaged"):
        read_cine_exam(exam.images)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(exam: Any, value: float) -> None:
    def spoil(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        spoilt = values.astype(np.float32)
        spoilt[3, 4, 5, 2] = value
        return spoilt, affine

    exam.change("sax", spoil)
    with refused("sax.nii.gz", "slice 5, phase 2", "NaN or infinite"):
        read_cine_exam(exam.images)


def test_a_constant_phase_is_refused(exam: Any) -> None:
    def blank(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        blanked = values.copy()
        blanked[:, :, 1, 3] = 7
        return blanked, affine

    exam.change("sax", blank)
    with refused("sax.nii.gz", "slice 1, phase 3 is constant"):
        read_cine_exam(exam.images)


def test_pixels_in_metres_are_refused(exam: Any) -> None:
    def metres(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return values, affine @ np.diag([1e-3, 1e-3, 1e-3, 1])

    exam.change("lax_2ch", metres)
    with refused("lax_2ch.nii.gz", "0.002 x 0.002 mm", "0.5 to 4 mm", "millimetres"):
        read_cine_exam(exam.images)


def test_a_field_of_view_that_cuts_the_heart_off_is_refused(exam: Any) -> None:
    exam.change("sax", lambda values, affine: (values[:40], affine))
    with refused("sax.nii.gz", "outside the image (at most 25%)", "field of view"):
        LoadImageCineExamd()({"image": exam.images})


def test_an_empty_case_is_refused(tmp_path: Path) -> None:
    with refused("holds no NIfTI", "no DICOM"):
        read_cine_exam(tmp_path)
    with refused("neither 'image' nor 'sax'"):
        LoadImageCineExamd()({"study": "A"})
    with pytest.raises(FileNotFoundError, match="nothing: no such file"):
        read_cine_exam(tmp_path / "nothing")


def test_an_unknown_end_diastole_is_refused(exam: Any) -> None:
    with refused("ed_frame is 4", "from 0 to 3"):
        read_cine_exam(exam.images, ed_frame=4)


def test_grid_sizes_that_the_network_cannot_halve_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size is \[60, 64, 16\].*\[64, 64, 16\]"):
        LoadImageCineExamd(size=[60, 64, 16])


def test_labels_with_unknown_values_are_refused(exam: Any) -> None:
    exam.change("sax_label", lambda values, affine: (np.where(values == 3, 4, values), affine))
    with refused("sax_label.nii.gz", "label values 4", "3 RV cavity"):
        LoadImageCineExamd(labels=True)(exam.case)


def test_labels_on_another_grid_are_refused(exam: Any) -> None:
    exam.change("sax_label", lambda values, affine: (values[:, :, 1:], affine))
    with refused("sax_label.nii.gz", "another grid (64 x 64 x 10 x 4)", "sax.nii.gz (64 x 64 x 11 x 4)"):
        LoadImageCineExamd(labels=True)(exam.case)


def test_labels_without_myocardium_are_refused(exam: Any) -> None:
    exam.change("sax_label", lambda values, affine: (np.where(values == 2, 0, values), affine))
    with refused("sax_label.nii.gz", "no LV myocardium (value 2)", "end-diastole"):
        LoadImageCineExamd(labels=True)(exam.case)


def test_a_contour_where_an_area_is_expected_is_refused(exam: Any) -> None:
    def contour(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wall = values == 2
        inner = np.ones_like(wall)
        for axis in (0, 1):
            for step in (-1, 1):
                inner &= np.roll(wall, step, axis)
        return np.where(wall & ~inner, 2, 0).astype(np.uint8), affine

    exam.change("lax_2ch_label", contour)
    with refused("lax_2ch_label.nii.gz", "mm thick", "a contour?"):
        LoadImageCineExamd(labels=True)(exam.case)
