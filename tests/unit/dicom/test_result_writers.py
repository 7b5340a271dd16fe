"""DICOM results other than segmentations: read back, each number and each place is what was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from make_dicom import OBLIQUE, PATIENT_NAME, RAS_TO_LPS, save, write_series
from pydicom.uid import CTImageStorage
from toy_bundles import blob

from clinbundles.dicom.image_series_writer import takes_image_series, write_image_series
from clinbundles.dicom.measurement_report import private_code, write_measurement_report
from clinbundles.dicom.parametric_map_writer import write_parametric_map
from clinbundles.dicom.read_series import read_series
from clinbundles.dicom.result_equipment import ResultEquipment

EQUIPMENT = ResultEquipment("toy", "0.1.0", "Research use only.")
SHAPE = (12, 10, 5)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "source", np.round(blob(SHAPE)).astype(np.int16), OBLIQUE)


def affine_of(files: list[Path]) -> np.ndarray:
    return read_series(files).affine.numpy()


@pytest.mark.parametrize("kind, modality", [("1.2.840.10008.5.1.4.1.1.4", "MR"), (CTImageStorage, "CT")])
def test_a_derived_series_reads_back_on_the_grid_of_its_source(tmp_path: Path, kind: str, modality: str) -> None:
    volume = np.round(blob(SHAPE)).astype(np.int16)
    source = write_series(tmp_path / "source", volume, OBLIQUE, kind, modality)
    image = read_series(source)
    values = image[0].numpy() * 0.37 - 12.5
    written = write_image_series(
        tmp_path / "out", values, affine_of(source), source, EQUIPMENT, description="Computed image"
    )
    back = read_series(tmp_path / "out")
    assert np.abs(back[0].numpy() - values).max() <= 1.01 * np.ptp(values) / 65535 / 2
    assert np.allclose(back.affine, image.affine, atol=1e-6)
    headers = [pydicom.dcmread(file) for file in written]
    assert len({header.SeriesInstanceUID for header in headers}) == 1
    assert len({header.SOPInstanceUID for header in headers}) == len(written) == SHAPE[2]
    assert {header.ImageType[0] for header in headers} == {"DERIVED"}
    sources = {header.SourceImageSequence[0].ReferencedSOPInstanceUID for header in headers}
    assert sources == {pydicom.dcmread(file).SOPInstanceUID for file in source}


def test_results_of_a_series_without_frame_of_reference_share_one_of_their_own(
    files: list[Path], tmp_path: Path
) -> None:
    for file in files:
        image = pydicom.dcmread(file)
        del image.FrameOfReferenceUID
        save(image, file)
    affine, values = affine_of(files), blob(SHAPE)
    written = write_image_series(tmp_path / "out", values, affine, files, EQUIPMENT, description="Image")
    write_parametric_map(tmp_path / "map.dcm", values[None], ["image"], affine, files, EQUIPMENT)
    frames = {pydicom.dcmread(file).FrameOfReferenceUID for file in (*written, tmp_path / "map.dcm")}
    assert len(frames) == 1


def test_a_constant_image_and_one_of_negative_values_are_written(files: list[Path], tmp_path: Path) -> None:
    for number, values in enumerate((np.full(SHAPE, -3.25), -1e-4 * np.arange(600.0).reshape(SHAPE))):
        write_image_series(tmp_path / str(number), values, affine_of(files), files, EQUIPMENT, description="Image")
        back = read_series(tmp_path / str(number))[0].numpy()
        assert np.abs(back - values).max() <= max(1.01 * np.ptp(values) / 65535 / 2, 1e-6)


def test_an_image_that_is_not_on_the_grid_or_not_finite_is_refused(files: list[Path], tmp_path: Path) -> None:
    elsewhere = affine_of(files)
    elsewhere[:3, 3] += 40
    with pytest.raises(ValueError, match=r"slice 1 of the result lies 62\.2 mm from the nearest image"):
        write_image_series(tmp_path / "out", np.zeros(SHAPE), elsewhere, files, EQUIPMENT, description="Image")
    with pytest.raises(ValueError, match="600 voxels that are not finite"):
        write_image_series(tmp_path / "out", np.full(SHAPE, np.nan), elsewhere, files, EQUIPMENT, description="Image")
    assert not (tmp_path / "out").exists()


def test_only_one_slice_per_file_of_mr_or_ct_becomes_a_derived_series(files: list[Path], tmp_path: Path) -> None:
    assert takes_image_series(files[0])
    for file in files:
        image = pydicom.dcmread(file)
        image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.128"
        save(image, file)
    assert not takes_image_series(files[0])
    with pytest.raises(ValueError, match="found Positron Emission Tomography Image Storage"):
        write_image_series(tmp_path / "out", np.zeros(SHAPE), affine_of(files), files, EQUIPMENT, description="Image")


def test_each_channel_of_a_parametric_map_lies_where_it_was_and_is_exact(files: list[Path], tmp_path: Path) -> None:
    maps = np.stack([blob(SHAPE, 1), blob(SHAPE, 2)]) / 100
    affine = affine_of(files)
    write_parametric_map(
        tmp_path / "map.dcm", maps, ["vessel", "larger vessel"], affine, files, EQUIPMENT, value_range=(0.0, 1.0)
    )
    result = pydicom.dcmread(tmp_path / "map.dcm")
    frames = np.frombuffer(result.FloatPixelData, dtype="<f4").reshape(-1, SHAPE[1], SHAPE[0])
    seen = set()
    for frame, group in zip(frames, result.PerFrameFunctionalGroupsSequence, strict=True):
        channel = ["vessel", "larger vessel"].index(group.RealWorldValueMappingSequence[0].LUTLabel)
        position = [*map(float, group.PlanePositionSequence[0].ImagePositionPatient), 1.0]
        voxel = np.linalg.inv(RAS_TO_LPS @ affine) @ position
        assert np.abs(voxel[:2]).max() < 1e-6
        k = round(voxel[2])
        assert voxel[2] == pytest.approx(k, abs=1e-6)
        assert np.array_equal(frame.T, maps[channel, :, :, k])
        seen.add((channel, k))
    assert len(seen) == 2 * SHAPE[2]
    assert result.PatientName == PATIENT_NAME


def test_a_map_with_a_name_too_few_or_without_a_number_is_refused(files: list[Path], tmp_path: Path) -> None:
    maps = np.zeros((2, *SHAPE))
    with pytest.raises(ValueError, match="2 maps have 1 names"):
        write_parametric_map(tmp_path / "map.dcm", maps, ["vessel"], affine_of(files), files, EQUIPMENT)
    maps[0, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="1 values that are not finite"):
        write_parametric_map(tmp_path / "map.dcm", maps, ["a", "b"], affine_of(files), files, EQUIPMENT)
    assert not (tmp_path / "map.dcm").exists()


def test_a_report_groups_its_numbers_by_region_and_says_that_it_is_for_research(
    files: list[Path], tmp_path: Path
) -> None:
    rows = [
        {"name": "volume", "value": 1 / 3, "unit": "ml", "region": "left ventricle"},
        {"name": "ejection fraction", "value": 61.5, "unit": "%"},
        {"name": "not defined", "value": None, "unit": "1"},
        {"name": "not a number", "value": float("nan"), "unit": "1"},
    ]
    for file in files:  # a name without a first name and a date that is none are common in research archives
        image = pydicom.dcmread(file)
        image.PatientName, image.PatientBirthDate = "Case 7", "1901"
        save(image, file)
    write_measurement_report(tmp_path / "report.dcm", rows, files, EQUIPMENT)
    report = pydicom.dcmread(tmp_path / "report.dcm")
    assert report.SOPClassUID.name == "Comprehensive SR Storage"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert (report.PatientName, report.PatientBirthDate) == ("Case 7", "1901")
    groups = report.ContentSequence[-1].ContentSequence
    found = {
        (group.ContentSequence[0].TextValue, item.ConceptNameCodeSequence[0].CodeMeaning): (
            float(item.MeasuredValueSequence[0].NumericValue),
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for group in groups
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    }
    assert found == {
        ("left ventricle", "volume"): (pytest.approx(1 / 3, rel=1e-12), "ml"),
        ("whole image", "ejection fraction"): (61.5, "%"),
    }
    comments = [item.TextValue for group in groups for item in group.ContentSequence if item.ValueType == "TEXT"]
    assert comments.count("Research use only.") == len(groups)
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert len(evidence) == len(files)


def test_a_report_without_any_number_is_refused(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of the 1 measurements has a value"):
        write_measurement_report(tmp_path / "report.dcm", [{"name": "a", "value": None, "unit": "1"}], files, EQUIPMENT)


def test_codes_of_names_are_short_stable_and_different() -> None:
    names = ["vessel_area_density, capillary", "vessel_area_density, larger vessel", "volume", "x" * 200]
    codes = [private_code(name) for name in names]
    assert codes == [private_code(name) for name in names]
    assert len({code.value for code in codes}) == len(names)
    assert max(len(code.value) for code in codes) <= 16
    assert max(len(code.meaning) for code in codes) <= 64
