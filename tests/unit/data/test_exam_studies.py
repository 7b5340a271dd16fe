"""A folder whose studies are exams of several images: one study an examination, named by the user's own folders."""

import json
import shutil

import numpy as np
import pytest
from make_dicom import header, save, write_series
from pydicom.uid import BasicTextSRStorage

from clinbundles.data.exam_studies import exam_images
from clinbundles.data.study_folder import StudyFolder

VOLUME = np.arange(3 * 4 * 2, dtype=np.int16).reshape(3, 4, 2)


def exams(data, out, **settings):
    return StudyFolder(data, out, extensions=(".nii", ".nii.gz"), exams=True, case_keys=("site",), **settings)


def series(folder, study, name):
    return write_series(folder, VOLUME, np.eye(4), study=study, series=f"{study}.{name}")


@pytest.fixture
def archive(tmp_path):
    """Two exams of NIfTI, one of DICOM with a folder for each series, and two whose files share a folder."""
    root = tmp_path / "data"
    for name in ("P1/sax.nii.gz", "P1/lax_4ch.nii.gz", "P2/visit 2/sax.nii.gz", "P2/visit 2/labels.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    series(root / "P3" / "DICOM" / "sax", "1.3", 1)
    series(root / "P3" / "DICOM" / "4ch", "1.3", 2)
    save(header(BasicTextSRStorage, "SR", study="1.3", series="1.3.9"), root / "P3" / "DICOM" / "report")
    for study in ("1.4", "1.5"):
        for number in (1, 2):
            for file in series(tmp_path / f"{study} {number}", study, number):
                (root / "mixed").mkdir(exist_ok=True)
                shutil.move(file, root / "mixed" / f"{study[-1]}{number}{file.name}")
    return root


def test_an_exam_is_one_study_named_after_its_folder_with_all_its_files_sorted(archive, tmp_path):
    cases = {case["study"]: case["image"] for case in exams(archive, tmp_path / "out")}
    assert {name: len(files) for name, files in cases.items()} == {
        "P1": 2,
        "P2/visit 2": 1,
        "P3/DICOM": 4,
        "mixed/41IM0000_00": 4,
        "mixed/51IM0000_00": 4,
    }
    for files in cases.values():
        assert files == sorted(files)
    assert [len(image) for image in exam_images(cases["P3/DICOM"])] == [2, 2]
    assert exam_images(cases["P1"]) == cases["P1"], "a NIfTI image is one path"


def test_the_data_folder_may_be_one_exam(archive, tmp_path):
    for folder, name in ((archive / "P1", "P1"), (archive / "P3", "DICOM")):
        (case,) = exams(folder, tmp_path / "out")
        assert case["study"] == name or case["study"] == folder.name
        assert len(case["image"]) in (2, 4)


def test_images_beside_folders_of_exams_are_an_exam_of_their_own(archive, tmp_path):
    (archive / "sax.nii.gz").write_bytes(b"another")
    cases = {case["study"]: case["image"] for case in exams(archive, tmp_path / "out")}
    assert cases["sax"] == [str(archive / "sax.nii.gz")]
    assert len(cases) == 6


def test_the_table_may_name_the_folder_of_an_exam_or_one_of_its_files(archive, tmp_path):
    (archive / "studies.csv").write_text("file,site\nP1,Berlin\nP3/DICOM,Rome\nP2/visit 2/sax.nii.gz,Bonn\n")
    found = {case["study"]: case.get("site") for case in exams(archive, tmp_path / "out")}
    assert (found["P1"], found["P3/DICOM"], found["P2/visit 2"]) == ("Berlin", "Rome", "Bonn")
    (archive / "studies.csv").write_text("file,site\nP9,Berlin\n")
    with pytest.raises(ValueError, match="names files that are not there: P9"):
        len(exams(archive, tmp_path / "out"))


def test_a_finished_exam_is_known_by_all_its_files(archive, tmp_path):
    folder = exams(archive, tmp_path / "out")
    case = next(case for case in folder if case["study"] == "P1")
    record = json.loads(folder.finish(case, {"ef": 60}).read_text())
    assert len(record["input"]) == 64
    assert "P1" not in [case["study"] for case in exams(archive, tmp_path / "out")]
    (archive / "P1" / "lax_2ch.nii.gz").write_bytes(b"a view that came later")
    with pytest.raises(ValueError, match="the input file differs"):
        len(exams(archive, tmp_path / "out"))
    assert "P1" in [case["study"] for case in exams(archive, tmp_path / "out", overwrite=True)]


def test_a_file_that_cannot_be_read_belongs_to_the_exam_beside_it(archive, tmp_path):
    broken = archive / "P3" / "DICOM" / "sax" / "broken.dcm"
    broken.write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    cases = {case["study"]: case["image"] for case in exams(archive, tmp_path / "out")}
    assert str(broken) in cases["P3/DICOM"]
    assert len(cases) == 5


def test_without_study_uids_a_folder_is_an_exam(tmp_path):
    from dicom_forms import change

    for name in ("a", "b"):
        for file in series(tmp_path / "in" / name, "1.6", name == "a"):
            change(file, lambda image: delattr(image, "StudyInstanceUID"))
    assert [case["study"] for case in exams(tmp_path / "in", tmp_path / "out")] == ["a", "b"]
