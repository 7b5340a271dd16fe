"""Reading a series: real vendors' series give the NIfTI beside them, and what is no regular image is refused."""

import locale
import random
import tarfile
from collections import Counter

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from dicom_forms import change, in_patient_coordinates, refused, write_enhanced
from make_dicom import OBLIQUE, header, save, set_pixels, write_series
from pydicom.uid import CTImageStorage, UltrasoundMultiFrameImageStorage

from clinbundles.dicom import dicom_files, list_series, read_series

VENDORS = ("siemens", "ge", "philips", "hitachi", "philips_enhanced")


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_real_series_gives_the_nifti_beside_it_voxel_for_voxel_in_patient_coordinates(real_data, vendor):
    folder = real_data / "dicom_import" / vendor / "anatomical"
    truth = nibabel.load(folder / "001_ground_truth.nii.gz")
    expected = np.squeeze(np.asarray(truth.dataobj, dtype=float))
    files = sorted((folder / "001").iterdir())
    random.Random(vendor).shuffle(files)
    image = read_series(files)
    assert image.shape[0] == 1
    assert image.dtype == torch.float32
    found = in_patient_coordinates(
        np.asarray(image[0], dtype=float), image.affine.numpy(), truth.affine, expected.shape
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)
    assert sorted(dicom_files(image)) == sorted(files)


def test_the_decoded_values_and_the_grid_are_those_that_itk_reads(real_data):
    itk = pytest.importorskip("itk")
    folder = real_data / "dicom_import" / "hitachi" / "anatomical" / "001"
    image = read_series(folder)
    reference = itk.imread([str(file) for file in dicom_files(image)], series_uid="")
    np.testing.assert_array_equal(image[0].numpy(), itk.array_view_from_image(reference).T)
    origin = np.asarray(itk.origin(reference)) * [-1, -1, 1]
    np.testing.assert_allclose(image.affine[:3, 3], origin, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(image.affine[:3, :3], axis=0), itk.spacing(reference), rtol=1e-6)


@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_an_oblique_volume_written_as_dicom_comes_back_exactly_whatever_the_order_of_files_or_frames(
    tmp_path, volume, form
):
    if form == "classic":
        files = write_series(tmp_path, volume, OBLIQUE)
    else:
        files = [write_enhanced(tmp_path / "1", volume, OBLIQUE, [3, 0, 4, 1, 2])]
    image = read_series(reversed(files))
    found = in_patient_coordinates(image[0].numpy(), image.affine.numpy(), OBLIQUE, volume.shape)
    np.testing.assert_array_equal(found, volume)
    # axis 2 of the volume runs against the normal of its planes, and is turned round as ITK does
    expected = OBLIQUE @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 4], [0, 0, 0, 1.0]])
    np.testing.assert_allclose(image.affine, expected, atol=1e-9)
    assert image.affine.dtype == torch.float64
    assert image.meta["patient_coordinates"]


