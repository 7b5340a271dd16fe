"""Reading en-face angiograms: every format gives the same image, and every bad input is refused with what to do."""

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from retinal_octa_vessel_segmentation.enface.enface_pixel_size import resolve_pixel_size
from retinal_octa_vessel_segmentation.enface.load_image_enface import EnFaceImaged, LoadImageEnFaced, pixel_size_mm
from retinal_octa_vessel_segmentation.enface.load_vessel_label import LoadImageVesselLabeld

EN_FACE = "1.2.840.10008.5.1.4.1.1.77.1.5.7"
OPT = "1.2.840.10008.5.1.4.1.1.77.1.5.4"
HEIGHT, WIDTH = 96, 80
PIXEL = (0.03, 0.036)  # 2.88 x 2.88 mm


@pytest.fixture
def raster():
    """An image without any symmetry, so that a swapped axis shows."""
    values = np.random.default_rng(3).integers(0, 200, (HEIGHT, WIDTH), dtype=np.uint8)
    values[5:20, 60:70] = 255
    return values


def load(path, **settings):
    case = settings.pop("case", {})
    return LoadImageEnFaced("image", **settings)({"image": str(path), **case})["image"]


def save_picture(path, raster, pixel=None, **options):
    if pixel is not None and path.suffix in (".tif", ".tiff"):
        options |= {"resolution_unit": 3, "x_resolution": 10 / pixel[1], "y_resolution": 10 / pixel[0]}
    elif pixel is not None:
        options["dpi"] = (25.4 / pixel[1], 25.4 / pixel[0])
    Image.fromarray(raster).save(path, **options)
    return path


def save_nifti(path, raster, pixel, volume=False):
    affine = np.diag([-pixel[1], -pixel[0], 1.0, 1.0])
    affine[:2, 3] = (1.5, -2.5)
    nibabel.save(nibabel.Nifti1Image(raster.T[..., None] if volume else raster.T, affine), path)
    return path


def save_dicom(path, raster, pixel=PIXEL, sop_class=EN_FACE, in_groups=False, **changes):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    header = pydicom.Dataset()
    header.file_meta = meta
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = sop_class, "1.2.3.4", "OPT"
    header.PatientName = "Secret^Person"
    header.Rows, header.Columns = raster.shape[-2:]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * raster.dtype.itemsize
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = bits, bits, bits - 1, 0
    header.ImageLaterality = "R"
    if raster.ndim == 3:
        header.NumberOfFrames = raster.shape[0]
    if pixel is not None and in_groups:
        measures = pydicom.Dataset()
        measures.PixelSpacing = list(pixel)
        group = pydicom.Dataset()
        group.PixelMeasuresSequence = Sequence([measures])
        header.SharedFunctionalGroupsSequence = Sequence([group])
    elif pixel is not None:
        header.PixelSpacing = list(pixel)
    header.PixelData = raster.tobytes()
    for name, value in changes.items():
        setattr(header, name, value)
    pydicom.dcmwrite(path, header, enforce_file_format=True)
    return path


