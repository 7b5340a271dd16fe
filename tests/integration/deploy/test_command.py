"""The command as a hospital engineer types it, beside the command line of the bundle itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from deploy.torchscript import export
from deploy.written_results import read_nifti, segmentation_on
from make_dicom import OBLIQUE, SECRETS, save, series_from_nifti
from toy_bundles import make_toy_bundle, write_volume


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | environment, **pipes)


@pytest.mark.host("MONAI Deploy", "command gives the command line's result, from TorchScript, without a GPU")
def test_the_command_gives_what_the_bundles_command_line_gives_and_prints_nothing_of_the_patient(
    tmp_path: Path,
) -> None:
    toy = make_toy_bundle("toy_volume_labels", tmp_path)
    image = write_volume(tmp_path / "images" / "volume.nii.gz", affine=OBLIQUE)
    for file in series_from_nifti(tmp_path / "DICOM", image):
        header = pydicom.dcmread(file)
        header.PatientName, header.PatientBirthDate = "Nevermore", "Nevermore"  # libraries would warn and quote both
        save(header, file)
    configs = toy / "configs" / "inference.yaml"
    common = ["--bundle_root", str(toy), "--config_file", str(configs), "--dataset_dir", str(image.parent)]
    own = start("monai.bundle", "run", *common, "--output_dir", str(tmp_path / "by command line"))
    model = export(toy, tmp_path / "model.ts")
    app = start(
        *("clinbundles.hosts.deploy", str(toy), "--input", str(tmp_path / "DICOM"), "--output", str(tmp_path / "out")),
        *("--model", str(model)),
        CUDA_VISIBLE_DEVICES="",
    )
    out, err = app.communicate(timeout=300)
    assert app.returncode == 0, err
    assert out.splitlines() == [
        f"results in {tmp_path / 'out'}: segmentation.dcm, results.json",
        "Research use only: the network was trained on simulated data.",
    ]
    assert err == ""
    assert not [secret for secret in SECRETS if secret in out]
    _, own_err = own.communicate(timeout=300)
    assert own.returncode == 0, own_err
    (labels,) = (tmp_path / "by command line").rglob("*.nii.gz")
    expected, affine = read_nifti(labels)
    assert expected.any()
    assert np.array_equal(segmentation_on(tmp_path / "out" / "segmentation.dcm", expected.shape, affine), expected)
    assert np.allclose(affine, nibabel.load(image).affine)


def test_wrong_arguments_and_help_answer_without_waiting_for_the_sdk(tmp_path: Path) -> None:
    wrong = start("clinbundles.hosts.deploy", "BUNDLE", "--input", str(tmp_path))
    shown = start("clinbundles.hosts.deploy", "--help")
    _, err = wrong.communicate(timeout=60)
    assert wrong.returncode == 2
    assert "--output" in err
    out, err = shown.communicate(timeout=60)
    assert (shown.returncode, err) == (0, "")
    assert "--model" in out


def test_a_packaged_app_takes_bundle_and_folders_from_the_containers_variables(tmp_path: Path) -> None:
    make_toy_bundle("toy_volume_labels", tmp_path / "models")
    (tmp_path / "input").mkdir()
    app = start(
        "clinbundles.hosts.deploy",
        HOLOSCAN_MODEL_PATH=str(tmp_path / "models"),
        HOLOSCAN_INPUT_PATH=str(tmp_path / "input"),
        HOLOSCAN_OUTPUT_PATH=str(tmp_path / "output"),
    )
    _, err = app.communicate(timeout=300)
    assert (app.returncode, err) == (1, "error: input holds no DICOM file\n")
    assert not (tmp_path / "output").exists()