def test_values_are_rescaled_frame_by_frame(tmp_path, volume):
    slopes = [1.0, 0.5, 2.0, 4.2588, 1.0]
    path = write_enhanced(tmp_path / "1", volume, np.eye(4), [2, 0, 1, 4, 3], slopes)
    image = read_series([path])
    expected = volume * np.asarray(slopes) - 3.0 * np.arange(5)
    found = in_patient_coordinates(image[0].numpy(), image.affine.numpy(), np.eye(4), volume.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    files = write_series(tmp_path / "ct", volume, np.eye(4), CTImageStorage, "CT")
    for file in files:
        change(file, lambda image: setattr(image, "RescaleIntercept", -1024))
    found = read_series(files)[0].numpy()
    np.testing.assert_array_equal(np.sort(found.ravel()), np.sort(volume.ravel() - 1024.0))


def one_plane(folder, values, **attributes):
    image = header()
    set_pixels(image, values)
    for name, value in attributes.items():
        setattr(image, name, value)
    return read_series([save(image, folder / "a.dcm")])


def test_the_sign_of_12_bits_is_carried_and_overlays_in_the_spare_bits_are_cleared(tmp_path):
    values = np.array([[-2048, -1, 0, 2047]], dtype=np.int16)
    stored = (values & 0x0FFF).astype(np.uint16) | 0x1000  # an old scanner's overlay stands in bit 12
    bits = {"BitsStored": 12, "HighBit": 11}
    signed = one_plane(tmp_path, stored, PixelRepresentation=1, **bits)
    assert signed[0, :, 0, 0].tolist() == [-2048, -1, 0, 2047]
    unsigned = one_plane(tmp_path, stored, PixelRepresentation=0, **bits)
    assert unsigned[0, :, 0, 0].tolist() == [2048, 4095, 0, 2047]


def test_monochrome1_is_turned_round_so_that_bright_is_large_but_measurements_stay(tmp_path):
    values = np.array([[0, 1, 4095]], dtype=np.uint16)
    inverse = {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1"}
    assert one_plane(tmp_path, values, Modality="CR", **inverse)[0, :, 0, 0].tolist() == [4095, 4094, 0]
    signed = values.astype(np.int16) - 2048
    turned = one_plane(tmp_path, signed, Modality="CR", PixelRepresentation=1, **inverse)
    assert turned[0, :, 0, 0].tolist() == [2047, 2046, -2048]
    assert one_plane(tmp_path, values, Modality="PT", **inverse)[0, :, 0, 0].tolist() == [0, 1, 4095]


def test_grey_pictures_in_colour_are_read_and_coloured_ones_refused(tmp_path):
    grey = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4)[..., None], 3, axis=-1)

    def write(pixels, photometric):
        image = header()
        set_pixels(image, pixels[..., 0])
        image.SamplesPerPixel, image.PlanarConfiguration, image.PhotometricInterpretation = 3, 0, photometric
        image.PixelData = pixels.tobytes()
        return save(image, tmp_path / "a.dcm")

    np.testing.assert_array_equal(read_series([write(grey, "RGB")])[0, :, :, 0], grey[..., 0].T)
    yellow = grey.copy()
    yellow[1, 1] = (250, 240, 10)
    refused(lambda: read_series([write(yellow, "RGB")]), r"a\.dcm: is a colour image \(RGB\), expected grey", tmp_path)


