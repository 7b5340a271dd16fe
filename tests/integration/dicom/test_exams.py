"""A bundle whose study is an exam of several images: the command line over a folder, and the pipeline of the hosts."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from make_dicom import write_series
from monai.bundle import ConfigWorkflow
from toy_bundles import make_toy_bundle, weights, write_exam

from clinbundles.hosts.hosted_bundle import HostedBundle


@pytest.fixture
def toy(tmp_path: Path) -> HostedBundle:
    return HostedBundle(make_toy_bundle("toy_exam", tmp_path / "toy"))


def array(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj, dtype=np.float32)


def expected(exam: Path, toy: HostedBundle) -> np.ndarray:
    network = toy.predictor().network
    images = [
        torch.from_numpy(array(exam / f"{name}.nii.gz"))[None, None] / 100 for name in ("short_axis", "long_axis")
    ]
    with torch.no_grad():
        return network(*images)[0].numpy()


def run(toy: HostedBundle, data: Path, out: Path) -> ConfigWorkflow:
    workflow = ConfigWorkflow(
        config_file=str(toy.config("inference")),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(toy.root),
        dataset_dir=str(data),
        output_dir=str(out),
    )
    workflow.initialize()
    workflow.run()
    return workflow


def test_the_command_line_does_each_exam_once_and_names_those_that_fail(toy, tmp_path):
    data, out = tmp_path / "exams", tmp_path / "out"
    exams = {name: write_exam(data / name, seed) for seed, name in enumerate(("a", "b"))}
    write_exam(data / "broken")
    (data / "broken" / "short_axis.nii.gz").write_bytes(b"no image")
    workflow = run(toy, data, out)
    assert workflow.evaluator.state.completed == 2
    assert [failure.study for failure in workflow.evaluator.state.failures] == ["broken"]
    for name, exam in exams.items():
        np.testing.assert_allclose(array(out / name / f"{name}_image.nii.gz"), expected(exam, toy)[0], atol=1e-6)
    with (out / "results.csv").open(newline="") as file:
        assert [row["study"] for row in csv.DictReader(file)] == ["a", "b"]
    assert len(run(toy, data, out).evaluator.state.failures) == 1, "the others are finished and not done again"


def test_hosts_give_every_declared_input_to_the_network(toy, tmp_path):
    exam = write_exam(tmp_path / "exam", 3)
    assert (toy.takes_exam, toy.inputs) == (True, ["image", "x"])
    files = sorted(str(file) for file in exam.iterdir())
    pred = toy.predictor()(files, study="exam")["pred"]
    np.testing.assert_allclose(pred.numpy(), expected(exam, toy), atol=1e-6)
    np.testing.assert_allclose(pred.affine, nibabel.load(exam / "short_axis.nii.gz").affine, rtol=1e-6)


def test_series_of_an_exam_give_what_their_nifti_gives(toy, tmp_path):
    exam = write_exam(tmp_path / "exam")
    files = []
    for number, name in enumerate(("long_axis", "short_axis")):
        image = nibabel.load(exam / f"{name}.nii.gz")
        values = np.asarray(image.dataobj).astype(np.int16)
        files += write_series(tmp_path / "dicom" / name, values, image.affine, series=f"1.2.3.4.{number}")
    found = toy.predictor()([str(file) for file in files], study="exam")
    there = toy.predictor()(sorted(str(file) for file in exam.iterdir()), study="exam")
    assert found["results"]["mean"] == pytest.approx(there["results"]["mean"], rel=1e-5)


def test_writers_stay_only_where_a_host_asks_for_them(toy, tmp_path):
    files = sorted(str(file) for file in write_exam(tmp_path / "exam").iterdir())
    toy.predictor(output_dir=str(tmp_path / "silent"))(files, study="exam")
    assert not (tmp_path / "silent").exists()
    toy.predictor(writers=True, output_dir=str(tmp_path / "out"))(files, study="exam")
    assert [path.name for path in (tmp_path / "out").rglob("*.nii.gz")] == ["exam_image.nii.gz"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_every_input_goes_to_the_device(toy, tmp_path):
    files = sorted(str(file) for file in write_exam(tmp_path / "exam").iterdir())
    by_gpu, by_cpu = (toy.predictor(device=device)(files, study="exam")["pred"] for device in ("cuda", "cpu"))
    torch.testing.assert_close(by_gpu.as_tensor(), by_cpu.as_tensor(), rtol=1e-4, atol=1e-5)
    workflow = ConfigWorkflow(
        config_file=str(toy.config("inference")),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(toy.root),
        dataset_dir=str(tmp_path / "exam"),
        output_dir=str(tmp_path / "out"),
        device="$torch.device('cuda')",
    )
    workflow.initialize()
    workflow.run()
    assert (workflow.evaluator.state.completed, workflow.evaluator.state.failures) == (1, [])


def test_weights_of_the_toy_are_the_same_each_time():
    first, second = weights("toy_exam"), weights("toy_exam")
    assert all(torch.equal(first[name], second[name]) for name in first)
