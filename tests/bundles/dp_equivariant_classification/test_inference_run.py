"""Folders of pictures, NIfTI and DICOM through inference.yaml; hosts; what a user reads of a broken image."""

from __future__ import annotations

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from make_dicom import write_colour
from PIL import Image
from small_private_training import ROOT

from clinbundles.hosts.hosted_bundle import BundleError, HostedBundle
from clinbundles.phantoms.stained_leukocytes import simulate_leukocytes
from dp_equivariant_classification import demo
from dp_equivariant_classification.networks import SteerableClassifier
from dp_equivariant_classification.results.class_results import ClassResultsd
from dp_equivariant_classification.results.stated_privacy import in_words, stated_privacy

CLASSES = ("round", "kidney", "bilobed", "segmented")


@pytest.fixture
def weights(tmp_path):
    """Of a network that was not trained, and has no statement."""
    torch.manual_seed(0)
    path = tmp_path / "weights" / "model.pt"
    path.parent.mkdir()
    torch.save(SteerableClassifier().state_dict(), path)
    return path


def table(folder, name="results.csv"):
    with (folder / name).open(newline="") as file:
        return {row["study"]: row for row in csv.DictReader(file)}


def test_the_same_cell_as_picture_nifti_and_dicom_has_the_same_probabilities(tmp_path, weights, run, capsys):
    data = tmp_path / "my cells"
    data.mkdir()
    (record,) = simulate_leukocytes(data, 7)["records"]
    array = np.asarray(Image.open(data / record["image"]))
    nib.save(nib.Nifti1Image(array.transpose(1, 0, 2)[:, :, None], np.eye(4)), data / "nifti.nii.gz")
    write_colour(data / "IM1", array)
    Image.fromarray(array.repeat(2, 0).repeat(2, 1)).save(data / "large.png")
    (data / "broken.png").write_bytes(b"no image")
    before = {path: path.read_bytes() for path in data.iterdir()}
    with pytest.raises(SystemExit) as stopped:
        run(["inference"], "infer", dataset_dir=str(data), output_dir=str(tmp_path / "out"), ckpt_path=str(weights))
    assert stopped.value.code == 3

    rows = table(tmp_path / "out")
    names = [f"p_{name}" for name in CLASSES]
    values = [[float(row[name]) for name in names] for row in rows.values()]
    assert len(values) == 3
    np.testing.assert_allclose(values, [values[0]] * 3, atol=2e-6)
    assert sum(values[0]) == pytest.approx(1, abs=1e-5)
    for row in rows.values():
        assert row["class"] == CLASSES[int(np.argmax([float(row[name]) for name in names]))]
    failures = table(tmp_path / "out", "failures.csv")
    assert "is 56 x 56 pixels, expected 28 x 28" in failures["large"]["error"]
    assert "cannot be read as an image" in failures["broken"]["error"]
    assert (tmp_path / "out" / "gallery.png").stat().st_size > 5000
    report = json.loads((tmp_path / "out" / "nifti" / "nifti_report.json").read_text())
    assert report["privacy_of_training_data"] is None
    said = capsys.readouterr().out
    assert "Research use only" in said
    assert "no privacy statement: take these weights for not private" in said
    assert before == {path: path.read_bytes() for path in data.iterdir()}


def test_shipped_weights_state_their_privacy_and_it_is_computed_anew():
    privacy = stated_privacy(ROOT / "models" / "model.pt", ROOT)
    assert privacy["epsilon"] <= 8
    assert privacy["delta"] < 1 / privacy["units"]
    assert in_words(privacy).startswith(f"epsilon {privacy['epsilon']:.3g}, delta")
    assert "PRV accountant" in in_words(privacy)
    assert in_words({**privacy, "epsilon": None}) == "not private"


def test_a_host_refuses_a_bundle_whose_statement_was_improved_by_hand(tmp_path):
    root = tmp_path / "dp_equivariant_classification"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    HostedBundle(root).predictor()
    file = root / "configs" / "metadata.json"
    content = json.loads(file.read_text())
    content["privacy_statement"]["epsilon"] = 0.1
    file.write_text(json.dumps(content))
    with pytest.raises(BundleError) as caught:
        HostedBundle(root).predictor()
    causes, error = [], caught.value
    while error is not None:
        causes.append(str(error))
        error = error.__cause__
    assert any("says epsilon = 0.1, but its own steps" in cause for cause in causes)


def test_every_class_needs_a_name():
    with pytest.raises(ValueError, match=r"gives 4 probabilities but class_names has 2 \(benign, malignant\)"):
        ClassResultsd("pred", ["benign", "malignant"])({"pred": torch.full((4,), 0.25)})


def test_the_demonstration_explains_itself_and_its_command_is_a_users_command(tmp_path, capsys):
    with pytest.raises(SystemExit):
        demo.parse_arguments(["--help"])
    assert "Research use only" in capsys.readouterr().out
    options = demo.parse_arguments(["--input", str(tmp_path), "--resize"])
    command = demo.inference_command(options, tmp_path, tmp_path / "out")
    assert command[1:5] == ["-m", "monai.bundle", "run", "--bundle_root"]
    assert command[command.index("--resize") + 1] == "True"
    images, truth = demo.simulate_cells(tmp_path / "cells", 5)
    assert {path.stem for path in images.iterdir()} == set(truth)
    assert set(truth.values()) <= set(CLASSES)
