"""An exam that cannot be used is refused with a message that names the file, what was found and what to do."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from clinbundles.cine import CineExamError, LoadImageCineExamd, read_cine_exam, read_named_exam

Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


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


def test_an_exam_without_any_long_axis_view_is_read_with_a_warning(exam: Any, caplog: pytest.LogCaptureFixture) -> None:
    LoadImageCineExamd()({"image": [exam.case["sax"]]})
    assert re.search("sax.nii.gz: the exam has no long-axis view .* much too small, or give the views", caplog.text)
    caplog.clear()
    LoadImageCineExamd()({"image": exam.images})
    assert not caplog.text


def test_three_slices_are_no_short_axis_stack(exam: Any) -> None:
    exam.change("sax", lambda values, affine: (values[:, :, :3], affine))
    with refused("6 cine planes", "at most 3 are parallel", "at least 4", "all series"):
        read_cine_exam(exam.images)


def one_file_per_slice(
    exam: Any, change: Change = lambda values, affine: (values, affine), number: int = -1
) -> list[Path]:
    """The stack as single slices, one of them changed; their names follow no order."""
    sax: Any = nibabel.load(exam.case["sax"])
    values, files = np.asarray(sax.dataobj), []
    for k in range(values.shape[2]):
        affine = sax.affine.copy()
        affine[:3, 3] += k * affine[:3, 2]
        slab = values[:, :, k : k + 1]
        slab, affine = change(slab, affine) if k == number else (slab, affine)
        one = nibabel.Nifti1Image(slab, affine)
        one.header.set_xyzt_units("mm", "sec")
        one.header["pixdim"][4] = sax.header["pixdim"][4]
        files.append(exam.folder / f"{(7 * k) % values.shape[2]:02d}_slice.nii.gz")
        nibabel.save(one, files[-1])
    Path(exam.case["sax"]).unlink()
    return files


def test_slices_in_any_order_are_one_stack_from_base_to_apex(exam: Any) -> None:
    whole = read_cine_exam(exam.images).sax
    one_file_per_slice(exam)
    np.testing.assert_array_equal(read_cine_exam(exam.images).sax.image, whole.image)


def test_a_stack_read_from_apex_to_base_is_the_same_stack(exam: Any) -> None:
    def upside_down(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        affine[:3, 3] += (values.shape[2] - 1) * affine[:3, 2]
        affine[:3, 2] *= -1
        return values[:, :, ::-1], affine

    before = LoadImageCineExamd()({"image": exam.images})
    step = float(nibabel.load(exam.case["sax"]).header["pixdim"][4])
    exam.change("sax", upside_down, frame_s=step)
    after = LoadImageCineExamd()({"image": exam.images})
    np.testing.assert_allclose(after["image"].numpy(), before["image"].numpy(), atol=1e-5)


def test_slices_that_are_not_parallel_are_no_stack(exam: Any) -> None:
    sax: Any = nibabel.load(exam.case["sax"])
    values = np.asarray(sax.dataobj)
    for k in range(values.shape[2]):
        angle = np.radians(5 * k)
        turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        affine = sax.affine.copy()
        affine[:3] = turn @ affine[:3]
        one = nibabel.Nifti1Image(values[:, :, k : k + 1], affine)
        one.header.set_xyzt_units("mm", "sec")
        nibabel.save(one, exam.folder / f"fan_{k}.nii.gz")
    Path(exam.case["sax"]).unlink()
    with refused("14 cine planes", "at most 1 are parallel", "at least 4"):
        read_cine_exam(exam.images)


def test_a_slice_of_another_size_does_not_belong_to_the_stack(exam: Any) -> None:
    file = one_file_per_slice(exam, lambda values, affine: (values[2:], affine), number=5)[5]
    with refused(file.name, "62 x 64 pixels", "64 x 64 pixels", "expected one size", "leave out the series"):
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


@pytest.mark.parametrize("name", ["sax", "lax_2ch"])
def test_time_on_the_third_axis_is_refused_with_the_dimensions_found(exam: Any, name: str) -> None:
    exam.change(name, lambda values, affine: (values[:, :, :1].transpose(0, 1, 3, 2), affine))
    with refused(f"{name}.nii.gz", "64 x 64 x 4 x 1", "is the time axis the third one"):
        read_cine_exam(exam.images)


def test_a_long_axis_file_of_several_slices_is_refused(exam: Any) -> None:
    exam.change("lax_2ch", lambda values, affine: (np.repeat(values, 2, axis=2), affine))
    with refused("lax_2ch.nii.gz", "lax_2ch has 2 slices", "expected one"):
        read_named_exam(exam.case)


def test_more_slices_than_there_is_room_for_are_refused(exam: Any) -> None:
    with refused("sax.nii.gz", "11 slices", "room is for 8", "raise most_slices"):
        LoadImageCineExamd(most_slices=8)({"image": exam.images})


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


def test_a_long_axis_field_of_view_that_cuts_the_heart_off_is_refused(exam: Any) -> None:
    exam.change("lax_4ch", lambda values, affine: (values[:40], affine))
    with refused("lax_4ch.nii.gz", "outside the image (at most 25%)", "field of view"):
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
    with refused("ed_frame is 'systole'", "counted from 0"):
        LoadImageCineExamd()({"image": exam.images, "ed_frame": "systole"})


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


def test_labels_of_no_image_are_refused_in_a_folder_of_files(exam: Any) -> None:
    exam.change("sax_label", lambda values, affine: (values[:, :, 1:], affine))
    with refused("sax_label.nii.gz", "(64 x 64 x 10 x 4) is that of no image", "64 x 64 x 11 x 4", "resample"):
        LoadImageCineExamd(labels=True)({"image": str(exam.folder)})
    assert "planes_label" not in LoadImageCineExamd()({"image": str(exam.folder)})


def test_two_label_maps_of_one_image_are_refused(exam: Any) -> None:
    shutil.copy(exam.case["sax_label"], exam.folder / "sax_seg.nii.gz")
    with refused("sax_seg.nii.gz", "grid of sax.nii.gz", "leave one"):
        LoadImageCineExamd(labels=True)({"image": str(exam.folder)})


def test_labels_are_wanted_at_the_end_diastole_that_the_case_names(exam: Any) -> None:
    def only_there(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = values.copy()
        values[..., [0, 1, 3]] = 0
        return values, affine

    case = {key: file for key, file in exam.case.items() if key in ("sax", "sax_label")}
    exam.change("sax_label", only_there)
    sample = LoadImageCineExamd(labels=True)(case | {"ed_frame": 2})
    assert bool((sample["planes_label"][0] == 2).any())
    with refused("sax_label.nii.gz", "no LV myocardium (value 2) at phase 0"):
        LoadImageCineExamd(labels=True)(case)


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
