"""Every bundle is annotated, corrected, trained and put in order through the server; one to come needs no new test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from label.label_server import LabelServer, image_for, write_label

from clinbundles.data.content_hash import file_hash
from clinbundles.hosts.hosted_bundle import HostedBundle

WAIT = {"run_sync": "true"}  # the answer comes when all is done; in the background: test_labels_and_training.py


@pytest.fixture
def corrected_image(server: LabelServer, hosted: HostedBundle, tmp_path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """An image whose label a person has corrected and submitted: its id, that label. Removed afterwards."""
    if hosted.kind != "label_map":
        pytest.skip("does not apply: the result is no label map")
    image = image_for(hosted.name)
    _, result = server.result(hosted.name, image, weights="shipped")
    labels = np.array(result.dataobj)
    labels[: labels.shape[0] // 3] = 0
    answer = server.submit(image, write_label(tmp_path / "corrected.nii.gz", labels, result.affine))
    assert answer.status_code == 200, answer.text
    yield image, labels
    removed = server.ask("DELETE", "/datastore/label", params={"id": image, "tag": "final"})
    assert removed.status_code == 200, removed.text
    shutil.rmtree(server.workspace / hosted.name / "models", ignore_errors=True)


@pytest.mark.host("MONAI Label", "a corrected label is kept voxel for voxel")
def test_a_corrected_label_comes_back_as_it_was_submitted(server, corrected_image):
    image, labels = corrected_image
    np.testing.assert_array_equal(np.squeeze(server.label(image)), np.squeeze(labels))


@pytest.mark.host("MONAI Label", "a label of another shape is refused by name")
def test_a_label_of_another_shape_is_refused(server: LabelServer, hosted: HostedBundle, tmp_path: Path):
    if hosted.kind != "label_map":
        pytest.skip("does not apply: the result is no label map")
    image = image_for(hosted.name)
    answer = server.submit(image, write_label(tmp_path / "label.nii.gz", np.ones((5, 6, 7), np.uint8), np.eye(4)))
    assert answer.status_code == 422, answer.text
    assert f"label of image '{image}': the label has 5 x 6 x 7" in answer.json()["detail"]


@pytest.mark.host("MONAI Label", "training changes a copy of the weights")
def test_training_changes_a_copy_of_the_weights(server, hosted, corrected_image, served_bundles):
    if not hosted.can_train:
        pytest.skip("does not apply: the bundle has no training")
    shipped = served_bundles[hosted.name] / "models" / "model.pt"
    before = file_hash(shipped)
    options = {"max_epochs": 1, "val_split": 0.0, "device": "cpu"}
    answer = server.ask("POST", f"/train/{hosted.name}", params=WAIT, json=options)
    assert answer.status_code == 200, answer.text
    trained = server.workspace / hosted.name / "models" / "model.pt"
    assert file_hash(trained) != before
    assert file_hash(shipped) == before
    assert server.infer(hosted.name, corrected_image[0]).status_code == 200, "the new weights serve"


@pytest.mark.host("MONAI Label", "the worst image comes first")
def test_an_image_gets_its_expected_error(server: LabelServer, hosted: HostedBundle):
    if hosted.kind != "label_map":
        pytest.skip("does not apply: the result is no label map")
    answer = server.ask("POST", "/scoring/expected_error", params=WAIT, json={"model": hosted.name})
    if "gives neither an expected error nor probabilities" in answer.text:
        pytest.skip("does not apply: the bundle gives no probabilities")
    assert answer.status_code == 200, answer.text
    chosen = server.ask("POST", "/activelearning/worst_first", json={"model": hosted.name}).json()
    assert chosen["id"], "an image is offered"


@pytest.mark.host("MONAI Label", "an unfit image is an error in words, the server goes on")
def test_a_damaged_image_is_an_error_in_words(server: LabelServer, hosted: HostedBundle):
    answer = server.infer(hosted.name, "damaged")
    assert answer.status_code == 422, answer.text
    assert "damaged.nii.gz" in answer.json()["detail"]
    assert server.ask("GET", "/info/").status_code == 200
