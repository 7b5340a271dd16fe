"""Which series a folder holds, and which a bundle takes; nothing that is said of them tells of the patient."""

import logging
import shutil

import numpy as np
import pydicom
import pytest
from dicom_forms import change, refused
from make_dicom import SECRETS, header, save, write_series
from pydicom.uid import BasicTextSRStorage, CTImageStorage

from clinbundles.dicom import list_series, matches, mismatches, select_series


@pytest.fixture
def archive(tmp_path, volume):
    """Two series in one folder, a report, a text and what the listing must leave out."""
    root = tmp_path / "archive"
    mr = write_series(root / "MR", volume, np.eye(4))
    ct = write_series(root / "CT", volume, np.eye(4), CTImageStorage, "CT")
    for file in ct:
        shutil.move(file, root / "MR" / f"CT{file.name}")
    (root / "CT").rmdir()
    report = header(BasicTextSRStorage, "SR", series="1.2.3.9")
    save(report, root / "report")
    (root / "notes.txt").write_text("not an image")
    (root / ".hidden").write_bytes(mr[0].read_bytes())
    return root


def test_series_are_listed_by_their_headers_in_a_fixed_order(archive, caplog):
    caplog.set_level(logging.INFO)
    found = list_series(archive)
    assert [(series.modality, len(series.files), series.has_image) for series in found] == [
        ("CT", 5, True),
        ("MR", 5, True),
        ("SR", 1, False),
    ]
    assert found[0].sop_class == "CT Image Storage"
    assert all(list(series.files) == sorted(series.files) for series in found)
    assert "1 files are no DICOM and are left out" in caplog.text
    assert found == list_series(reversed([file for series in found for file in series.files]))


def test_nothing_said_of_a_series_tells_of_the_patient(archive):
    for series in list_series(archive):
        for text in (repr(series), str(series)):
            assert not [secret for secret in SECRETS if secret in text]
        for name in ("PatientName", "PatientID", "PatientBirthDate", "OperatorsName", "ReferringPhysicianName"):
            refused(lambda name=name, series=series: series.attributes(name), f"'{name}' tells of a person")
    refused(lambda: list_series(archive)[0].attributes("Modalty"), "'Modalty' is no DICOM keyword")


def test_identical_copies_are_left_out_but_equal_uids_alone_are_no_copies(tmp_path, volume):
    files = write_series(tmp_path, volume, np.eye(4))
    shutil.copy(files[0], tmp_path / "copy of the first")
    (series,) = list_series(tmp_path)
    assert len(series.files) == 5
    for file in files:
        change(file, lambda image: setattr(image, "SOPInstanceUID", "1.2.3"))
    (tmp_path / "copy of the first").unlink()
    (series,) = list_series(tmp_path)
    assert len(series.files) == 5


def test_links_that_lead_out_of_the_folder_are_never_read(tmp_path, volume, caplog):
    outside = write_series(tmp_path / "outside", volume, np.eye(4))
    folder = tmp_path / "folder"
    inside = write_series(folder, volume[..., :2], np.eye(4))
    (folder / "link to a file").symlink_to(outside[0])
    (folder / "link to a folder").symlink_to(tmp_path / "outside", target_is_directory=True)
    (folder / "link inside").symlink_to(inside[0])
    (series,) = list_series(folder)
    assert len(series.files) == 2
    assert "1 links lead out of the folder folder" in caplog.text


def test_a_file_of_broken_header_is_listed_as_damaged_and_not_dropped(tmp_path, volume):
    good = write_series(tmp_path, volume[..., :1], np.eye(4))[0]
    (tmp_path / "broken").write_bytes(good.read_bytes()[:132] + b"\xff" * 40)
    found = {series.files[0].name: series for series in list_series(tmp_path)}
    assert found["broken"].damaged
    assert "unreadable series" in str(found["broken"])
    assert not matches(found["broken"], {})


def test_a_file_without_a_series_uid_is_a_series_of_its_own(tmp_path, volume):
    for file in write_series(tmp_path, volume, np.eye(4)):
        change(file, lambda image: delattr(image, "SeriesInstanceUID"))
    assert [len(series.files) for series in list_series(tmp_path)] == [1] * 5


def test_rules_match_whole_values_in_either_case_and_say_what_was_found(archive):
    found = list_series(archive)
    chosen, reasons = select_series(found, {"Modality": "mr|pt", "ImageType": r"original\\.*"})
    assert [series.modality for series in chosen] == ["MR"]
    assert len(reasons) == 2
    assert "CT series 1 (5 files from CTIM0000_00.dcm): Modality is 'CT', expected 'mr|pt'" in reasons
    assert any("holds no image (it is a Basic Text SR Storage)" in reason for reason in reasons)
    mr = chosen[0]
    assert mismatches(mr, {"Modality": "M"}) == ["Modality is 'MR', expected 'M'"]
    assert mismatches(mr, {"BodyPartExamined": "HEAD"}) == ["it states no BodyPartExamined"]
    assert matches(mr, {})
    refused(lambda: matches(mr, {"Modality": "(MR"}), r"rule for Modality: '\(MR' is no regular expression")
    refused(lambda: matches(mr, {"PatientName": ".*"}), "tells of a person")


def test_the_log_holds_no_value_of_a_header_that_breaks_the_standard(tmp_path, volume, caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    (file,) = write_series(tmp_path, volume[..., :1], np.eye(4))
    raw = file.read_bytes()
    uid = str(pydicom.dcmread(file).SeriesInstanceUID).encode()
    file.write_bytes(raw.replace(uid, b"Nevermore" + uid[9:]))
    list_series(tmp_path)
    said = caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert "Nevermore" not in said
