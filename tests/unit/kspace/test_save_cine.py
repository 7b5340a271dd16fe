from __future__ import annotations

import logging
import math

import nibabel
import numpy as np
import pydicom
import pytest
import torch

from clinbundles.dicom import read_series
from clinbundles.kspace import KspaceError, SaveCined

from .conftest import FRAMES, LINES, READOUT


@pytest.fixture
def result(images):
    affine = np.array([[0, 1.5, 0.1, -20], [2.0, 0, 0, -30], [0, 0.1, 8, 5], [0, 0, 0, 1.0]])
    return {
        "case": "P001",
        "pred": 50 * images,
        "affine": torch.from_numpy(affine),
        "frame_ms": 36.5,
        "cyclic": True,
        "acceleration": 12.0,
    }


def test_nifti_holds_the_complex_cine_its_place_and_its_time(tmp_path, result):
    files = SaveCined(tmp_path, bundle="b", version="1")(result)["files"]
    magnitude, phase = nibabel.load(files["magnitude"]), nibabel.load(files["phase"])
    assert files["magnitude"].endswith("P001/P001_magnitude.nii.gz")
    assert magnitude.shape == (READOUT, LINES, 1, FRAMES)
    np.testing.assert_allclose(magnitude.affine, result["affine"].numpy(), atol=1e-5)
    np.testing.assert_allclose(
        magnitude.header.get_zooms(), [2, math.hypot(1.5, 0.1), math.hypot(8, 0.1), 36.5], rtol=1e-5
    )
    assert magnitude.header.get_xyzt_units() == ("mm", "msec")
    complex_cine = magnitude.get_fdata() * np.exp(1j * phase.get_fdata())
    np.testing.assert_allclose(complex_cine[:, :, 0].transpose(2, 0, 1), result["pred"].numpy(), atol=1e-3)


def test_dicom_is_a_series_of_frames_on_the_same_place_as_the_nifti(tmp_path, result):
    result["affine"][:3, :3] = torch.tensor([[0, 1.5, 0], [2.0, 0, 0], [0, 0, -8]])
    files = SaveCined(tmp_path, bundle="some_bundle", version="1.2")(result)["files"]
    paths = sorted((tmp_path / "P001" / "P001_dicom").iterdir())
    assert [path.name for path in paths] == [f"{number:04d}.dcm" for number in range(1, FRAMES + 1)]
    frames = [pydicom.dcmread(path) for path in paths]
    first = frames[0]
    assert first.SOPClassUID.name == "MR Image Storage"
    assert first.ImageType[0] == "DERIVED"
    assert [float(frame.TriggerTime) for frame in frames] == pytest.approx([0, 36.5, 73, 109.5, 146])
    assert "esearch use only" in first.SeriesDescription
    assert first.DerivationDescription == "some_bundle 1.2. Research use only. Undersampled 12 times."
    for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "RescaleSlope", "WindowWidth"):
        assert len({str(frame[name].value) for frame in frames}) == 1
    assert len({frame.SOPInstanceUID for frame in frames}) == FRAMES
    assert (first.CardiacNumberOfImages, first.NominalInterval) == (FRAMES, 182)
    values = np.stack([frame.pixel_array.T * float(frame.RescaleSlope) for frame in frames])
    expected = result["pred"].abs().numpy()
    np.testing.assert_allclose(values, expected, atol=expected.max() / 4095 / 2 * 1.01)
    # the project's own reader finds the NIfTI's geometry
    series = read_series(paths, time=True)
    nifti = nibabel.load(files["magnitude"])
    corner = np.array([3, 4, 0, 1.0])
    at = np.linalg.inv(series.affine.numpy()) @ nifti.affine @ corner
    i, j, k = np.round(at[:3]).astype(int)
    np.testing.assert_allclose(at[:3], [i, j, k], atol=1e-4)
    np.testing.assert_allclose(series[0, i, j, k].numpy(), nifti.get_fdata()[3, 4, 0], atol=expected.max() / 4095)


def test_patient_and_study_come_from_a_given_header_alone(tmp_path, result):
    source = pydicom.Dataset()
    source.file_meta = pydicom.dataset.FileMetaDataset()
    source.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    source.SOPClassUID, source.SOPInstanceUID = pydicom.uid.MRImageStorage, pydicom.uid.generate_uid()
    source.StudyInstanceUID, source.SeriesInstanceUID = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    source.FrameOfReferenceUID = pydicom.uid.generate_uid()
    source.PatientName, source.PatientID, source.SeriesNumber = "Doe^Jane", "4711", 12
    source.save_as(tmp_path / "source.dcm", enforce_file_format=True)
    SaveCined(tmp_path / "a", source_header=tmp_path / "source.dcm")(result)
    SaveCined(tmp_path / "b")(result)
    with_source, without = (pydicom.dcmread(tmp_path / name / "P001" / "P001_dicom" / "0001.dcm") for name in "ab")
    assert (with_source.PatientID, with_source.SeriesNumber) == ("4711", 5012)
    assert with_source.StudyInstanceUID == source.StudyInstanceUID
    assert with_source.SeriesInstanceUID != source.SeriesInstanceUID
    assert with_source.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert (without.PatientID, without.StudyInstanceUID != source.StudyInstanceUID) == ("P001", True)
    (tmp_path / "none.dcm").write_bytes(b"nothing")
    with pytest.raises(KspaceError, match=r"case 'P001': pred as DICOM: none.dcm: cannot be read as DICOM"):
        SaveCined(tmp_path / "c", source_header=tmp_path / "none.dcm")(result)


def test_what_is_not_known_is_not_written(tmp_path, result, caplog):
    result |= {"frame_ms": math.nan, "cyclic": False}
    files = SaveCined(tmp_path)(result)["files"]
    assert nibabel.load(files["magnitude"]).header["pixdim"][4] == 0
    assert "TriggerTime" not in pydicom.dcmread(tmp_path / "P001" / "P001_dicom" / "0001.dcm")
    with caplog.at_level(logging.WARNING):
        files = SaveCined(tmp_path / "b")(result | {"spacing_known": False})["files"]
    assert "no DICOM is written, because the pixel size is not known" in caplog.text
    assert sorted(files) == ["magnitude", "phase"]


def test_a_shorter_cine_leaves_no_frames_of_an_older_one(tmp_path, result):
    SaveCined(tmp_path)(result)
    SaveCined(tmp_path)(result | {"pred": result["pred"][:3]})
    assert len(list((tmp_path / "P001" / "P001_dicom").iterdir())) == 3


def test_a_broken_cine_writes_nothing(tmp_path, result):
    result["pred"][0, 0, 0] = float("nan")
    with pytest.raises(KspaceError, match=r"case 'P001': pred has the shape \(5, 24, 20\) and 1 values that are not"):
        SaveCined(tmp_path)(result)
    assert not list(tmp_path.iterdir())
