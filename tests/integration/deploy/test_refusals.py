"""What the Deploy app does with what it cannot use: exit code 1, one line that says why, and nothing written."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from deploy.app_run import Run
from make_dicom import (
    OBLIQUE,
    SECRETS,
    header,
    save,
    series_from_nifti,
    set_pixels,
    write_en_face,
    write_series,
)
from pydicom.uid import CTImageStorage
from toy_bundles import blob

OCTA = "retinal_octa_vessel_segmentation"
App = Callable[..., Run]


@pytest.fixture
def toy(toy_bundle: Callable[[str], Path]) -> Path:
    return toy_bundle("toy_volume_labels")


@pytest.fixture
def study(nifti: Path, tmp_path: Path) -> Path:
    """A series that a test may spoil."""
    series_from_nifti(tmp_path / "study", nifti)
    return tmp_path / "study"


def slices(study: Path) -> list[tuple[Path, pydicom.Dataset]]:
    """Files with their headers, by slice."""
    return sorted(((file, pydicom.dcmread(file)) for file in study.iterdir()), key=lambda pair: pair[1].InstanceNumber)


def volume(shape: tuple[int, int, int] = (12, 10, 5)) -> np.ndarray:
    return np.round(blob(shape)).astype(np.int16)


def refused(run: Run, *words: str) -> None:
    """The run ended with exit code 1 and one line that holds the words; it wrote nothing and named nobody."""
    assert run.code == 1, run.out
    lines = run.err.strip().splitlines()
    assert len(lines) == 1, run.err
    assert lines[0].startswith("error: ")
    assert not [word for word in words if word not in lines[0]], lines[0]
    assert not [secret for secret in SECRETS if secret in run.err + run.out]
    assert not run.folder.exists(), run.files


@pytest.mark.host("MONAI Deploy", "refuses series that are no regular volume")
def test_mixed_orientations_are_refused(app: App, toy: Path, study: Path) -> None:
    file, image = slices(study)[3]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    save(image, file)
    refused(app(toy, study), "mixed orientations", "7 frames", "axial (1 frames)")


@pytest.mark.host("MONAI Deploy", "refuses series that are no regular volume")
def test_a_tilted_gantry_is_refused_with_its_angle(app: App, toy: Path, tmp_path: Path) -> None:
    tilted = np.diag([1.0, 1.0, 2.0, 1.0])
    tilted[1, 2] = 2.0 * np.tan(np.radians(12))
    write_series(tmp_path / "ct", volume(), tilted)
    refused(app(toy, tmp_path / "ct"), "tilted by 12.0 degrees", "gantry")


@pytest.mark.host("MONAI Deploy", "refuses series that are no regular volume")
def test_missing_slices_are_refused_with_their_place(app: App, toy: Path, study: Path) -> None:
    for file, _ in slices(study)[3:5]:
        file.unlink()
    refused(app(toy, study), "2 missing slices", "slices are 2.5 mm apart")


@pytest.mark.host("MONAI Deploy", "refuses series that are no regular volume")
def test_several_frames_at_one_position_are_refused_and_not_thrown_away(app: App, toy: Path, tmp_path: Path) -> None:
    for phase in range(3):
        write_series(tmp_path / "cine", volume(), OBLIQUE, series="1.2.3.4.5", phase=phase)
    refused(
        app(toy, tmp_path / "cine"), "several frames at one position", "5 of 5 positions hold up to 3", "TriggerTime"
    )


@pytest.mark.host("MONAI Deploy", "refuses series of another kind")
def test_a_series_of_another_modality_is_refused_by_the_bundles_rule(app: App, toy: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "ct", volume(), OBLIQUE, CTImageStorage, "CT")
    refused(app(toy, tmp_path / "ct"), "none of the 1 series of ct fits", "Modality is 'CT', expected 'MR'")


@pytest.mark.host("MONAI Deploy", "refuses series of another kind")
def test_a_volume_is_refused_by_a_bundle_for_pictures(app: App, tmp_path: Path) -> None:
    write_series(tmp_path / "opt", volume((64, 64, 3)), OBLIQUE, modality="OPT")
    refused(app(OCTA, tmp_path / "opt"), "en-face")


def test_of_several_series_the_one_that_fits_is_taken(app: App, toy: Path, study: Path, tmp_path: Path) -> None:
    write_series(study / "ct", volume(), OBLIQUE, CTImageStorage, "CT")
    (study / "report.pdf").write_bytes(b"%PDF no DICOM")
    done = app(toy, study)
    assert done.code == 0, done.err
    assert done.record["input"] == {"modality": "MR", "files": 8}


def test_of_several_series_that_fit_the_user_must_choose(app: App, toy: Path, study: Path, tmp_path: Path) -> None:
    other = write_series(study / "second", volume(), OBLIQUE)
    uid = str(pydicom.dcmread(other[0]).SeriesInstanceUID)
    refused(app(toy, study), "2 series of study fit the bundle", "--series UID", uid)
    refused(app(toy, study, "--series", "1.2.3"), "holds no series 1.2.3")
    assert app(toy, study, "--series", uid).record["input"]["files"] == 5


def test_a_folder_without_dicom_and_a_missing_folder_are_refused(app: App, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(app(toy, tmp_path / "empty"), "empty holds no DICOM file")
    refused(app(toy, tmp_path / "nowhere"), "nowhere does not exist")


def test_a_file_that_was_cut_off_is_refused_by_name(app: App, toy: Path, study: Path) -> None:
    file = slices(study)[2][0]
    file.write_bytes(file.read_bytes()[:-200])
    refused(app(toy, study), file.name)


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    """Two series of one study that toy_exam takes, a series of another modality, and a series of another study."""
    for folder, study, kind, shape in (
        ("long axis", "1.2.3.4", "MR", (16, 16, 1)),
        ("short axis", "1.2.3.4", "MR", (16, 16, 4)),
        ("screenshot", "1.2.3.4", "OT", (16, 16, 2)),
        ("years ago", "1.2.3.5", "MR", (16, 16, 2)),
    ):
        write_series(tmp_path / "exam" / folder, volume(shape), OBLIQUE, modality=kind, study=study)
    return tmp_path / "exam"


def test_of_an_exam_all_series_of_one_study_that_fit_are_taken(
    app: App, toy_bundle: Callable[[str], Path], exam: Path
) -> None:
    uids = {folder.name: str(pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID) for folder in exam.iterdir()}
    toy = toy_bundle("toy_exam")
    several = app(toy, exam)
    refused(several, "series of 2 studies of exam fit the bundle, expected one study", "--series UID")
    assert uids["years ago"] in several.err
    refused(app(toy, exam, "--series", uids["short axis"], "--probability"), "leave out --probability")
    run = app(toy, exam, "--series", uids["short axis"])
    assert run.code == 0, run.err
    assert run.record["input"] == {"modality": "MR", "files": 5, "series": 2}
    assert run.files == ["exam/exam_image.nii.gz", "report.dcm", "results.json"]


def test_an_exam_is_not_done_without_a_file_that_cannot_be_read(
    app: App, toy_bundle: Callable[[str], Path], exam: Path
) -> None:
    broken = exam / "short axis" / "broken.dcm"
    broken.write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    refused(app(toy_bundle("toy_exam"), exam), "1 files whose header cannot be read, broken.dcm first")


def test_a_full_disk_leaves_nothing_of_an_exam(app: App, toy_bundle: Callable[[str], Path], exam: Path) -> None:
    for file in (exam / "years ago").iterdir():
        file.unlink()
    toy = toy_bundle("toy_exam")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the bundle's own file has some 3 kB
    try:
        run = app(toy, exam)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(run, "File too large")


def test_a_bundle_for_raw_data_is_refused_with_where_to_use_it(app: App, toy: Path, study: Path) -> None:
    (toy / "configs" / "dicom.yaml").write_text("study: raw\n")
    refused(app(toy, study), "takes raw data of a scanner", "use its command line, python -m monai.bundle run")


@pytest.mark.host("MONAI Deploy", "refuses an unknown bundle and broken weights")
def test_an_unknown_bundle_is_refused_with_those_there_are(app: App, series: Path) -> None:
    refused(app("retinal_octa_vessel_segmentatoin", series), f"Did you mean {OCTA}?")
    refused(app(series, series), "is no bundle", "configs/metadata.json")


class _Code:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return print, ("code from a checkpoint ran",)


@pytest.mark.host("MONAI Deploy", "refuses an unknown bundle and broken weights")
@pytest.mark.parametrize("content", ["text", "cut off", "code", "another network", "missing"])
def test_a_broken_checkpoint_is_refused_and_its_code_is_not_run(
    app: App, toy: Path, series: Path, content: str
) -> None:
    weights = toy / "models" / "model.pt"
    if content == "text":
        weights.write_text("no weights")
    elif content == "cut off":
        weights.write_bytes(weights.read_bytes()[:500])
    elif content == "code":
        torch.save({"weight": _Code()}, weights)
    elif content == "another network":
        torch.save(torch.nn.Linear(2, 2).state_dict(), weights)
    else:
        weights.unlink()
    run = app(toy, series)
    refused(run, "model.pt")
    assert "code from a checkpoint ran" not in run.out


def test_a_setting_that_the_bundle_does_not_have_is_refused_with_a_near_one(app: App, series: Path) -> None:
    refused(app(OCTA, series, "--fov_m", "6"), "no setting 'fov_m'", "did you mean fov_mm?")


def test_an_output_in_the_input_folder_is_refused(app: App, toy: Path, study: Path) -> None:
    run = app(toy, study, output=study / "results")
    refused(run, "lies in the input folder")


def test_results_of_an_earlier_run_are_replaced_only_when_asked(app: App, toy: Path, series: Path) -> None:
    first = app(toy, series)
    before = (first.folder / "segmentation.dcm").read_bytes()
    again = app(toy, series)
    assert again.code == 1
    assert "results.json of an earlier run" in again.err
    assert (first.folder / "segmentation.dcm").read_bytes() == before
    assert app(toy, series, "--overwrite").code == 0
    assert (first.folder / "segmentation.dcm").read_bytes() != before
    assert first.files == ["results.json", "segmentation.dcm"]


@pytest.mark.host("MONAI Deploy", "a full disk leaves nothing half-written")
def test_a_full_disk_leaves_nothing_half_written(
    app: App, toy_bundle: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "large", volume((64, 64, 8)), OBLIQUE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))  # a slice of the result has 8192 bytes
    try:
        run = app(toy_bundle("toy_enhancement"), tmp_path / "large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(run, "File too large")


def test_a_broken_header_is_no_obstacle_and_is_not_quoted(app: App, toy: Path, study: Path) -> None:
    for file, image in slices(study):
        image.PatientBirthDate = "Nevermore"  # no date: libraries warn of it and quote it
        image.PatientName = "Nevermore"  # no first name: the same
        save(image, file)
    run = app(toy, study)
    assert run.code == 0, run.err
    assert not [secret for secret in SECRETS if secret in run.out + run.err]


def test_a_picture_needs_no_patient_coordinates(app: App, tmp_path: Path) -> None:
    raster = np.round(blob((128, 128)) * 2).astype(np.uint8)
    write_en_face(tmp_path / "en face" / "IM1", raster, 1.5 / 128)
    image = header("1.2.840.10008.5.1.4.1.1.7", "OT", series="1.2.3.4.7")  # a photograph beside it
    set_pixels(image, raster)
    save(image, tmp_path / "en face" / "IM2")
    run = app(OCTA, tmp_path / "en face", "--probability")
    assert run.code == 0, run.err
    assert run.files == ["probability_0.tiff", "probability_1.tiff", "report.dcm", "results.json", "segmentation.dcm"]
    assert run.record["files"]["probability_1.tiff"] == "probability of larger vessel, TIFF (float32)"
