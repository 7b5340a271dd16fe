"""Exams that the bundle cannot use are refused with a reason; the reading itself is tested in tests/unit/cine."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from cardiac_mri_mesh_motion.results.pipeline import preprocessing
from clinbundles.cine.cine_exam import CineExamError


def test_missing_view_is_refused_unless_it_may_be_missing(case):
    without = {key: value for key, value in case.items() if key not in ("lax_2ch", "lax_2ch_label", "truth")}
    with pytest.raises(CineExamError, match="lax_2ch"):
        run(without, allow_missing_views=False)
    sample = run(without)
    assert not sample["lax_pose"][0].any()
    assert sample["lax_pose"][1:].any()


def run(case, **options):
    """Without MONAI's wrapping of errors."""
    return preprocessing(**options).transforms[0](dict(case))


@pytest.fixture
def changed(case, tmp_path):
    """The exam with one file changed."""

    def change(key, values=None, affine=None):
        image = nibabel.load(case[key])
        array = np.asarray(image.dataobj) if values is None else values(np.asarray(image.dataobj).copy())
        placed = image.affine if affine is None else affine(image.affine.copy())
        new = nibabel.Nifti1Image(array, placed)
        new.header.set_xyzt_units("mm", "sec")
        new.header["pixdim"][4] = image.header["pixdim"][4]
        path = tmp_path / f"{key}.nii.gz"
        nibabel.save(new, path)
        return dict(case) | {key: str(path)}

    return change


def test_images_that_are_constant_are_refused(changed):
    with pytest.raises(CineExamError, match=r"lax_4ch\.nii\.gz.*constant"):
        run(changed("lax_4ch", lambda array: np.full_like(array, 7)))


def test_a_stack_of_one_phase_is_no_cine(changed):
    with pytest.raises(CineExamError, match=r"sax\.nii\.gz.*phase"):
        run(changed("sax", lambda array: array[..., :1]))


def test_planes_far_from_the_stack_are_refused(changed):
    def away(affine):
        affine[:3, 3] += 300.0
        return affine

    with pytest.raises(CineExamError, match="lax_4ch"):
        run(changed("lax_4ch", affine=away))


def test_labels_with_unknown_values_are_refused(changed):
    def with_nine(array):
        array[20, 20] = 9
        return array

    with pytest.raises(CineExamError, match=r"sax_label\.nii\.gz: holds the label values 9; expected 0 background"):
        run(changed("sax_label", with_nine), labels=True)


def test_labels_on_another_grid_are_refused(changed):
    with pytest.raises(CineExamError, match=r"sax_label\.nii\.gz: lies on another grid"):
        run(changed("sax_label", lambda array: array[:-4]), labels=True)