def test_a_plane_without_a_place_keeps_its_pixel_size_and_says_that_it_has_no_place(tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = one_plane(tmp_path, values, PixelSpacing=[0.3, 0.2])
    assert image.shape == (1, 4, 3, 1)
    np.testing.assert_allclose(image.affine, np.diag([-0.2, -0.3, 1, 1]))
    assert not image.meta["patient_coordinates"]
    assert image.meta["spacing_known"]
    assert not one_plane(tmp_path, values).meta["spacing_known"]


def test_an_ultrasound_cine_has_the_times_of_its_frames_and_its_scale_in_centimetres(tmp_path):
    image = header(UltrasoundMultiFrameImageStorage, "US")
    values = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    set_pixels(image, values[0])
    image.NumberOfFrames, image.PixelData, image.FrameTime = 4, values.tobytes(), 33.0
    region = pydicom.Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.03
    image.SequenceOfUltrasoundRegions = [region]
    path = save(image, tmp_path / "us.dcm")
    series = read_series([path], time=True)
    np.testing.assert_array_equal(series[0, :, :, 0], values.transpose(2, 1, 0))
    np.testing.assert_allclose(series.meta["frame_times_ms"], [0, 33, 66, 99])
    np.testing.assert_allclose(np.diag(series.affine)[:2], [-0.2, -0.3])
    refused(
        lambda: read_series([path]),
        r"us\.dcm: 4 frames without a position .* differ in TriggerTime: a cine\? It must be read with its time axis",
    )


@pytest.fixture
def cine_files(real_data, tmp_path):
    with tarfile.open(real_data / "cardiac_cine" / "bivme_patient1" / "SAX3_Se2.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_real_cine_is_sorted_by_trigger_time_and_refused_without_its_time_axis(cine_files):
    headers = sorted((pydicom.dcmread(file) for file in cine_files), key=lambda header: float(header.TriggerTime))
    image = read_series(cine_files, time=True)
    assert image.shape == (1, headers[0].Columns, headers[0].Rows, 1, 25)
    for t, phase in enumerate(headers):
        np.testing.assert_array_equal(image[0, :, :, 0, t], phase.pixel_array.T)
    np.testing.assert_allclose(image.meta["frame_times_ms"], [float(header.TriggerTime) for header in headers])
    refused(
        lambda: read_series(cine_files),
        r"several frames at one position: 1 of 1 positions hold up to 25 frames .* differ in TriggerTime: a cine",
    )


def test_a_cine_of_several_slices_has_every_phase_in_its_place(tmp_path, volume):
    phases = [volume + 2000 * t for t in range(3)]
    for t, phase in enumerate(phases):
        write_series(tmp_path / "one series", phase, OBLIQUE, series="1.2.3.5", phase=t)
    image = read_series(tmp_path / "one series", time=True)
    assert image.shape == (1, *volume.shape, 3)
    for t, phase in enumerate(phases):
        found = in_patient_coordinates(image[0, ..., t].numpy(), image.affine.numpy(), OBLIQUE, volume.shape)
        np.testing.assert_array_equal(found, phase)
    assert image.meta["frame_times_ms"].tolist() == [0, 40, 80]
    missing = next(file for file in (tmp_path / "one series").iterdir() if file.name.endswith("_02.dcm"))
    missing.unlink()
    refused(lambda: read_series(tmp_path / "one series", time=True), r"3 frames at most positions but 2 at -?[\d.]+ mm")


def test_an_enhanced_cine_is_sorted_by_its_trigger_delays(tmp_path, volume):
    path = write_enhanced(tmp_path / "1", volume, OBLIQUE, [0, 1, 2, 3, 4] * 2)

    def late_frames_first(image):
        stored = image.pixel_array.copy()
        stored[:5] += 2000
        image.PixelData = stored.tobytes()
        for number, group in enumerate(image.PerFrameFunctionalGroupsSequence):
            synchronization = pydicom.Dataset()
            synchronization.NominalCardiacTriggerDelayTime = 80.0 if number < 5 else 20.0
            group.CardiacSynchronizationSequence = [synchronization]

    change(path, late_frames_first)
    image = read_series([path], time=True)
    assert image.meta["frame_times_ms"].tolist() == [20, 80]
    for t, expected in enumerate((volume, volume + 2000)):
        found = in_patient_coordinates(image[0, ..., t].numpy(), image.affine.numpy(), OBLIQUE, volume.shape)
        np.testing.assert_array_equal(found, expected)
    refused(
        lambda: read_series([path]), "5 of 5 positions hold up to 2 frames .*NominalCardiacTriggerDelayTime: a cine"
    )


def test_a_file_of_several_planes_without_places_is_a_stack_if_it_states_their_distance(tmp_path, volume):
    image = header()
    set_pixels(image, volume[:, :, 0].T)
    image.NumberOfFrames, image.PixelSpacing, image.SpacingBetweenSlices = 5, [0.3, 0.2], 0.011
    image.PixelData = np.ascontiguousarray(volume.transpose(2, 1, 0)).tobytes()
    path = save(image, tmp_path / "oct.dcm")
    stack = read_series([path])
    np.testing.assert_array_equal(stack[0], volume)
    np.testing.assert_allclose(np.abs(np.diag(stack.affine)), [0.2, 0.3, 0.011, 1])
    assert not stack.meta["patient_coordinates"]
    change(path, lambda image: delattr(image, "SpacingBetweenSlices"))
    refused(lambda: read_series([path]), r"5 frames without a position .*or one file with SpacingBetweenSlices")


def test_lossless_compression_changes_no_value(tmp_path, volume):
    itk = pytest.importorskip("itk")
    plane = write_series(tmp_path, volume[..., :1], np.eye(4))[0]
    expected = read_series([plane])[0].numpy()
    gdcm = itk.GDCMImageIO.New()
    gdcm.SetCompressionType(0)  # JPEG lossless: the most common one in archives, and pydicom alone cannot decode it
    writer = itk.ImageFileWriter.New(itk.imread(str(plane), itk.SS))
    writer.SetFileName(str(tmp_path / "compressed.dcm"))
    writer.SetImageIO(gdcm)
    writer.UseCompressionOn()
    before = locale.setlocale(locale.LC_ALL)
    writer.Update()
    locale.setlocale(locale.LC_ALL, before)  # GDCM's writer sets "C", in which Python reads no UTF-8 from subprocesses
    assert "JPEG Lossless" in pydicom.dcmread(tmp_path / "compressed.dcm").file_meta.TransferSyntaxUID.name
    np.testing.assert_array_equal(read_series([tmp_path / "compressed.dcm"])[0], expected)
    assert locale.setlocale(locale.LC_ALL) == before, "reading leaves the locale alone"


def test_a_compression_without_a_decoder_is_named(tmp_path, volume):
    plane = write_series(tmp_path, volume[..., :1], np.eye(4))[0]

    def compress(image):
        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
        image.PixelData = pydicom.encaps.encapsulate([b"no such stream"])
        image["PixelData"].is_undefined_length = True
        image["PixelData"].VR = "OB"

    change(plane, compress)
    refused(
        lambda: read_series([plane]),
        r"no decoder for its compression .*\(1\.2\.840\.10008\.1\.2\.4\.100\)\. Send it uncompressed",
        tmp_path,
    )


# --- what is no regular image ---


def move(image, along=0.0, down=0.0):
    orientation = np.asarray(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(*orientation)
    position = np.asarray(image.ImagePositionPatient, dtype=float) + along * normal + down * orientation[1]
    image.ImagePositionPatient = [f"{value:.8f}" for value in position]


def tilt(files):
    for file in files:
        change(file, lambda image: move(image, down=2.5 * np.tan(np.radians(15)) * image.InstanceNumber))


def shift_last(files):
    last = max(files, key=lambda file: pydicom.dcmread(file).InstanceNumber)
    change(last, lambda image: move(image, along=-0.9))


def drop(*numbers):
    def edit(files):
        for file in files:
            if pydicom.dcmread(file).InstanceNumber in numbers:
                file.unlink()

    return edit


def only_first(edit):
    return lambda files: change(sorted(files)[0], edit)


def turn(image):
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def twice(**attributes):
    def edit(files):
        for file in files:
            image = pydicom.dcmread(file)
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{image.SOPInstanceUID}.1"
            for name, value in attributes.items():
                setattr(image, name, value)
            image.save_as(file.with_name(f"again_{file.name}"))

    return edit


def smaller(image):
    set_pixels(image, np.zeros((4, 4), np.int16))


def without_position(image):
    del image.ImagePositionPatient


REFUSALS = {
    "gantry tilt": (tilt, r"tilted by 15\.0 degrees .* \(gantry tilt; at most 0\.5 are read\)"),
    "a missing slice": (
        drop(3),
        r"1 missing slices: 1 between -?[\d.]+ and -?[\d.]+ mm .*2\.5 mm apart, tolerance 0.5",
    ),
    "two missing slices": (drop(2, 3), r"2 missing slices: 2 between"),
    "uneven": (shift_last, r"uneven slice distances: [\d.]+ mm between .* tolerance 0\.5 mm\); expected a regular"),
    "mixed orientations": (
        only_first(turn),
        r"mixed orientations: 2 directions of planes, .*axial \(1 frames\).*a localiser",
    ),
    "mixed sizes": (only_first(smaller), r"frames of different size: .*4 x 4 pixels \(1 frames\)"),
    "mixed spacing": (
        only_first(lambda image: setattr(image, "PixelSpacing", [2, 2])),
        r"frames of different pixel spacing: .*2 x 2 mm \(1 frames\)",
    ),
    "the same slices twice": (twice(), r"5 of 5 positions hold up to 2 frames .*the same slices twice"),
    "magnitude and phase": (
        twice(ImageType=["ORIGINAL", "PRIMARY", "P"]),
        r"5 of 5 positions hold up to 2 frames .*they differ in ImageType: give one of the images",
    ),
    "reconstructed twice": (twice(InstanceNumber=99), "they differ in InstanceNumber alone"),
    "some without place": (only_first(without_position), r"1 of 5 frames state no position"),
    "none with a place": (
        lambda files: [change(file, without_position) for file in files],
        r"5 frames without a position \(no ImagePositionPatient\)",
    ),
    "a mosaic": (
        only_first(lambda image: setattr(image, "ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"])),
        r"is a Siemens mosaic.*dcm2niix",
    ),
    "another series": (
        only_first(lambda image: setattr(image, "SeriesInstanceUID", "1.2.3.77")),
        r"2 series where one is expected: MR series 1 \(",
    ),
    "no image": (
        only_first(lambda image: [delattr(image, name) for name in ("Rows", "Columns", "PixelData")]),
        r"holds no image \(it is a MR Image Storage\)",
    ),
    "no pixels": (only_first(lambda image: delattr(image, "PixelData")), "holds no pixel data"),
    "a broken position": (
        only_first(lambda image: setattr(image, "ImagePositionPatient", [1, 2])),
        "ImagePositionPatient is not 3 numbers",
    ),
    "a broken direction": (
        only_first(lambda image: setattr(image, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0])),
        "is not two orthogonal unit vectors",
    ),
    "cut off": (
        lambda files: files[0].write_bytes(files[0].read_bytes()[:-20]),
        "its pixel data do not fit its size; is it damaged or cut off",
    ),
    "broken header": (
        lambda files: max(files).write_bytes(max(files).read_bytes()[:190]),
        "cannot be read as DICOM, is it damaged or cut off",
    ),
    "no DICOM": (lambda files: files[0].write_bytes(b"hello" * 100), "is no DICOM file"),
    "a table of values": (
        only_first(lambda image: setattr(image, "ModalityLUTSequence", [pydicom.Dataset()])),
        r"given by a table \(Modality LUT\)",
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_is_no_regular_image_is_refused_with_what_was_found(tmp_path, volume, kind):
    edit, message = REFUSALS[kind]
    folder = tmp_path / "series"
    edit(write_series(folder, volume, OBLIQUE))
    refused(lambda: read_series(sorted(folder.iterdir())), message, tmp_path)


def test_frames_at_one_position_are_read_as_time_only_if_a_time_tells_them_apart(tmp_path, volume):
    write_series(tmp_path / "s", volume, OBLIQUE)
    twice(ImageType=["ORIGINAL", "PRIMARY", "P"])(sorted((tmp_path / "s").iterdir()))
    refused(
        lambda: read_series(tmp_path / "s", time=True),
        "2 frames at one position that no time tells apart; they differ in ImageType.*looked for TriggerTime",
    )


def test_positions_rounded_to_tenths_of_a_millimetre_are_no_missing_slices(tmp_path):
    volume = np.zeros((4, 4, 40), np.int16)
    files = write_series(tmp_path, volume, np.diag([1.0, 1.0, 0.625, 1.0]), CTImageStorage, "CT")
    for file in files:
        change(
            file, lambda image: setattr(image, "ImagePositionPatient", [0, 0, f"{image.ImagePositionPatient[2]:.1f}"])
        )
    assert np.linalg.norm(read_series(files).affine[:3, 2]) == pytest.approx(0.625, abs=0.003)


def test_an_empty_folder_and_a_missing_file_say_so(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(lambda: read_series(tmp_path / "empty"), "empty: holds no DICOM image")
    refused(lambda: read_series([]), "no file is given")
    with pytest.raises(FileNotFoundError, match="nowhere: no such file"):
        read_series([tmp_path / "nowhere"])


def test_a_listed_series_is_read_without_looking_at_the_others(tmp_path, volume):
    write_series(tmp_path / "a", volume, np.eye(4))
    write_series(tmp_path / "b", volume + 5, np.eye(4))
    found = list_series(tmp_path)
    assert Counter(len(series.files) for series in found) == {5: 2}
    one, two = (read_series(series) for series in found)
    assert torch.equal(one.as_tensor() + 5, two.as_tensor())
    refused(lambda: read_series(tmp_path), "2 series where one is expected")
