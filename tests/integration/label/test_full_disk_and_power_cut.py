"""Nothing half-written is left, and nothing good is lost, when the disk is full or the power goes."""

from __future__ import annotations

import errno
import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from label.label_server import LabelServer, write_label
from make_dicom import OBLIQUE
from toy_bundles import bright_labels, make_toy_bundle, write_volume

from clinbundles.hosts.label.torchvision_operators import make_torchvision_importable

make_torchvision_importable()

from clinbundles.hosts.hosted_bundle import HostedBundle  # noqa: E402
from clinbundles.hosts.label.error_answers import status_and_message  # noqa: E402
from clinbundles.hosts.label.study_labels import LabelledStudies  # noqa: E402
from clinbundles.hosts.label.trained_weights import TrainedWeights  # noqa: E402

NAMES = {1: "bright tissue"}
NOISE = np.random.default_rng(0).integers(0, 2, (24, 20, 8), dtype=np.uint8)  # does not compress below the limit


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """No file can grow beyond so many bytes: what a full disk is to a writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study with a final label."""
    write_volume(tmp_path / "studies" / "P1.nii.gz")
    label = write_label(tmp_path / "good.nii.gz", bright_labels(NOISE * 60), OBLIQUE)
    LabelledStudies(tmp_path / "studies", NAMES).save_label("P1", str(label), "final", {})
    return tmp_path / "studies"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_full_disk_refuses_the_new_label_and_keeps_the_old_one(folder: Path, tmp_path: Path):
    studies = LabelledStudies(folder, NAMES)
    before = files(folder)
    label = write_label(tmp_path / "new.nii.gz", NOISE, OBLIQUE)
    with full_disk(after=100), pytest.raises(OSError) as refused:
        studies.save_label("P1", str(label), "final", {})
    assert files(folder) == before
    assert status_and_message(refused.value)[0] == 507
    assert "nothing was written" in status_and_message(refused.value)[1]
    studies.save_label("P1", str(label), "final", {})
    assert studies.labelled_pairs()[0][2].read_bytes() == label.read_bytes()


def test_a_full_disk_keeps_the_notes_about_the_studies(folder: Path):
    studies = LabelledStudies(folder, NAMES)
    before = files(folder)
    with full_disk(after=10), pytest.raises(OSError):
        studies.update_image_info("P1", {"expected_error": {"model": {"value": 0.5}}})
    assert files(folder) == before


def test_a_full_disk_keeps_the_trained_weights(tmp_path: Path):
    bundle = HostedBundle(make_toy_bundle("toy_volume_labels", tmp_path))
    weights = TrainedWeights(bundle, tmp_path / "workspace")
    weights.install({"weight": torch.ones(3)})
    before = files(tmp_path / "workspace")
    with full_disk(after=1000), pytest.raises((OSError, RuntimeError)):
        weights.install({"weight": torch.zeros(5000)})
    assert files(tmp_path / "workspace") == before


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_in_words(kind: int):
    status, message = status_and_message(OSError(kind, "No space left on device"))
    assert (status, "the server's disk is full" in message) == (507, True)


def test_what_a_power_cut_leaves_is_neither_an_image_nor_a_label(folder: Path):
    (folder / ".unfinished_ab_P2.nii.gz").write_bytes(b"half")
    (folder / "labels" / "final" / ".unfinished_cd_P1.nii.gz").write_bytes(b"half")
    studies = LabelledStudies(folder, NAMES)
    assert studies.list_images() == ["P1"]
    assert [label.name for _, _, label in studies.labelled_pairs()] == ["P1.nii.gz"]


@pytest.mark.parametrize("content", [b"", b'{"name": "x", "objects": {"P1"'])
def test_half_a_list_of_notes_does_not_keep_the_server_from_starting(folder: Path, content: bytes):
    (folder / "datastore_v2.json").write_bytes(content)
    studies = LabelledStudies(folder, NAMES)
    assert [image for image, _, _ in studies.labelled_pairs()] == ["P1"]
    json.loads((folder / "datastore_v2.json").read_text())


def test_two_processes_do_not_lose_each_others_notes(folder: Path):
    here, there = LabelledStudies(folder, NAMES), LabelledStudies(folder, NAMES)  # they share nothing but the folder
    there.update_image_info("P1", {"from": "another process"})
    here.update_image_info("P1", {"here": 1})
    info = LabelledStudies(folder, NAMES).get_image_info("P1")
    assert (info["from"], info["here"]) == ("another process", 1)


def test_a_server_that_is_killed_starts_again_with_everything_that_was_submitted(
    served_bundles: dict[str, Path], tmp_path: Path
):
    studies, workspace = tmp_path / "studies", tmp_path / "workspace"
    image = write_volume(studies / "P1.nii.gz")
    labels = bright_labels(np.asarray(nibabel.load(image).dataobj))
    server = LabelServer([served_bundles["toy_volume_labels"]], studies, workspace).start().ready()
    label = write_label(tmp_path / "label.nii.gz", labels, nibabel.load(image).affine)
    assert server.submit("P1", label).status_code == 200
    server.stop(signal.SIGKILL)
    again = server.start().ready()
    try:
        np.testing.assert_array_equal(again.label("P1"), labels)
        assert again.infer("toy_volume_labels", "P1").status_code == 200
    finally:
        again.stop()
