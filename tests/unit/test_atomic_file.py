"""Files are whole or not there."""

import json

import pytest

from clinbundles.data.atomic_file import atomic_path, write_json


def test_an_error_while_writing_leaves_the_older_file_and_no_rest(tmp_path):
    path = tmp_path / "result.csv"
    path.write_text("old")

    def break_off():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        break_off()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result.csv"]


def test_the_temporary_name_keeps_the_suffixes_that_choose_the_format(tmp_path):
    with atomic_path(tmp_path / "deep" / "label.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"x")
    assert (tmp_path / "deep" / "label.nii.gz").read_bytes() == b"x"


def test_json_refuses_nan_and_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    write_json(tmp_path / "b.json", {"value": 1.5})
    assert json.loads((tmp_path / "b.json").read_text()) == {"value": 1.5}
    assert [file.name for file in tmp_path.iterdir()] == ["b.json"]
