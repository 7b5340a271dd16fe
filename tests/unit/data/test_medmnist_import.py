from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clinbundles.data import datalist
from clinbundles.data.medmnist_import import PUBLISHED_MD5, MedMNISTError, import_medmnist, main

SIZES = {"train": 6, "val": 3, "test": 4}


def _arrays(colours: tuple[int, ...] = ()) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in SIZES.items():
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 28, 28, *colours), np.uint8)
        arrays[f"{part}_labels"] = rng.integers(0, 2, (count, 1), np.uint8)
    return arrays


def _file(folder: Path, arrays: dict[str, Any], name: str = "mine.npz") -> Path:
    np.savez(folder / name, **arrays)
    return folder / name


@pytest.mark.parametrize("colours", [(), (3,)])
def test_images_and_classes_come_through_unchanged(tmp_path, colours):
    arrays = _arrays(colours)
    done = import_medmnist(_file(tmp_path, arrays), tmp_path / "out")
    assert done.images == {"training": 6, "validation": 3, "test": 4}
    assert not done.verified
    for part, split in {"train": "training", "val": "validation", "test": "test"}.items():
        cases = datalist("pneumoniamnist", tmp_path / "out", split)
        pictures = np.stack([np.asarray(Image.open(case["image"])) for case in cases])
        assert (pictures == arrays[f"{part}_images"]).all()
        assert [case["label"] for case in cases] == arrays[f"{part}_labels"].ravel().tolist()
        assert "patient_id" not in cases[0]


def test_copies_leave_training_first_and_never_the_test_part(tmp_path):
    arrays = _arrays()
    arrays["train_images"][1] = arrays["train_images"][0]
    arrays["train_images"][2] = arrays["test_images"][0]
    arrays["val_images"][1] = arrays["test_images"][1]
    arrays["train_images"][3] = arrays["val_images"][2]
    done = import_medmnist(_file(tmp_path, arrays), tmp_path / "out")
    assert done.images == {"training": 3, "validation": 2, "test": 4}
    assert done.left_out == {"training": 3, "validation": 1, "test": 0}
    with (tmp_path / "out" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows if row["split"] == "training"] == [
        f"training/00000{number}.png" for number in (0, 4, 5)
    ]
    assert len(datalist("pneumoniamnist", tmp_path / "out")) == 9


@pytest.mark.parametrize("name", sorted(PUBLISHED_MD5))
def test_a_file_that_calls_itself_published_must_be_that_file(tmp_path, name):
    with pytest.raises(MedMNISTError, match=f"not the published {name}: its MD5 is .*, expected {PUBLISHED_MD5[name]}"):
        import_medmnist(_file(tmp_path, _arrays(), name), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_of_the_right_checksum_is_verified(tmp_path, monkeypatch):
    import hashlib

    path = _file(tmp_path, _arrays(), "bloodmnist.npz")
    monkeypatch.setitem(PUBLISHED_MD5, path.name, hashlib.md5(path.read_bytes()).hexdigest())
    assert import_medmnist(path, tmp_path / "out").verified


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train_labels": np.zeros((6, 14), np.uint8)}, "several labels per image are not imported"),
        ({"train_labels": np.zeros((5, 1), np.uint8)}, r"train_labels is uint8 of shape \(5, 1\).*\(6, 1\)"),
        ({"val_images": np.zeros((3, 28, 28, 28), np.uint8)}, "val_images is uint8 .*volumes are not imported"),
        ({"test_images": np.zeros((4, 28, 28))}, "test_images is float64"),
        ({"test_images": None}, "has no array test_images; it has train_images"),
        ({"train_images": np.array([{}] * 6)}, "cannot be read as an .npz file"),
    ],
)
def test_files_of_another_form_are_refused_and_leave_nothing(tmp_path, change, message):
    arrays = {key: value for key, value in {**_arrays(), **change}.items() if value is not None}
    with pytest.raises(MedMNISTError, match=message):
        import_medmnist(_file(tmp_path, arrays), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]


def test_a_damaged_file_is_refused(tmp_path):
    path = _file(tmp_path, _arrays())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(MedMNISTError, match=r"cannot be read as an \.npz file .*: download it again"):
        import_medmnist(path, tmp_path / "out")


def test_an_existing_folder_is_not_touched(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already: name a new folder"):
        import_medmnist(_file(tmp_path, _arrays()), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_the_command_reports_what_it_wrote_and_what_is_wrong(tmp_path, capsys):
    path = _file(tmp_path, _arrays())
    assert main([str(path), str(tmp_path / "out")]) == 0
    assert "training: 6 images, 0 copies left out" in capsys.readouterr().out
    assert main([str(tmp_path / "none.npz"), str(tmp_path / "out2")]) == 1
    assert "error: there is no file" in capsys.readouterr().err
