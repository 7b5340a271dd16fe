"""Image patches from files: the same pixels whatever the format, and refusals in words."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from make_dicom import write_colour, write_en_face
from PIL import Image

from dp_equivariant_classification.images.fixed_normalisation import FixedNormalisationd
from dp_equivariant_classification.images.load_image_patch import LoadImagePatchd
from dp_equivariant_classification.images.patch_file import read_patch_file
from dp_equivariant_classification.images.preprocessing import PadAliked, preprocessing
from dp_equivariant_classification.losses import ClassificationLoss


def colours(side=28, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def saved(folder, array, name="patch.png", **options):
    Image.fromarray(array).save(folder / name, **options)
    return str(folder / name)


def rgb_nifti(path, array):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    stored = np.ascontiguousarray(array.transpose(1, 0, 2)).view(kind).reshape(array.shape[1], array.shape[0], 1)
    nib.save(nib.Nifti1Image(stored, np.eye(4)), path)
    return str(path)


def test_every_format_gives_the_same_raster(tmp_path):
    array = colours()
    files = [saved(tmp_path, array, f"patch.{ending}") for ending in ("png", "bmp", "tif")]
    files.append(rgb_nifti(tmp_path / "patch.nii.gz", array))
    files.append(str(write_colour(tmp_path / "patch.dcm", array)))
    fourth = array.transpose(1, 0, 2)[:, :, None]
    nib.save(nib.Nifti1Image(fourth, np.eye(4)), tmp_path / "fourth.nii")
    for file in [*files, str(tmp_path / "fourth.nii"), [files[-1]]]:
        np.testing.assert_array_equal(read_patch_file(file).raster, array, err_msg=str(file))


def test_intensities_are_scaled_by_the_type_and_normalised_by_fixed_numbers(tmp_path):
    array = np.zeros((28, 28, 3), np.uint8)
    array[0, 0] = 255
    image = preprocessing()({"image": saved(tmp_path, array)})["image"]
    assert image.dtype == torch.float32
    assert tuple(image.shape) == (3, 28, 28)
    assert (float(image.min()), float(image.max())) == (-2.0, 2.0)
    wide = np.full((28, 28), 65535, np.uint16)
    assert float(LoadImagePatchd("image", 1)({"image": saved(tmp_path, wide)})["image"].max()) == 1


def test_inverted_grey_dicom_is_turned_round(tmp_path):
    import pydicom

    path = write_en_face(tmp_path / "a.dcm", np.full((8, 8), 255, np.uint8))
    header = pydicom.dcmread(path)
    header.PhotometricInterpretation = "MONOCHROME1"
    header.save_as(path)
    assert read_patch_file(path).raster.max() == 0


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (colours(32), {}, r"is 32 x 32 pixels, expected 28 x 28, the size in training.*set resize to True"),
        (colours(28)[:20], {"resize": True}, r"is 20 x 28 pixels, expected 28 x 28: crop it to that shape"),
        (colours()[..., 0], {}, r"is grey \(1 channels\), the network takes 3"),
        (colours(), {"in_channels": 1}, r"is coloured \(3 channels\), the network takes 1"),
    ],
)
def test_an_image_that_the_network_would_misread_is_refused(tmp_path, array, options, message):
    with pytest.raises(ValueError, match=message):
        LoadImagePatchd("image", **options)({"image": saved(tmp_path, array)})


def test_a_size_of_the_same_shape_is_resampled_if_the_user_says_so(tmp_path):
    flat = np.full((56, 56, 3), 100, np.uint8)
    image = LoadImagePatchd("image", resize=True)({"image": saved(tmp_path, flat)})["image"]
    np.testing.assert_allclose(np.asarray(image), 100 / 255, atol=1e-6)
    assert tuple(image.shape) == (3, 28, 28)


def test_grey_values_stored_as_colour_are_grey(tmp_path):
    grey = np.repeat(colours()[..., :1], 3, axis=-1)
    assert LoadImagePatchd("image", 1)({"image": saved(tmp_path, grey)})["image"].shape == (1, 28, 28)


def test_files_that_are_no_single_image_are_refused_by_name(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    pages = [Image.fromarray(colours(seed=seed)) for seed in range(2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 5), np.int16), np.eye(4)), tmp_path / "volume.nii.gz")
    nib.save(nib.Nifti1Image(np.full((8, 8, 1), 300.0), np.eye(4)), tmp_path / "floats.nii.gz")
    for name, message in {
        "broken.png": "broken.png: cannot be read as an image, is it damaged",
        "pages.tif": "pages.tif: holds 2 pages, expected one 2D image",
        "volume.nii.gz": "volume.nii.gz: holds 8 x 8 x 5 voxels, expected one 2D image",
        "floats.nii.gz": "floating point values from 300 to 300, expected 0 to 1",
    }.items():
        with pytest.raises(ValueError, match=message):
            LoadImagePatchd("image", 1, None)({"image": str(tmp_path / name)})
    with pytest.raises(ValueError, match="the series has 2 images, expected one 2D image"):
        read_patch_file([tmp_path / "a.dcm", tmp_path / "b.dcm"])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png: no such file"):
        read_patch_file(tmp_path / "nowhere.png")


@pytest.mark.parametrize("constants", [{"mean": "auto"}, {"std": "estimated"}, {"mean": None}])
def test_constants_computed_from_the_images_are_refused(constants):
    with pytest.raises(ValueError, match=r"computed from the private images.*the privacy statement does not cover"):
        FixedNormalisationd("image", **constants)


def test_a_standard_deviation_of_zero_is_refused():
    with pytest.raises(ValueError, match="std is 0, expected a number above 0"):
        FixedNormalisationd("image", std=0)


def test_class_weights_from_private_labels_are_refused_and_given_numbers_weigh():
    with pytest.raises(ValueError, match=r"computed from the private labels.*Take frequencies from public statistics"):
        ClassificationLoss("balanced")
    logits, label = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    each = -torch.log_softmax(logits, dim=1)[torch.arange(2), label]
    assert ClassificationLoss([1.0, 3.0], "sum")(logits, label) == pytest.approx(float(each[0] + 3 * each[1]))
    torch.testing.assert_close(ClassificationLoss()(logits, label), each)


def test_padding_is_alike_on_all_sides_and_turns_with_the_image():
    image = torch.rand(3, 28, 28)
    pad = PadAliked("image", 32)
    padded = pad({"image": image})["image"]
    assert tuple(padded.shape) == (3, 32, 32)
    turned = pad({"image": torch.rot90(image, 1, (1, 2))})["image"]
    assert torch.equal(torch.rot90(padded, 1, (1, 2)), turned)
    with pytest.raises(ValueError, match=r"pad_to is 31 but the image is 28 x 28 pixels.*by an even number"):
        PadAliked("image", 31)({"image": image})
