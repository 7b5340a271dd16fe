"""Every bundle in the Deploy app: what comes out for a DICOM series is what the command line gives for the NIfTI."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from bundle_images import BUNDLES, bundle_images, bundle_settings
from deploy.app_run import Run
from deploy.written_results import onto, picture_labels, read_nifti, reported, segmentation_on
from make_dicom import OBLIQUE, PATIENT_ID, PATIENT_NAME, SECRETS, series_from_nifti, write_en_face, write_series
from PIL import Image
from toy_bundles import blob, write_volume

from clinbundles.dicom.read_series import read_series
from clinbundles.hosts.deploy.command_line import main
from clinbundles.hosts.hosted_bundle import HostedBundle

REQUIRED = ("StudyInstanceUID", "StudyDate", "StudyID", "AccessionNumber", "PatientBirthDate", "PatientSex")
UNWANTED = (
    *("InstitutionName", "OperatorsName", "PatientAge", "PatientAddress", "StudyDescription", "StationName"),
    *("InstitutionalDepartmentName", "PhysiciansOfRecord", "ContentCreatorName"),
)


@dataclass(frozen=True)
class Done:
    """A run of the app on DICOM, and the command line's pipeline on the file that the DICOM was made from."""

    hosted: HostedBundle
    run: Run
    expected: dict
    series: Path


@pytest.fixture(scope="session")
def done(hosted: HostedBundle, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp(hosted.name)
    source, settings = image_for(hosted, folder)
    series = folder / "DICOM"
    dicom_for(source, series, settings)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(hosted.root), "--input", str(series), "--output", str(folder / "results")])
    assert code == 0, err.getvalue()
    expected = hosted.predictor(**settings)(str(source))
    return Done(hosted, Run(code, out.getvalue(), err.getvalue(), folder / "results"), expected, series)


def image_for(hosted: HostedBundle, folder: Path) -> tuple[Path, dict]:
    """A file that the bundle's command line takes, with settings."""
    if hosted.name in BUNDLES:
        settings = bundle_settings(hosted.name)["inference"]
        return bundle_images(hosted.name, folder / "images", folder / "simulated")[0], settings
    if hosted.image_axes == 4:
        path = folder / "cine.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.round(blob((12, 16, 4, 3))).astype(np.int16), OBLIQUE), path)
        return path, {}
    return write_volume(folder / "volume.nii.gz", affine=OBLIQUE), {}


def dicom_for(source: Path, folder: Path, settings: dict) -> None:
    """The same image as DICOM."""
    if not source.name.endswith(".nii.gz"):
        raster = np.asarray(Image.open(source).convert("L"))
        write_en_face(folder / "IM1", raster, settings["fov_mm"] / len(raster))
        return
    image = nibabel.load(source)
    if image.ndim == 3:
        series_from_nifti(folder, source)
        return
    for phase in range(image.shape[3]):
        frame = np.asarray(image.dataobj)[..., phase].astype(np.int16)
        write_series(folder, frame, image.affine, series="1.2.3.4.44", phase=phase)


