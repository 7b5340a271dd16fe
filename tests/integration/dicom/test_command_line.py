"""DICOM in and out as the command line and the engines do it, and nothing of the patient in what they leave behind."""

import csv
import json
import logging
import os
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from dicom_forms import change, in_patient_coordinates, write_enhanced
from make_dicom import OBLIQUE, SECRETS, write_en_face, write_series
from monai.inferers import SimpleInferer
from monai.transforms import Compose, MapTransform
from PIL import Image
from python_fork_server import SERVER

import retinal_octa_vessel_segmentation
from clinbundles.data.study_dataset import StudyDataset, StudyLoader
from clinbundles.data.study_folder import StudyFolder
from clinbundles.dicom import read_series
from clinbundles.engines.study_evaluator import StudyEvaluator
from clinbundles.handlers.study_summary import StudySummary
from clinbundles.transforms.load_image_study import LoadImageStudyd
from clinbundles.transforms.save_image_dicom_segmentation import SaveImageDicomSegmentationd
from retinal_octa_vessel_segmentation.networks import VesselUNet

BUNDLE = Path(retinal_octa_vessel_segmentation.__file__).parent
DESCRIPTION = """
segments:
  1: {label: bright, category: [SCT, "85756007", Tissue], type: [SCT, "59820001", Blood Vessel]}
algorithm: {name: toy, family: [DCM, "123110", Artificial Intelligence]}
"""


@pytest.fixture
def volume():
    """Integers (I, J, K) without any symmetry."""
    return np.random.default_rng(5).integers(-300, 1200, (9, 7, 5), dtype=np.int16)


def vessel_like(seed, side=104):
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, : side + 8]
    lines = 0.5 + 0.5 * np.sin(rows / 4 + 3 * np.sin(columns / 15 + seed))
    return (255 * np.clip(lines * 0.7 + 0.2 * generator.random(rows.shape), 0, 1)).astype(np.uint8)


def said_of_the_patient(folder, *texts):
    """Where names and contents under ``folder``, or texts, tell of the patient; DICOM results must and are left out."""
    found = [text for text in texts if any(secret in text for secret in SECRETS)]
    for path in folder.rglob("*"):
        if any(secret in path.name for secret in SECRETS):
            found.append(path.name)
        if path.is_file() and path.suffix != ".dcm":
            content = path.read_bytes()
            found += [path.name for secret in SECRETS if secret.encode() in content]
    return found