WRITERS = {
    "a.png": save_picture,
    "a.bmp": save_picture,
    "a.tif": save_picture,
    "a.nii": save_nifti,
    "a.nii.gz": lambda *a: save_nifti(*a, volume=True),
    "a.dcm": save_dicom,
    "dicom_without_ending": lambda *a: save_dicom(*a, in_groups=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_raster_that_a_viewer_shows_and_the_pixel_size(tmp_path, raster, name):
    path = tmp_path / name
    WRITERS[name](path, raster, PIXEL)
    image = load(path)
    assert image.shape == (1, HEIGHT, WIDTH)
    assert image.dtype == torch.float32
    assert torch.equal(image.as_tensor()[0], torch.from_numpy(raster.astype(np.float32) / 255))
    assert pixel_size_mm(image) == pytest.approx(PIXEL, rel=1e-3)  # PNG holds whole pixels per metre
    assert image.affine.shape == (4, 4)


def test_depths_of_8_and_16_bits_and_floats_give_the_same_image(tmp_path, raster):
    wide = raster.astype(np.uint16) * 257
    images = [
        load(save_picture(tmp_path / "8.png", raster), fov_mm=3),
        load(save_picture(tmp_path / "16.png", wide), fov_mm=3),
        load(save_picture(tmp_path / "16.tif", wide), fov_mm=3),
        load(save_dicom(tmp_path / "16.dcm", wide, None), fov_mm=3),
        load(save_picture(tmp_path / "float.tif", (raster / np.float32(255))), fov_mm=3),
        load(save_nifti(tmp_path / "int16.nii", raster.astype(np.int16), (1.0, 1.0)), fov_mm=3),
        load(save_picture(tmp_path / "grey_as_colour.png", np.repeat(raster[..., None], 3, axis=-1)), fov_mm=3),
        load(save_dicom(tmp_path / "m1.dcm", 255 - raster, None, PhotometricInterpretation="MONOCHROME1"), fov_mm=3),
    ]
    for image in images[1:]:
        torch.testing.assert_close(image.as_tensor(), images[0].as_tensor(), atol=1e-6, rtol=0)
        assert pixel_size_mm(image) == pytest.approx((3 / HEIGHT, 3 / WIDTH))


def test_floats_of_another_range_are_stretched_with_a_remark(tmp_path, raster):
    image = load(save_picture(tmp_path / "a.tif", raster.astype(np.float32) * 10 - 50), fov_mm=3)
    assert float(image.min()) == 0
    assert float(image.max()) == 1
    assert "-50 to 2500 stretched" in image.meta["notes"]


def test_the_eye_comes_from_the_case_then_the_file_then_the_setting(tmp_path, raster):
    dicom = save_dicom(tmp_path / "a.dcm", raster)
    picture = save_picture(tmp_path / "a.png", raster)
    assert load(dicom, eye="OS").meta["eye"] == "OD"
    assert load(dicom, case={"eye": "OS"}).meta["eye"] == "OS"
    assert load(picture, eye="OS", fov_mm=3).meta["eye"] == "OS"
    with pytest.raises(ValueError, match="eye is 'left', expected OD"):
        load(picture, case={"eye": "left"}, fov_mm=3)


def test_the_case_states_the_field_of_view_before_the_setting(tmp_path, raster):
    path = save_picture(tmp_path / "a.png", raster)
    assert pixel_size_mm(load(path, fov_mm=3, case={"fov_mm": [6.0, 5.0]})) == pytest.approx((6 / HEIGHT, 5 / WIDTH))
    assert pixel_size_mm(load(path, case={"spacing_mm": 0.03})) == pytest.approx((0.03, 0.03))


def test_a_print_resolution_is_no_pixel_size(tmp_path, raster):
    for dpi in (72, 96, 300, 600, 1200):  # 600 and 1200 dpi would mean fields of 4 and 2 mm
        path = save_picture(tmp_path / "a.png", raster, dpi=(dpi, dpi))
        with pytest.raises(ValueError, match=f"tag of {dpi} dpi is a screen or print resolution.*fov_mm is not set"):
            load(path)
        assert pixel_size_mm(load(path, fov_mm=3)) == pytest.approx((3 / HEIGHT, 3 / WIDTH))


def test_a_picture_that_disagrees_with_fov_mm_is_remarked_and_a_header_is_refused(tmp_path, raster):
    image = load(save_picture(tmp_path / "a.tif", raster, PIXEL), fov_mm=6)
    assert pixel_size_mm(image) == pytest.approx((6 / HEIGHT, 6 / WIDTH))
    assert "the file says 2.88 x 2.88 mm, fov_mm says 6 x 6 mm; the stated one is used" in image.meta["notes"]
    for path in (save_dicom(tmp_path / "a.dcm", raster), save_nifti(tmp_path / "a.nii", raster, PIXEL)):
        with pytest.raises(ValueError, match=r"2\.88 x 2\.88 mm, fov_mm says 6 x 6 mm: one of them is wrong"):
            load(path, fov_mm=6)
        assert pixel_size_mm(load(path, fov_mm=2.9)) == pytest.approx(PIXEL)  # rounded, as people say it


def test_a_volume_is_projected_along_the_axis_that_the_user_names(tmp_path, raster):
    volume = np.zeros((WIDTH, 7, HEIGHT), dtype=np.uint8)
    volume[:, 3] = raster.T
    affine = np.diag([PIXEL[1], 0.004, PIXEL[0], 1.0])
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "v.nii.gz")
    with pytest.raises(ValueError, match=r"is a volume of 80 x 7 x 96 voxels.*set projection_axis"):
        load(tmp_path / "v.nii.gz")
    image = load(tmp_path / "v.nii.gz", projection_axis=1)
    assert torch.equal(image.as_tensor()[0], torch.from_numpy(raster.astype(np.float32) / 255))
    assert pixel_size_mm(image) == pytest.approx(PIXEL)
    assert "maximum projection of 7 voxels along axis 1" in image.meta["notes"]


def coloured(raster):
    picture = np.repeat(raster[..., None], 3, axis=-1)
    picture[30:40, 30:40] = (255, 0, 0)
    return picture


BAD = {
    "no pixel size": (
        lambda p, r: save_picture(p / "x.png", r),
        {},
        r"x\.png: the file states no pixel size.*--fov_mm 6",
    ),
    "colour": (
        lambda p, r: save_picture(p / "x.png", coloured(r)),
        {"fov_mm": 3},
        r"coloured \(1\.3% of its pixels\).*plain grey-scale angiogram",
    ),
    "too small": (
        lambda p, r: save_picture(p / "x.png", r[:63, :63]),
        {"fov_mm": 3},
        "63 x 63 pixels is too small.*64",
    ),
    "field too large": (lambda p, r: save_picture(p / "x.png", r), {"fov_mm": 16}, "16 x 16 mm, expected 1-15 mm"),
    "field too small": (lambda p, r: save_picture(p / "x.png", r), {"fov_mm": 0.9}, "0.9 x 0.9 mm, expected 1-15 mm"),
    "field of nonsense": (
        lambda p, r: save_picture(p / "x.png", r),
        {"fov_mm": -3},
        "fov_mm is -3, expected one or two",
    ),
    "header of a print": (
        lambda p, r: save_dicom(p / "x.dcm", r, (0.5, 0.5)),
        {},
        "field of view is 48 x 40 mm by the pixel size in the header",
    ),
    "constant": (lambda p, r: save_picture(p / "x.png", r * 0 + 7), {"fov_mm": 3}, r"constant \(every pixel is 7\)"),
    "nan": (
        lambda p, r: save_picture(p / "x.tif", np.where(r > 250, np.nan, r).astype(np.float32)),
        {"fov_mm": 3},
        "pixels are NaN or infinite",
    ),
    "B-scan, long": (
        lambda p, r: save_picture(p / "x.png", np.tile(r, (1, 3))),
        {"fov_mm": 6},
        "96 x 240 pixels is far from square: is it an OCT B-scan",
    ),
    "B-scan, square field": (
        lambda p, r: save_picture(p / "x.png", np.tile(r, (1, 2))),
        {"fov_mm": 6},
        "pixels of 0.0625 x 0.0375 mm.*is it an OCT B-scan",
    ),
    "B-scan, no size": (
        lambda p, r: save_picture(p / "x.png", np.tile(r, (1, 2))),
        {},
        "96 x 160 pixels is far from square: is it an OCT B-scan",
    ),
    "multi-frame DICOM": (
        lambda p, r: save_dicom(p / "x.dcm", np.stack([r, r, r]), sop_class=OPT),
        {"fov_mm": 3},
        "DICOM with 3 frames.*Export the en-face angiogram",
    ),
    "pages": (
        lambda p, r: save_picture(p / "x.tif", r, save_all=True, append_images=[Image.fromarray(r)]),
        {"fov_mm": 3},
        "holds 2 pages: a volume or a series",
    ),
    "not an image": (lambda p, r: write(p / "x.png", b"hello"), {"fov_mm": 3}, "x.png: cannot be read as an image"),
    "cut off": (
        lambda p, r: write(p / "y.png", save_picture(p / "x.png", r).read_bytes()[:2000]),
        {"fov_mm": 3},
        "y.png: cannot be read as an image, is it damaged or cut off",
    ),
    "cut-off NIfTI": (
        lambda p, r: write(p / "y.nii", save_nifti(p / "x.nii", r, PIXEL).read_bytes()[:2000]),
        {},
        "y.nii: cannot be read as NIfTI",
    ),
    "cut-off DICOM": (
        lambda p, r: write(p / "y.dcm", save_dicom(p / "x.dcm", r).read_bytes()[:2000]),
        {},
        "y.dcm: cannot be read as a DICOM image",
    ),
}


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_refused_with_what_was_found_and_how_to_mend_it(tmp_path, raster, kind):
    make, settings, message = BAD[kind]
    path = make(tmp_path, raster)
    with pytest.raises(ValueError, match=message) as error:
        load(path, **settings)
    assert "Secret" not in str(error.value)
    assert str(tmp_path) not in str(error.value)


def test_a_wide_montage_with_height_and_width_is_accepted():
    size, _ = resolve_pixel_size((300, 500), "montage", fov_mm=[9, 15])
    assert size == pytest.approx((0.03, 0.03))


def test_an_image_that_a_host_has_loaded_is_checked_and_keeps_its_axes(raster):
    affine = torch.diag(torch.tensor([PIXEL[0], PIXEL[1], 1.0, 1.0], dtype=torch.float64))
    for array in (raster, raster[None], raster[..., None], raster[None, ..., None]):
        image = EnFaceImaged("image")({"image": MetaTensor(torch.from_numpy(array.copy()), affine=affine)})["image"]
        assert torch.equal(image.as_tensor()[0], torch.from_numpy(raster.astype(np.float32) / 255))
        assert pixel_size_mm(image) == pytest.approx(PIXEL)
    with pytest.raises(ValueError, match="fov_mm is not set"):
        EnFaceImaged("image")({"image": raster})
    with pytest.raises(ValueError, match="a volume or a coloured image"):
        EnFaceImaged("image", fov_mm=3)({"image": np.stack([raster] * 3)})


@pytest.mark.parametrize(("channel", "kept"), [(None, [0, 1]), (0, [0]), (1, [1])])
def test_a_label_map_gives_all_vessels_and_larger_vessels_or_the_chosen_ones(tmp_path, raster, channel, kept):
    image = load(save_picture(tmp_path / "image.png", raster), fov_mm=3)
    both = np.stack([raster > 100, raster > 240])
    labels = save_picture(tmp_path / "map.png", both.sum(axis=0).astype(np.uint8))
    loaded = LoadImageVesselLabeld("label", channel=channel)({"image": image, "label": str(labels)})["label"]
    assert torch.equal(loaded.as_tensor(), torch.from_numpy(both[kept]).float())
    assert torch.equal(loaded.affine, image.affine)


@pytest.mark.parametrize("channel", [None, 0, 1])
def test_a_mask_is_taken_as_it_is(tmp_path, raster, channel):
    image = load(save_picture(tmp_path / "image.png", raster), fov_mm=3)
    for name, white in (("0 and 255.png", 255), ("0 and 1.png", 1)):
        file = save_picture(tmp_path / name, (raster > 100).astype(np.uint8) * white)
        loaded = LoadImageVesselLabeld("label", channel=channel)({"image": image, "label": str(file)})["label"]
        assert torch.equal(loaded.as_tensor()[0], torch.from_numpy(raster > 100).float())


def test_a_label_that_does_not_belong_to_its_image_is_refused(tmp_path, raster):
    image = load(save_picture(tmp_path / "image.png", raster), fov_mm=3)
    with pytest.raises(ValueError, match="JPEG"):
        LoadImageVesselLabeld("label")({"image": image, "label": str(save_picture(tmp_path / "grey.png", raster))})
    small = save_picture(tmp_path / "small.png", (raster[:70] > 100).astype(np.uint8))
    with pytest.raises(ValueError, match=r"small.png has 70 x 80 pixels but its image image.png has 96 x 80"):
        LoadImageVesselLabeld("label")({"image": image, "label": str(small)})
    with pytest.raises(ValueError, match=r"channel is 2, expected 0 .* 1"):
        LoadImageVesselLabeld("label", channel=2)