@pytest.mark.host("MONAI Deploy", "result is the command line's, voxel for voxel")
def test_the_result_is_the_command_lines_voxel_for_voxel(done: Done) -> None:
    expected = np.asarray(done.expected["pred"])
    if done.hosted.kind == "classification":
        names = list(done.hosted.label_names.values())
        probabilities = dict(zip(names, expected.tolist(), strict=True))
        assert done.run.record["probabilities"] == pytest.approx(probabilities, abs=1e-5)
        values = {name: value for (_, name), (value, _) in reported(done.run.folder / "report.dcm").items()}
        assert values == pytest.approx({f"probability of {name}": p for name, p in probabilities.items()}, abs=1e-5)
        return
    if expected.ndim == 3:  # a picture: no patient coordinates, pixel for pixel
        assert expected.any()
        assert np.array_equal(picture_labels(done.run.folder / "segmentation.dcm"), expected[0])
        return
    affine = np.asarray(done.expected["pred"].affine)
    assert expected.std() > 0, "an empty result proves nothing"
    if done.hosted.kind == "files":
        image = read_series(done.run.folder / "image")
        half_step = np.ptp(expected) / 65535 / 2
        there = onto(image[0].numpy(), image.affine.numpy(), expected.shape[1:], affine)
        assert np.abs(there - expected[0]).max() <= 1.01 * half_step
        exact, exact_affine = read_nifti(done.run.folder / "image.nii.gz")
        assert np.abs(onto(exact, exact_affine, expected.shape[1:], affine) - expected[0]).max() < 1e-5
    elif expected.ndim == 5:
        labels, labels_affine = read_nifti(done.run.folder / "labels.nii.gz")
        assert labels.shape[3] == expected.shape[4] > 1
        for time in range(labels.shape[3]):
            there = onto(labels[..., time], labels_affine, expected.shape[1:4], affine)
            assert np.array_equal(there, expected[0, ..., time])
    else:
        labels = segmentation_on(done.run.folder / "segmentation.dcm", expected.shape[1:], affine)
        assert np.array_equal(labels, expected[0])


@pytest.mark.host("MONAI Deploy", "measurements in the report are the command line's")
def test_the_report_has_every_measurement_of_the_command_line_that_has_a_value(done: Done) -> None:
    rows = done.expected.get("measurements")
    if rows is None:
        assert "measurements" not in done.run.record
        return
    found = reported(done.run.folder / "report.dcm")
    expected = {
        (row.get("region", "whole image"), row["name"]): (row["value"], row["unit"])
        for row in rows
        if row["value"] is not None
    }
    assert found.keys() == expected.keys()
    for key, (value, unit) in expected.items():
        assert found[key][0] == pytest.approx(value, rel=1e-6), key
        assert found[key][1] == unit
    assert [row["name"] for row in done.run.record["measurements"]] == [row["name"] for row in rows]


@pytest.mark.host("MONAI Deploy", "DICOM results carry what the standard requires and nothing else")
def test_dicom_results_belong_to_the_patients_study_and_take_nothing_more_from_its_header(done: Done) -> None:
    source = pydicom.dcmread(next(done.series.iterdir()), stop_before_pixels=True)
    written = list(done.run.folder.rglob("*.dcm"))
    assert written or done.hosted.image_axes == 4
    for path in written:
        result = pydicom.dcmread(path)
        assert (result.PatientName, result.PatientID) == (PATIENT_NAME, PATIENT_ID)
        for keyword in (
            "StudyInstanceUID",
            "StudyDate",
            "StudyID",
            "AccessionNumber",
            "PatientBirthDate",
            "PatientSex",
        ):
            assert result[keyword].value == source[keyword].value, keyword
        assert result.SeriesInstanceUID != source.SeriesInstanceUID
        assert "research use only" in result.SeriesDescription
        assert result.Manufacturer == "clinbundles"
        unwanted = (
            "InstitutionName",
            "OperatorsName",
            "PatientAge",
            "PatientAddress",
            "StudyDescription",
            "StationName",
        )
        assert not [keyword for keyword in unwanted if keyword in result]
        content = path.read_bytes()
        assert b"Usher" not in content
        assert b"Amontillado" not in content


@pytest.mark.host("MONAI Deploy", "no patient in record, output and file names")
def test_record_output_and_file_names_tell_nothing_of_the_patient(done: Done) -> None:
    texts = [done.run.out, done.run.err, (done.run.folder / "results.json").read_text(), *done.run.files]
    for secret in (*SECRETS, PATIENT_NAME):
        assert not [text for text in texts if secret in text], secret
    assert done.run.record["notice"].startswith("Research use only")
    assert "Research use only" in done.run.out
    assert set(done.run.record["files"]) == set(done.run.files) - {"results.json"}
