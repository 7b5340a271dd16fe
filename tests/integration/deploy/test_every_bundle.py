"""Every bundle in the Deploy app: what comes out for a DICOM series is what the command line gives for the NIfTI."""

from __future__ import annotations

import contextlib
import csv
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
from make_dicom import (
    OBLIQUE,
    PATIENT_ID,
    PATIENT_NAME,
    SECRETS,
    series_from_nifti,
    write_colour,
    write_en_face,
    write_series,
)
from PIL import Image
from toy_bundles import blob, write_exam, write_volume

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
    if hosted.takes_raw_data:
        pytest.skip("does not apply: the bundle takes raw data, no DICOM images")
    folder = tmp_path_factory.mktemp(hosted.name)
    source, settings = image_for(hosted, folder)
    series = folder / "DICOM"
    dicom_for(source, series, settings)
    out, err = io.StringIO(), io.StringIO()
    # an exam's settings choose files; what a picture's say (its size) is in the header of DICOM
    chosen = (
        [word for name, value in settings.items() for word in (f"--{name}", str(value))] if hosted.takes_exam else []
    )
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(hosted.root), "--input", str(series), "--output", str(folder / "results"), *chosen])
    assert code == 0, err.getvalue()
    if hosted.takes_exam:
        predictor = hosted.predictor(writers=True, **{**settings, "output_dir": str(folder / "by command line")})
        expected = predictor(sorted(str(file) for file in source.iterdir()), study="exam")
    else:
        expected = hosted.predictor(**settings)(str(source))
    return Done(hosted, Run(code, out.getvalue(), err.getvalue(), folder / "results"), expected, series)


def image_for(hosted: HostedBundle, folder: Path) -> tuple[Path, dict]:
    """A file (a folder, for an exam) that the bundle's command line takes, with settings."""
    if hosted.name in BUNDLES:
        settings = bundle_settings(hosted.name)["inference"]
        return bundle_images(hosted.name, folder / "images", folder / "simulated")[0], settings
    if hosted.takes_exam:
        return write_exam(folder / "exam"), {}
    if hosted.image_axes == 4:
        path = folder / "cine.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.round(blob((12, 16, 4, 3))).astype(np.int16), OBLIQUE), path)
        return path, {}
    return write_volume(folder / "volume.nii.gz", affine=OBLIQUE), {}


def dicom_for(source: Path, folder: Path, settings: dict) -> None:
    """The same image as DICOM; of an exam, each image as a series in a folder of its own."""
    if source.is_dir():
        for number, file in enumerate(sorted(source.iterdir())):
            cine_for(file, folder / f"{SECRETS[0]} {number}", series=f"1.2.3.4.5{number}")
        return
    if not source.name.endswith(".nii.gz"):
        picture = Image.open(source)
        if picture.mode == "RGB":
            write_colour(folder / "IM1", np.asarray(picture))
            return
        raster = np.asarray(picture.convert("L"))
        write_en_face(folder / "IM1", raster, settings["fov_mm"] / len(raster))
        return
    if nibabel.load(source).ndim == 3:
        series_from_nifti(folder, source)
        return
    cine_for(source, folder, series="1.2.3.4.44")


def cine_for(source: Path, folder: Path, series: str) -> None:
    """A NIfTI volume or cine as a series, with the times that it states."""
    image = nibabel.load(source)
    frames = np.asarray(image.dataobj).astype(np.int16)
    if frames.ndim == 3:
        write_series(folder, frames, image.affine, series=series)
        return
    step = 1000.0 * float(image.header.get_zooms()[3]) if image.header.get_xyzt_units()[1] == "sec" else 40.0
    for phase in range(frames.shape[3]):
        write_series(folder, frames[..., phase], image.affine, series=series, phase=phase, frame_ms=step)


@pytest.mark.host("MONAI Deploy", "result is the command line's, voxel for voxel")
def test_the_result_is_the_command_lines_voxel_for_voxel(done: Done) -> None:
    if done.hosted.takes_exam:
        files_agree(done.run.folder / "exam", done.series.parent / "by command line" / "exam")
        return
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


def files_agree(found: Path, expected: Path) -> None:
    """The bundle's own files: all of them, images and tables the same but for the rounding of DICOM's positions."""
    names = sorted(path.relative_to(expected).as_posix() for path in expected.rglob("*") if path.is_file())
    assert sorted(path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()) == names
    assert names
    for name in names:
        if name.endswith(".nii.gz"):
            (one, affine), (other, other_affine) = read_nifti(found / name), read_nifti(expected / name)
            if one.ndim == 3:  # readers of DICOM may turn the axes
                one, affine = onto(one, affine, other.shape, other_affine), other_affine
            np.testing.assert_allclose(affine, other_affine, atol=1e-3, err_msg=name)
            if np.issubdtype(other.dtype, np.integer):
                assert (one != other).mean() <= 0.01, name
            else:
                assert np.sqrt(((one - other) ** 2).mean()) <= 0.01 * np.sqrt((other**2).mean()), name
        if name.endswith(".csv"):
            cells, others = (
                [cell for row in csv.reader((folder / name).read_text().splitlines()) for cell in row]
                for folder in (found, expected)
            )
            assert not [pair for pair in zip(cells, others, strict=True) if not same(*pair)], name


def same(one: str, other: str) -> bool:
    try:
        return bool(np.isclose(float(one), float(other), rtol=0.02, atol=0.02, equal_nan=True))
    except ValueError:
        return one == other


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
        tolerance = {"rel": 0.02, "abs": 0.02} if done.hosted.takes_exam else {"rel": 1e-6}
        assert found[key][0] == pytest.approx(value, **tolerance), key
        assert found[key][1] == unit
    assert [row["name"] for row in done.run.record["measurements"]] == [row["name"] for row in rows]


@pytest.mark.host("MONAI Deploy", "DICOM results carry what the standard requires and nothing else")
def test_dicom_results_belong_to_the_patients_study_and_take_nothing_more_from_its_header(done: Done) -> None:
    files = [path for path in done.series.rglob("*") if path.is_file()]
    source = pydicom.dcmread(files[0], stop_before_pixels=True)
    written = list(done.run.folder.rglob("*.dcm"))
    assert written or done.hosted.image_axes == 4 or "measurements" not in done.expected
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
    texts = [done.run.out, done.run.err, *done.run.files]
    texts += [
        (done.run.folder / name).read_bytes().decode("latin-1") for name in done.run.files if not name.endswith(".dcm")
    ]
    for secret in (*SECRETS, PATIENT_NAME):
        assert not [text for text in texts if secret in text], secret
    assert done.run.record["notice"].startswith("Research use only")
    assert "Research use only" in done.run.out
    assert set(done.run.record["files"]) == set(done.run.files) - {"results.json"}