@pytest.mark.host("command line", "DICOM in, DICOM segmentation out (en-face image)")
def test_en_face_dicom_gives_the_masks_of_its_png_and_a_segmentation_of_its_grid(tmp_path):
    torch.manual_seed(0)
    torch.save(VesselUNet().state_dict(), tmp_path / "model.pt")
    data, out = tmp_path / "scans", tmp_path / "results"
    raster = vessel_like(1)
    write_en_face(data / "first eye" / "IM1", raster, pixel_mm=0.01)
    Image.fromarray(raster).save(data / "same.png", dpi=(2540, 2540))
    volume = np.zeros((112, 104, 7), np.uint8)  # columns, rows, depth
    volume[:, :, 3] = raster.T
    tilted = OBLIQUE.copy()
    tilted[:3, :3] *= np.array([0.01, 0.01, 0.004]) / np.linalg.norm(tilted[:3, :3], axis=0)
    write_enhanced(data / "volume.dcm", volume, tilted, [3, 0, 1, 2, 4, 6, 5])
    no_uids = write_en_face(data / "no_uids.dcm", raster, pixel_mm=0.01)
    change(no_uids, lambda image: delattr(image, "StudyInstanceUID"))
    command = [SERVER.python(), "-m", "monai.bundle", "run", "--bundle_root", str(BUNDLE)]
    command += ["--config_file", str(BUNDLE / "configs" / "inference.yaml"), "--dataset_dir", str(data)]
    command += ["--output_dir", str(out), "--ckpt_path", str(tmp_path / "model.pt"), "--projection_axis", "2"]
    command += ["--overlay", "False"]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert not said_of_the_patient(out, run.stdout, run.stderr)

    labels = np.asarray(Image.open(out / "same" / "same_labels.png"))
    assert labels.max() == 2
    stem = out / "first eye" / "IM1" / "IM1"
    np.testing.assert_array_equal(np.asarray(Image.open(f"{stem}_labels.png")), labels)
    source = pydicom.dcmread(data / "first eye" / "IM1")
    image = pydicom.dcmread(f"{stem}_segmentation.dcm")
    assert (image.Rows, image.Columns) == (source.Rows, source.Columns) == (104, 112)
    spacing = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    assert list(spacing) == list(source.PixelSpacing)
    found = np.zeros_like(labels)
    for group, frame in zip(image.PerFrameFunctionalGroupsSequence, image.pixel_array, strict=True):
        found[frame > 0] = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    np.testing.assert_array_equal(found, labels)
    assert [item.SegmentLabel for item in image.SegmentSequence] == ["capillary", "larger vessel"]
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    assert f"retinal_octa_vessel_segmentation {metadata['version']}" in image.SoftwareVersions

    # a volume has its results in patient coordinates; an image without UIDs has all the others and says why
    nifti = nibabel.load(out / "volume" / "volume_labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(nifti.dataobj)[..., 0].T, labels)
    grid = read_series([data / "volume.dcm"])
    np.testing.assert_allclose(nifti.affine[:3, :2], grid.affine[:3, :2], atol=1e-6)
    np.testing.assert_allclose(nifti.affine[:3, 3], grid.affine[:3, 3], atol=1e-5)
    report = json.loads((out / "no_uids" / "no_uids_biomarkers.json").read_text())
    assert any("no DICOM segmentation: the images state no StudyInstanceUID" in note for note in report["notes"])
    assert not (out / "no_uids" / "no_uids_segmentation.dcm").exists()


class Threshold(torch.nn.Module):
    def forward(self, image):
        return (image > 500).to(torch.uint8)


class SaveImageNiftid(MapTransform):
    """Write the prediction as NIfTI, as bundles do."""

    def __init__(self, output_dir):
        super().__init__("pred")
        self.output_dir = output_dir

    def __call__(self, data):
        pred = data["pred"]
        path = self.output_dir / data["study"] / "labels.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(pred[0].numpy(), pred.affine.numpy()), path)
        return data


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.host("command line", "DICOM series in (classic, enhanced), results on their grid")
def test_a_folder_of_series_is_done_in_spite_of_a_broken_one_and_results_lie_on_the_series(
    tmp_path, volume, caplog, capsys, workers
):
    caplog.set_level(logging.INFO)
    data, out = tmp_path / "data", tmp_path / "out"
    write_series(data / "patient a" / "T1", volume, OBLIQUE)
    write_enhanced(data / "b.dcm", volume, OBLIQUE, [4, 2, 0, 1, 3])
    broken = write_series(data / "missing slice", volume, OBLIQUE)
    broken[2].unlink()
    cut_off = write_series(data / "cut off", volume, OBLIQUE)
    cut_off[1].write_bytes(cut_off[1].read_bytes()[:-30])
    (tmp_path / "dicom.yaml").write_text(DESCRIPTION)

    def evaluator():
        studies = StudyFolder(data, out, extensions=(".nii.gz",), dicom_series=True)
        dataset = StudyDataset(studies, LoadImageStudyd("image"))
        return StudyEvaluator(
            device="cpu",
            val_data_loader=StudyLoader(dataset, num_workers=workers),
            network=Threshold(),
            inferer=SimpleInferer(),
            postprocessing=Compose(
                [
                    SaveImageNiftid(out),
                    SaveImageDicomSegmentationd("pred", out, tmp_path / "dicom.yaml", version="0.1"),
                ]
            ),
            studies=studies,
            val_handlers=[StudySummary(studies)],
        )

    first = evaluator()
    first.run()
    assert first.state.completed == 2
    with (out / "failures.csv").open(newline="") as file:
        failures = {row["study"]: row["error"] for row in csv.DictReader(file)}
    assert "1 missing slices: 1 between" in failures["missing slice"]
    assert "its pixel data do not fit its size" in failures["cut off"]
    for study, source in (("patient a/T1", data / "patient a" / "T1"), ("b", data / "b.dcm")):
        series = read_series(source)
        nifti = nibabel.load(out / study / "labels.nii.gz")
        np.testing.assert_allclose(nifti.affine, series.affine, atol=1e-6)
        labels = np.asarray(nifti.dataobj)
        np.testing.assert_array_equal(labels, series[0].numpy() > 500)
        found = in_patient_coordinates(labels, nifti.affine, OBLIQUE, volume.shape)
        np.testing.assert_array_equal(found, volume > 500)
        name = f"{Path(study).name}_segmentation.dcm"
        segmentation = pydicom.dcmread(out / study / name)
        assert int(segmentation.pixel_array.sum()) == int(labels.sum())

    second = evaluator()
    second.run()
    assert second.state.completed == 0
    assert len(second.state.failures) == 2
    assert not said_of_the_patient(out, caplog.text, *capsys.readouterr())
    assert str(pydicom.dcmread(data / "b.dcm").SOPInstanceUID) not in caplog.text
