"""One loader for NIfTI and DICOM: the same geometry, the same axes."""

import nibabel
import numpy as np
import pytest
import torch
from dicom_forms import in_patient_coordinates, refused, write_enhanced
from make_dicom import OBLIQUE, write_series
from monai.data import MetaTensor, list_data_collate
from monai.transforms import EnsureChannelFirstd

from clinbundles.transforms.load_image_study import LoadImageStudyd


def load(image, **settings):
    return LoadImageStudyd("image", **settings)({"image": image})["image"]


@pytest.fixture
def nifti(tmp_path, volume):
    nibabel.save(nibabel.Nifti1Image(volume, OBLIQUE), tmp_path / "a.nii.gz")
    return tmp_path / "a.nii.gz"


@pytest.mark.parametrize("form", ["files", "folder", "one file of several frames"])
def test_nifti_and_dicom_of_one_volume_agree_in_patient_coordinates(tmp_path, volume, nifti, form):
    if form == "one file of several frames":
        given = str(write_enhanced(tmp_path / "dicom" / "a", volume, OBLIQUE, [2, 1, 0, 3, 4]))
    else:
        files = write_series(tmp_path / "dicom", volume, OBLIQUE)
        given = tmp_path / "dicom" if form == "folder" else [str(file) for file in files]
    from_nifti, from_dicom = load(str(nifti)), load(given)
    for image in (from_nifti, from_dicom):
        assert isinstance(image, MetaTensor)
        assert image.shape == (1, *volume.shape)
        assert image.dtype == torch.float32
        assert image.affine.dtype == torch.float64
        # a host's own EnsureChannelFirst adds no second channel
        again = EnsureChannelFirstd("image")({"image": image})["image"]
        assert again.shape == image.shape
    found = in_patient_coordinates(
        from_dicom[0].numpy(), from_dicom.affine.numpy(), from_nifti.affine.numpy(), volume.shape
    )
    np.testing.assert_array_equal(found, from_nifti[0].numpy())
    np.testing.assert_allclose(from_nifti.affine, OBLIQUE, atol=1e-5)  # NIfTI keeps 32 bits


def test_dicom_series_of_different_length_can_share_a_list_of_batches(tmp_path, volume):
    write_series(tmp_path / "a", volume, OBLIQUE)
    write_series(tmp_path / "b", volume[..., :3], OBLIQUE)
    loader = LoadImageStudyd("image")
    samples = [loader({"image": tmp_path / name}) for name in "ab"]
    crops = [{"image": sample["image"][..., :2]} for sample in samples]
    assert list_data_collate(crops)["image"].shape == (2, 1, 9, 7, 2)


def test_a_time_axis_is_the_last_one_of_nifti_and_dicom(tmp_path, volume):
    phases = np.stack([volume, volume + 2000, volume - 2000], axis=-1)
    nibabel.save(nibabel.Nifti1Image(phases, OBLIQUE), tmp_path / "cine.nii")
    for t in range(3):
        write_series(tmp_path / "cine", phases[..., t], OBLIQUE, series="1.2.3.5", phase=t)
    from_nifti, from_dicom = (load(tmp_path / name, time=True) for name in ("cine.nii", "cine"))
    assert from_nifti.shape == from_dicom.shape == (1, *phases.shape)
    np.testing.assert_array_equal(from_nifti[0], phases)
    for t in range(3):
        found = in_patient_coordinates(from_dicom[0, ..., t].numpy(), from_dicom.affine.numpy(), OBLIQUE, volume.shape)
        np.testing.assert_array_equal(found, phases[..., t])
    # without it, MONAI's own reading holds for NIfTI and the refusal for DICOM
    assert load(tmp_path / "cine.nii").shape == (3, *volume.shape)
    refused(lambda: load(tmp_path / "cine"), "5 of 5 positions hold up to 3 frames")
    nibabel.save(nibabel.Nifti1Image(volume, OBLIQUE), tmp_path / "flat.nii")
    with pytest.raises(ValueError, match=r"flat.nii: has the shape .*, expected a series"):
        load(tmp_path / "flat.nii", time=True)


def test_the_rules_of_a_bundle_choose_its_series_and_refuse_others(tmp_path, volume):
    mr = write_series(tmp_path / "study" / "1", volume, OBLIQUE)
    write_series(tmp_path / "study" / "2", volume, OBLIQUE, modality="CT")
    assert load(tmp_path / "study", series_rules={"Modality": "MR"}).meta["dicom_files"].splitlines()[0] in map(str, mr)
    refused(
        lambda: load([str(file) for file in mr], series_rules={"Modality": "CT"}),
        "MR series 1 .*Modality is 'MR', expected 'CT'",
    )
    refused(lambda: load(tmp_path / "study"), "study: 2 series where one is expected")
    refused(lambda: load(tmp_path / "study", series_rules={"Modality": "US"}), "2 series where one is expected")


def test_an_image_that_a_host_has_loaded_passes(volume):
    image = MetaTensor(torch.from_numpy(volume)[None])
    assert load(image) is image
    array = volume.copy()
    assert load(array) is array


def test_a_missing_file_and_a_file_that_is_no_dicom_in_spite_of_its_name_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.nii: no such file"):
        load(tmp_path / "nowhere.nii")
    (tmp_path / "a.dcm").write_text("hello")
    refused(lambda: load(tmp_path / "a.dcm"), r"a\.dcm: is no DICOM file")
