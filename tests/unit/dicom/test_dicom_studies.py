"""A folder whose studies are DICOM series: one study a series, named by the user's own folders and files."""

import json
import shutil

import numpy as np
import pytest
from make_dicom import SECRETS, header, save, write_series
from pydicom.uid import BasicTextSRStorage

from clinbundles.data.study_folder import StudyFolder


def studies(data, out, **settings):
    return StudyFolder(data, out, extensions=(".nii.gz", ".dcm"), dicom_series=True, case_keys=("eye",), **settings)


@pytest.fixture
def archive(tmp_path, volume):
    """A series alone in its folder, one spread over folders, two that share one, a NIfTI and a report."""
    root = tmp_path / "data"
    write_series(root / "patient 1" / "T1", volume, np.eye(4))
    for number, file in enumerate(write_series(root / "patient 2", volume, np.eye(4))):
        (root / "patient 2" / f"part{number % 2}").mkdir(exist_ok=True)
        shutil.move(file, root / "patient 2" / f"part{number % 2}" / file.name)
    for letter in "ab":
        for file in write_series(tmp_path / letter, volume, np.eye(4)):
            (root / "mixed").mkdir(exist_ok=True)
            shutil.move(file, root / "mixed" / f"{letter}{file.name}")
    (root / "mixed" / "c.nii.gz").write_bytes(b"")
    save(header(BasicTextSRStorage, "SR", series="1.2.3.9"), root / "patient 1" / "report")
    return root


def test_a_series_is_one_study_named_after_its_folder_or_its_first_file(archive, tmp_path):
    cases = {case["study"]: case["image"] for case in studies(archive, tmp_path / "out")}
    assert set(cases) == {"patient 1/T1", "patient 2", "mixed/aIM0000_00", "mixed/bIM0000_00", "mixed/c"}
    assert isinstance(cases["mixed/c"], str)
    for name in set(cases) - {"mixed/c"}:
        assert len(cases[name]) == 5
        assert cases[name] == sorted(cases[name])
    assert not [secret for secret in SECRETS for name in cases if secret in name]
    # as before, every file is a study of its own unless told otherwise
    assert len(StudyFolder(archive, tmp_path / "out", extensions=(".nii.gz", ".dcm"))) == 21


def test_a_data_folder_that_is_one_series_gives_it_its_name(tmp_path, volume):
    files = write_series(tmp_path / "my heart", volume, np.eye(4))
    assert [case["study"] for case in studies(tmp_path / "my heart", tmp_path / "out")] == ["my heart"]
    (case,) = studies(files[0], tmp_path / "out")
    assert case["image"] == [str(files[0])]


def test_a_folder_and_a_file_of_one_name_give_two_studies(tmp_path, volume):
    write_series(tmp_path / "in" / "a", volume, np.eye(4))
    (file,) = write_series(tmp_path / "b", volume[..., :1], np.eye(4))
    shutil.move(file, tmp_path / "in" / "a.dcm")
    names = [case["study"] for case in studies(tmp_path / "in", tmp_path / "out")]
    assert len(set(names)) == 2


def test_the_table_may_name_the_folder_or_any_file_of_a_series(archive, tmp_path):
    some_file = max((archive / "patient 2" / "part1").iterdir()).name
    (archive / "studies.csv").write_text(f"file,eye\npatient 1/T1,OD\npatient 2/part1/{some_file},OS\n")
    eyes = {case["study"]: case.get("eye") for case in studies(archive, tmp_path / "out")}
    assert eyes["patient 1/T1"] == "OD"
    assert eyes["patient 2"] == "OS"
    (archive / "studies.csv").write_text("file,eye\npatient 9,OD\n")
    with pytest.raises(ValueError, match="names files that are not there: patient 9"):
        len(studies(archive, tmp_path / "out"))


def test_a_finished_series_is_known_by_all_its_files(archive, tmp_path):
    folder = studies(archive, tmp_path / "out")
    case = next(case for case in folder if case["study"] == "patient 1/T1")
    record = json.loads(folder.finish(case, {"volume": 1}).read_text())
    assert len(record["input"]) == 64
    assert "patient 1/T1" not in [case["study"] for case in studies(archive, tmp_path / "out")]
    files = sorted((archive / "patient 1" / "T1").iterdir())
    files[0].rename(files[0].with_name("renamed.dcm"))  # names mean nothing
    assert "patient 1/T1" not in [case["study"] for case in studies(archive, tmp_path / "out")]
    files[-1].unlink()
    with pytest.raises(ValueError, match="the input file differs"):
        len(studies(archive, tmp_path / "out"))


def test_series_behind_links_out_of_the_folder_are_left_out(archive, tmp_path, volume, caplog):
    (outside,) = write_series(tmp_path / "outside", volume[..., :1], np.eye(4))
    (archive / "link.dcm").symlink_to(outside)
    assert len(studies(archive, tmp_path / "out")) == 5
    assert "1 links lead out of data" in caplog.text


def test_a_folder_of_reports_alone_holds_no_study(tmp_path):
    save(header(BasicTextSRStorage, "SR"), tmp_path / "in" / "report.dcm")
    with pytest.raises(FileNotFoundError, match="holds no study"):
        len(studies(tmp_path / "in", tmp_path / "out"))
