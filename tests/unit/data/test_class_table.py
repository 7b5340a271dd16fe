from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest

from clinbundles.data import ManifestError, MissingDataError, datalist

ROWS = [("a/1.png", 0, "P1"), ("a/2.png", 1, "P1"), ("b/3.png", 2, "P2"), ("b/4.png", 0, "P3")]


@pytest.fixture
def table_content(real_content):
    real_content["layout"] = {"table": "labels.csv"}
    real_content["splits"] = {"seeded": {"seed": 1, "fractions": {"training": 0.5, "test": 0.5}}}
    return real_content


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with the images of ROWS, no two alike, and no table yet."""
    root = tmp_path / "images"
    for name, *_ in ROWS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def _table(root: Path, first: str, *lines: str) -> None:
    (root / "labels.csv").write_text("\n".join([first, *lines]) + "\n")


def _with_patients(root: Path) -> None:
    _table(root, "image,label,patient_id", *(",".join(map(str, row)) for row in ROWS))


def _problem(write_manifest, content, root: Path, split: str = "all") -> str:
    with pytest.raises(ManifestError) as caught:
        datalist(write_manifest(content), root, split)
    return str(caught.value)


def test_each_line_is_a_case_with_image_class_and_patient(write_manifest, table_content, images):
    _with_patients(images)
    cases = datalist(write_manifest(table_content), images)
    assert [case["case"] for case in cases] == [name for name, *_ in ROWS]
    assert [case["label"] for case in cases] == [0, 1, 2, 0]
    assert [case["patient_id"] for case in cases] == [case["patient"] for case in cases] == ["P1", "P1", "P2", "P3"]
    assert cases[0]["image"] == str((images / "a/1.png").resolve())


def test_a_table_without_patients_claims_none(write_manifest, table_content, images):
    _table(images, "image,label", "a/1.png,0", "b/3.png,1")
    cases = datalist(write_manifest(table_content), images)
    assert all("patient_id" not in case for case in cases)


def test_classes_are_numbered_in_the_order_of_the_manifest(write_manifest, table_content, images):
    table_content["layout"]["classes"] = ["normal", "pneumonia"]
    _table(images, "image, label", "a/1.png, pneumonia", "a/2.png, normal", "b/3.png, 1")
    assert [case["label"] for case in datalist(write_manifest(table_content), images)] == [1, 0, 1]


def test_without_a_split_column_whole_patients_are_divided_by_the_seed(write_manifest, table_content, tmp_path):
    lines = []
    for number in range(60):
        (tmp_path / f"{number}.png").write_bytes(bytes([number]))
        lines.append(f"{number}.png,{number % 3},P{number // 3}")
    _table(tmp_path, "image,label,patient_id", *lines)
    path = write_manifest(table_content)
    parts = [Counter(case["patient_id"] for case in datalist(path, tmp_path, split)) for split in ("training", "test")]
    assert not set(parts[0]) & set(parts[1])
    assert set((parts[0] + parts[1]).values()) == {3}
    assert len(parts[0] + parts[1]) == 20


def test_a_split_column_decides_where_the_manifests_rule_is_chance(write_manifest, table_content, images):
    _table(images, "image,label,split", "a/1.png,0,test", "a/2.png,1,training", "b/3.png,0,test")
    cases = datalist(write_manifest(table_content), images, "test")
    assert [case["case"] for case in cases] == ["a/1.png", "b/3.png"]


def test_a_patient_in_two_splits_is_named(write_manifest, table_content, images):
    _table(images, "image,label,patient_id,split", "a/1.png,0,P1,training", "a/2.png,1,P1,test")
    message = _problem(write_manifest, table_content, images, "training")
    assert "patient 'P1' (case 'a/2.png') is in the splits 'training' and 'test'" in message
    assert "put all cases of a patient into one split" in message


def test_copies_across_splits_are_named_whichever_split_is_asked_for(write_manifest, table_content, images):
    (images / "b/3.png").write_bytes((images / "a/1.png").read_bytes())
    _table(images, "image,label,split", "a/1.png,0,training", "a/2.png,1,training", "b/3.png,0,test")
    for split in ("training", "test", "all"):
        message = _problem(write_manifest, table_content, images, split)
        assert "1 images of cohort are in more than one split" in message
        assert "a/1.png (training) = b/3.png (test)" in message
        assert "remove the copies" in message


def test_copies_within_a_split_are_counted_without_naming_anybody(write_manifest, table_content, images, caplog):
    (images / "b/3.png").write_bytes((images / "a/1.png").read_bytes())
    _table(images, "image,label,split", "a/1.png,0,training", "b/3.png,0,training", "a/2.png,1,test")
    with caplog.at_level(logging.WARNING):
        assert len(datalist(write_manifest(table_content), images, "training")) == 2
    assert "cohort has 1 images that are copies of others in the same split" in caplog.text
    assert "b/3.png" not in caplog.text


def test_no_warning_where_no_image_is_a_copy(write_manifest, table_content, images, caplog):
    _with_patients(images)
    with caplog.at_level(logging.WARNING):
        datalist(write_manifest(table_content), images)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "lines, message",
    [
        (["image,class", "a/1.png,0"], "found the columns image, class; expected image and label, and perhaps"),
        (["image;label", "a/1.png;0"], "found the columns image;label; expected .* separated by commas"),
        (["image,label,label", "a/1.png,0,1"], "each once"),
        (["image,label,patient_id", "a/1.png,0,P1", "a/2.png,1,"], "line 3: expected a value in each of the columns"),
        (["image,label", "a/1.png,0,2"], "line 2: expected a value in each of the columns image, label"),
        (["image,label", "a/1.png,1.5"], "line 2: the label is '1.5', expected a whole number from 0; for names"),
        (["image,label", "a/1.png,-1"], "the label is '-1', expected a whole number"),
        (["image,label", "a/1.png,0", "./a/1.png,1"], "line 3: the image 'a/1.png' stands in the table twice"),
        (["image,label", "../1.png,0"], "line 2: the image '../1.png' must lie under the folder"),
        (["image,label,split", "a/1.png,0,trian"], "split of 'a/1.png' is 'trian', expected one of training, test"),
    ],
)
def test_bad_tables_are_refused_with_line_and_reason(write_manifest, table_content, images, lines, message):
    _table(images, *lines)
    with pytest.raises(ManifestError, match=message):
        datalist(write_manifest(table_content), images, "test")


def test_label_beyond_the_classes_is_refused(write_manifest, table_content, images):
    table_content["layout"]["classes"] = ["normal", "pneumonia"]
    _table(images, "image,label", "a/1.png,2")
    message = _problem(write_manifest, table_content, images)
    assert "the label is '2', expected one of normal, pneumonia, or a number from 0 to 1" in message


def test_a_table_that_is_no_text_is_refused(write_manifest, table_content, images):
    (images / "labels.csv").write_bytes("image,label\nM\u00fcller.png,0\n".encode("latin-1"))
    assert "is not readable as CSV in UTF-8" in _problem(write_manifest, table_content, images)


def test_images_that_are_not_there_are_listed(write_manifest, table_content, images):
    _with_patients(images)
    (images / "a/2.png").unlink()
    with pytest.raises(MissingDataError, match=r"1 files of cohort, split 'all', are missing.*\n  a/2\.png"):
        datalist(write_manifest(table_content), images)


def test_missing_table_says_what_was_looked_for(write_manifest, table_content, images):
    with pytest.raises(MissingDataError, match=r"no file under .* matches 'labels\.csv'.*holds a, b"):
        datalist(write_manifest(table_content), images)


def test_split_by_a_column_that_the_table_lacks_is_refused(write_manifest, table_content, images):
    _with_patients(images)
    table_content["splits"] = {"by_field": {"field": "split", "values": {"training": ["training"]}}}
    message = _problem(write_manifest, table_content, images, "training")
    assert "'a/1.png' has no 'split', by which the manifest splits: add it, or use a seeded rule" in message


@pytest.mark.parametrize(
    "layout, message",
    [
        ({"table": "labels.csv", "files": {"image": "{case}.png"}}, "expected either files (patterns) or table"),
        ({"constants": {"fov_mm": 3}}, "expected either files (patterns) or table"),
        ({"table": "labels.csv", "optional": ["image"]}, "layout.optional: does not go with table"),
        ({"files": {"image": "{case}.png"}, "classes": ["a", "b"]}, "layout.classes: does not go with files"),
        ({"table": "../labels.csv"}, "'../labels.csv' must lie under the data folder"),
        ({"table": "labels.csv", "classes": ["a", "a"]}, "a name stands there twice in a, a"),
        ({"table": "labels.csv", "constants": {"label": 1}}, "layout.constants.label: is also a file"),
    ],
)
def test_bad_table_layouts_are_refused(write_manifest, table_content, images, layout, message):
    table_content["layout"] = layout
    assert message in _problem(write_manifest, table_content, images)
