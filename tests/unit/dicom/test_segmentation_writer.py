"""A label map written as DICOM segmentation lies where it was found, and tells of the patient what it must."""

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from dicom_forms import change, in_patient_coordinates, refused, write_enhanced
from make_dicom import OBLIQUE, SECRETS, header, save, set_pixels, write_en_face, write_series

from clinbundles.dicom import Algorithm, Segment, read_series, write_segmentation
from clinbundles.dicom.dicom_description import CodedTerm
from clinbundles.dicom.segmentation_source import REQUIRED_OF_PATIENT_AND_STUDY

TISSUE = CodedTerm("SCT", "85756007", "Tissue")
SEGMENTS = {
    1: Segment("capillary", TISSUE, CodedTerm("SCT", "20982000", "Capillary"), CodedTerm("SCT", "5665001", "Retina")),
    2: Segment("absent", TISSUE, CodedTerm("SCT", "51114001", "Artery")),
    4: Segment("vessel", TISSUE, CodedTerm("SCT", "59820001", "Blood Vessel")),
}
ALGORITHM = Algorithm("toy", "0.3", CodedTerm("DCM", "123110", "Artificial Intelligence"))
LABELS = list(SEGMENTS)


def write(path, labels, files):
    return write_segmentation(path, labels, files, SEGMENTS, ALGORITHM, "Toy labels")


def label_map(shape):
    labels = np.zeros(shape, np.uint8)
    labels[1:4, 2:6, 1:4] = 1
    labels[5:8, 1, 2] = 4
    labels[0, 0, 0] = 4
    return labels


def read_back(path, affine, shape):
    """The labels of a segmentation on a grid in RAS mm, by the patient coordinates of its own frames."""
    image = pydicom.dcmread(path)
    shared = image.SharedFunctionalGroupsSequence[0]
    row, column = np.asarray(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    down, across = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
    labels = np.zeros(shape, np.uint8)
    pixels = image.pixel_array.reshape(-1, image.Rows, image.Columns)
    for group, frame in zip(image.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        position = np.asarray(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        j, i = np.nonzero(frame)
        points = position + np.outer(i * across, row) + np.outer(j * down, column)
        voxels = np.c_[points * [-1, -1, 1], np.ones(len(points))] @ np.linalg.inv(affine).T
        nearest = np.round(voxels[:, :3]).astype(int)
        assert np.abs(voxels[:, :3] - nearest).max() < 1e-3
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        labels[tuple(nearest.T)] = LABELS[number - 1]
    return labels


@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_labels_of_an_oblique_series_come_back_at_the_same_place_as_from_nifti(tmp_path, volume, form):
    if form == "classic":
        files = write_series(tmp_path / "in", volume, OBLIQUE)[::-1]
    else:
        files = [write_enhanced(tmp_path / "in" / "1", volume, OBLIQUE, [3, 0, 4, 1, 2])]
    image = read_series(files)
    labels = label_map(volume.shape)
    path = write(tmp_path / "out" / "seg.dcm", labels[None], files)
    nifti = nibabel.Nifti1Image(labels, image.affine.numpy())
    np.testing.assert_array_equal(read_back(path, nifti.affine, labels.shape), np.asarray(nifti.dataobj))
    # and on the grid of the volume that the series was made from
    expected = in_patient_coordinates(labels, image.affine.numpy(), OBLIQUE, volume.shape)
    np.testing.assert_array_equal(read_back(path, OBLIQUE, volume.shape), expected)


@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_highdicom_finds_each_source_frame_with_its_labels(tmp_path, volume, form):
    labels = label_map(volume.shape)
    if form == "classic":
        files = write_series(tmp_path / "in", volume, OBLIQUE)
    else:
        files = [write_enhanced(tmp_path / "in" / "1", volume, OBLIQUE, [3, 0, 4, 1, 2])]
    grid = read_series(files)
    path = write(tmp_path / "seg.dcm", labels, files)
    segmentation = highdicom.seg.segread(path)
    slices = {k: np.asarray(grid[0, :, :, k]).T for k in range(5)}
    for file in files:
        source = pydicom.dcmread(file)
        planes = source.pixel_array.reshape(-1, source.Rows, source.Columns)
        for number, plane in enumerate(planes):
            (k,) = [k for k, values in slices.items() if np.array_equal(values, plane)]
            if form == "classic":
                found = segmentation.get_pixels_by_source_instance(
                    [source.SOPInstanceUID], combine_segments=True, ignore_spatial_locations=True,
                    assert_missing_frames_are_empty=True,
                )  # fmt: skip
            else:
                found = segmentation.get_pixels_by_source_frame(
                    source.SOPInstanceUID, [number + 1], combine_segments=True, ignore_spatial_locations=True,
                    assert_missing_frames_are_empty=True,
                )  # fmt: skip
            expected = np.vectorize({0: 0, 1: 1, 4: 3}.get)(labels[:, :, k].T)
            np.testing.assert_array_equal(found[0], expected)


def test_every_segment_is_described_also_without_a_voxel_and_empty_frames_are_left_out(tmp_path, volume):
    files = write_series(tmp_path / "in", volume, OBLIQUE)
    image = pydicom.dcmread(write(tmp_path / "seg.dcm", label_map(volume.shape), files))
    described = image.SegmentSequence
    assert [(item.SegmentNumber, item.SegmentLabel) for item in described] == [
        (1, "capillary"),
        (2, "absent"),
        (3, "vessel"),
    ]
    assert described[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "20982000"
    assert described[0].AnatomicRegionSequence[0].CodeValue == "5665001"
    assert image.NumberOfFrames == 3 + 2
    assert image.SegmentationType == "BINARY"
    # a study without any finding is a valid object all the same
    empty = pydicom.dcmread(write(tmp_path / "empty.dcm", np.zeros(volume.shape, np.uint8), files))
    assert not empty.pixel_array.any()
    assert len(empty.SegmentSequence) == 3


def test_the_object_carries_what_the_standard_requires_of_the_patient_and_nothing_else(tmp_path, volume):
    files = write_series(tmp_path / "in", volume, OBLIQUE)
    source = pydicom.dcmread(files[0])
    image = pydicom.dcmread(write(tmp_path / "seg.dcm", label_map(volume.shape), files))
    for name in REQUIRED_OF_PATIENT_AND_STUDY:
        assert image[name].value == source[name].value, name
    group = [element.keyword for element in image.group_dataset(0x0010)]
    assert sorted(group) == ["PatientBirthDate", "PatientID", "PatientName", "PatientSex"]
    taken = dict.fromkeys(REQUIRED_OF_PATIENT_AND_STUDY, "")
    for element in image.iterall():
        if element.keyword not in taken and element.VR != "SQ" and element.keyword != "PixelData":
            assert not [secret for secret in SECRETS if secret in str(element.value)], element.keyword
    assert image["ContentCreatorName"].is_empty
    assert (image.Manufacturer, image.ManufacturerModelName, image.Modality) == ("clinbundles", "toy", "SEG")
    assert "toy 0.3" in image.SoftwareVersions
    assert image.SeriesDescription == "Toy labels"
    assert image.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert image.StudyInstanceUID == source.StudyInstanceUID
    assert image.SeriesInstanceUID != source.SeriesInstanceUID


def test_a_name_in_any_script_arrives(tmp_path, volume):
    files = write_series(tmp_path / "in", volume, OBLIQUE)
    for file in files:
        image = pydicom.dcmread(file)
        image.SpecificCharacterSet, image.PatientName = "ISO_IR 100", "Müßig^Ängström"
        image.save_as(file)
    image = pydicom.dcmread(write(tmp_path / "seg.dcm", label_map(volume.shape), files))
    assert str(image.PatientName) == "Müßig^Ängström"


def test_a_name_that_a_library_dislikes_is_written_and_not_told_to_the_log(tmp_path, volume, caplog, recwarn):
    caplog.set_level("DEBUG")
    files = write_series(tmp_path / "in", volume, OBLIQUE)
    for file in files:
        change(file, lambda image: setattr(image, "PatientName", "Nevermore"))  # no family name and given name
    image = pydicom.dcmread(write(tmp_path / "seg.dcm", label_map(volume.shape), files))
    assert str(image.PatientName) == "Nevermore"
    assert "Nevermore" not in caplog.text + "".join(str(warning.message) for warning in recwarn)


def test_an_image_without_a_place_is_referred_to_by_its_pixels_alone(tmp_path):
    raster = np.random.default_rng(0).integers(0, 255, (12, 10), dtype=np.uint8)
    source = write_en_face(tmp_path / "enface.dcm", raster)
    labels = (raster > 200).astype(np.uint8)
    image = pydicom.dcmread(write(tmp_path / "seg.dcm", labels.T[..., None], [source]))
    np.testing.assert_array_equal(image.pixel_array.reshape(12, 10), labels)
    assert "FrameOfReferenceUID" not in image
    assert "PlaneOrientationSequence" not in image.SharedFunctionalGroupsSequence[0]
    measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    np.testing.assert_allclose([float(value) for value in measures.PixelSpacing], [3 / 304] * 2)
    derived = image.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    enface = pydicom.dcmread(source)
    for reference in (derived, image.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]):
        assert reference.ReferencedSOPInstanceUID == enface.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == enface.SOPClassUID
    assert derived.SpatialLocationsPreserved == "YES"


def test_a_series_that_lost_its_frame_of_reference_gets_one_and_always_the_same(tmp_path, volume):
    files = write_series(tmp_path / "in", volume, OBLIQUE)
    for file in files:
        change(file, lambda image: delattr(image, "FrameOfReferenceUID"))
    written = [pydicom.dcmread(write(tmp_path / f"{n}.dcm", label_map(volume.shape), files)) for n in range(2)]
    assert written[0].FrameOfReferenceUID == written[1].FrameOfReferenceUID
    np.testing.assert_array_equal(
        read_back(tmp_path / "0.dcm", read_series(files).affine.numpy(), volume.shape), label_map(volume.shape)
    )


def test_labels_that_do_not_belong_to_the_series_are_refused_and_nothing_is_written(tmp_path, volume):
    files = write_series(tmp_path / "in", volume, OBLIQUE)
    out = tmp_path / "out"
    for labels, message in (
        (np.zeros((9, 7, 4), np.uint8), r"the shape \(9, 7, 4\), but IM.* have \(9, 7, 5\) \(columns, rows, slices\)"),
        (np.zeros((9, 7, 5, 3), np.uint8), r"those with a time axis have no DICOM segmentation"),
        (np.full(volume.shape, 3, np.uint8), r"the labels hold 3, but described are only 1, 2, 4"),
        (np.full(volume.shape, 0.5, np.float32), "the labels hold 0.5, but described are only"),
    ):
        with pytest.raises(ValueError, match=message):
            write(out / "seg.dcm", labels, files)
    assert not out.exists() or not list(out.iterdir())


def test_an_error_while_writing_leaves_no_half_file(tmp_path, volume, monkeypatch):
    files = write_series(tmp_path / "in", volume, OBLIQUE)

    def full_disk(self, path, *arguments, **settings):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(highdicom.seg.Segmentation, "save_as", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "out" / "seg.dcm", label_map(volume.shape), files)
    assert not list((tmp_path / "out").iterdir())


def test_images_that_cannot_be_referred_to_are_refused(tmp_path):
    image = header()
    set_pixels(image, np.zeros((4, 4), np.uint8))
    del image.StudyInstanceUID
    path = save(image, tmp_path / "a.dcm")
    refused(
        lambda: write(tmp_path / "seg.dcm", np.zeros((4, 4, 1), np.uint8), [path]),
        "the images state no StudyInstanceUID: a DICOM result could not refer to them",
    )
