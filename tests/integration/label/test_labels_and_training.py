"""Labels that people correct, what is refused, training from them, and which image comes next."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
import torch
from label.label_server import LabelServer, write_label
from make_dicom import OBLIQUE
from PIL import Image
from toy_bundles import bright_labels

from clinbundles.data.content_hash import file_hash

OCTA = "retinal_octa_vessel_segmentation"
SHIFTED = OBLIQUE.copy()
SHIFTED[0, 3] += 3.0


def stored(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in files}


def labels_of(studies: Path, image: str) -> np.ndarray:
    return bright_labels(stored(studies / f"{image}.nii.gz"))


def affine_of(studies: Path, image: str) -> np.ndarray:
    return nibabel.load(studies / f"{image}.nii.gz").affine


@pytest.fixture(scope="module")
def corrected(server: LabelServer, studies: Path, tmp_path_factory: pytest.TempPathFactory) -> LabelServer:
    """V0 to V2 have final labels; V3 has none."""
    for image in ("V0", "V1", "V2"):
        path = tmp_path_factory.mktemp("labels") / "label.nii.gz"
        write_label(path, labels_of(studies, image), affine_of(studies, image))
        answer = server.submit(image, path)
        assert answer.status_code == 200, answer.text
    return server


def test_a_submitted_label_is_kept_as_it_was(corrected: LabelServer, studies: Path):
    np.testing.assert_array_equal(corrected.label("V0"), labels_of(studies, "V0"))
    info = corrected.ask("GET", "/info/").json()["datastore"]
    assert info["label_tags"]["final"] >= 3


def test_a_picture_takes_labels_as_slicer_and_as_drawing_programs_write_them(
    server: LabelServer, studies: Path, tmp_path: Path
):
    raster = np.asarray(Image.open(studies / f"{OCTA}_1.png").convert("L"))
    labels = (raster > 100).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "label.png")
    assert server.submit(f"{OCTA}_1", tmp_path / "label.png", "drawn").status_code == 200
    _, result = server.result(OCTA, f"{OCTA}_1")
    in_slicer = write_label(tmp_path / "label.nii.gz", labels.T[..., None].copy(), result.affine)
    assert server.submit(f"{OCTA}_1", in_slicer, "slicer").status_code == 200


@pytest.mark.parametrize(
    "mistake, message",
    [
        ("shape", "label of image 'V3': the label has 15 x 16 x 4 voxels, its image 16 x 16 x 4"),
        ("place", "label of image 'V3': the label lies elsewhere than its image, by up to"),
        ("values", "'V3': the label holds 7, expected only 0 (background), 1 (capillary or bright tissue), 2 (larger "),
        ("fractions", "label of image 'V3': the label holds 0.5"),
        ("no image", "cannot be read as a label map"),
    ],
)
def test_a_label_that_does_not_fit_is_refused_by_name(
    server: LabelServer, studies: Path, tmp_path: Path, mistake: str, message: str
):
    good, affine = labels_of(studies, "V3"), affine_of(studies, "V3")
    path = tmp_path / "label.nii.gz"
    if mistake == "shape":
        write_label(path, good[:15], affine)
    elif mistake == "place":
        write_label(path, good, SHIFTED)
    elif mistake == "values":
        write_label(path, np.where(good, 7, 0).astype(np.uint8), affine)
    elif mistake == "fractions":
        write_label(path, (good * 0.5).astype(np.float32), affine)
    else:
        path.write_bytes(b"no image")
    answer = server.submit("V3", path)
    assert answer.status_code == 422, answer.text
    assert message in answer.json()["detail"]
    assert not list((studies / "labels" / "final").glob("*V3*"))


def test_a_label_of_an_unknown_image_is_refused(server: LabelServer, studies: Path, tmp_path: Path):
    label = write_label(tmp_path / "label.nii.gz", labels_of(studies, "V3"), affine_of(studies, "V3"))
    answer = server.submit("nobody", label)
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no image 'nobody' among the studies")


def test_training_uses_the_good_labels_and_names_those_it_leaves_out(
    corrected: LabelServer, studies: Path, served_bundles: dict[str, Path]
):
    model = "toy_trained"
    before = hashes(served_bundles[model])
    bad = write_label(studies / "labels" / "final" / "oblique.nii.gz", np.ones((3, 3, 3), np.uint8), OBLIQUE)
    try:
        task = corrected.trained(model, max_epochs=2, val_split=0.34, device="cpu")
    finally:
        bad.unlink()
    told = "\n".join(task["details"])
    assert task["status"] == "DONE", told
    assert '"training_images": 2' in told
    assert '"validation_images": 1' in told
    assert "label of image 'oblique': the label has 3 x 3 x 3 voxels, its image 24 x 20 x 8" in told
    weights = corrected.workspace / model / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    shipped = torch.load(served_bundles[model] / "models" / "model.pt", weights_only=True)
    assert not torch.equal(state["weight"], shipped["weight"])
    assert hashes(served_bundles[model]) == before


def test_a_further_training_keeps_the_weights_before(corrected: LabelServer):
    model = "toy_trained_twice"
    folder = corrected.workspace / model / "models"
    options = {"max_epochs": 1, "device": "cpu"}
    first = corrected.ask("POST", f"/train/{model}", params={"run_sync": "true"}, json=options)
    assert first.status_code == 200, first.text
    assert (first.json()["epochs"], first.json()["left_out"]) == (1, {})
    earlier = file_hash(folder / "model.pt")
    assert corrected.ask("POST", f"/train/{model}", params={"run_sync": "true"}, json=options).status_code == 200
    assert file_hash(folder / "model_1.pt") == earlier
    assert sorted(path.name for path in folder.iterdir()) == ["model.pt", "model_1.pt"]
    assert len(list((corrected.workspace / model / "training").iterdir())) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_epochs": "many"}, "max_epochs is 'many', expected a whole number from 1"),
        ({"max_epochs": 0}, "max_epochs is 0, expected a whole number from 1"),
        ({"val_split": 1.0}, "val_split is 1.0, expected the share of labels for validation"),
    ],
)
def test_wrong_options_of_a_training_are_refused(corrected: LabelServer, options: dict, message: str):
    answer = corrected.ask("POST", "/train/toy_volume_labels", params={"run_sync": "true"}, json=options)
    assert answer.status_code == 422
    assert message in answer.json()["detail"]


def test_training_without_any_fitting_label_says_what_was_wrong(corrected: LabelServer, tmp_path: Path):
    answer = corrected.ask("POST", f"/train/{OCTA}", params={"run_sync": "true"}, json={})
    detail = answer.json()["detail"]
    assert answer.status_code == 422
    assert f"{OCTA} cannot be trained: " in detail
    assert "V0.nii.gz: is a volume of 16 x 16 x 4 voxels" in detail


def test_a_training_that_is_killed_changes_nothing_and_the_next_one_works(corrected: LabelServer):
    model = "toy_trained"
    weights = corrected.workspace / model / "models"
    before = hashes(weights) if weights.is_dir() else {}
    started = corrected.ask("POST", f"/train/{model}", json={"max_epochs": 100_000, "device": "cpu"}).json()
    unfinished = corrected.workspace / model / "training" / "unfinished"
    end = time.monotonic() + 120
    while not (unfinished / "models" / "last.pt").is_file() and time.monotonic() < end:
        time.sleep(0.2)
    assert (unfinished / "models" / "last.pt").is_file()
    assert corrected.process is not None
    for child in psutil.Process(corrected.process.pid).children(recursive=True):
        os.kill(child.pid, signal.SIGKILL)
    assert corrected.finished("train", started["id"])["status"] == "ERROR"
    assert (hashes(weights) if weights.is_dir() else {}) == before
    again = corrected.ask("POST", f"/train/{model}", params={"run_sync": "true"}, json={"max_epochs": 1})
    assert again.status_code == 200, again.text
    assert not unfinished.exists()


def test_broken_weights_are_named_and_the_server_goes_on(corrected: LabelServer, studies: Path):
    weights = corrected.workspace / "toy_slice_labels" / "models" / "model.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"no weights")
    answer = corrected.infer("toy_slice_labels", "oblique")
    assert answer.status_code == 422
    assert "the weights in model.pt cannot be used: expected a state dict of Conv2d" in answer.json()["detail"]
    _, shipped = corrected.result("toy_slice_labels", "oblique", weights="shipped")
    np.testing.assert_array_equal(np.asarray(shipped.dataobj), labels_of(studies, "oblique"))
    weights.unlink()
    assert corrected.infer("toy_slice_labels", "oblique").status_code == 200


def test_pickled_code_in_weights_is_never_run(corrected: LabelServer, tmp_path: Path):
    class Harm:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "harm",))

    weights = corrected.workspace / "toy_slice_labels" / "models" / "model.pt"
    weights.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": Harm()}, weights)
    assert corrected.infer("toy_slice_labels", "oblique").status_code == 422
    weights.unlink()
    assert not (tmp_path / "harm").exists()


def test_the_next_image_is_the_one_with_the_highest_expected_error(corrected: LabelServer, studies: Path):
    chance = corrected.ask("POST", "/activelearning/worst_first", json={"model": "toy_detection_labels"}).json()
    assert "no image is scored yet: chosen by chance" in chance["message"]
    asked = {"model": "toy_slice_labels"}
    scored = corrected.ask("POST", "/scoring/expected_error", params={"run_sync": "true"}, json=asked)
    assert scored.status_code == 200, scored.text
    scores = scored.json()["toy_slice_labels"]["scored"]
    assert {"V3", "oblique"} <= set(scores)
    assert not {"V0", "V1", "V2"} & set(scores), "labelled images need no score"
    assert "damaged" in scored.json()["toy_slice_labels"]["failed"]
    noted = corrected.ask("GET", "/datastore/image/info", params={"image": "V3"}).json()["expected_error"]
    assert noted["toy_slice_labels"]["value"] == scores["V3"]
    assert noted["toy_slice_labels"]["measure"] == "predictive entropy"
    following = corrected.ask("POST", "/activelearning/worst_first", json=asked).json()
    assert following["id"] == max(scores, key=lambda image: scores[image])
    assert Path(following["path"]).is_file()


def test_the_score_is_the_mean_entropy_of_the_probabilities(corrected: LabelServer, studies: Path):
    image = stored(studies / "V3.nii.gz") / 100.0
    p = 1 / (1 + np.exp(-(20 * image - 10)))  # the toy's softmax of (5 - 10 x, 10 x - 5)
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    noted = corrected.ask("GET", "/datastore/image/info", params={"image": "V3"}).json()["expected_error"]
    assert noted["toy_slice_labels"]["value"] == pytest.approx(np.nan_to_num(entropy).mean(), rel=1e-3)


def test_scoring_a_model_without_probabilities_says_so(corrected: LabelServer):
    asked = {"model": "toy_cine_labels"}
    answer = corrected.ask("POST", "/scoring/expected_error", params={"run_sync": "true"}, json=asked)
    assert answer.status_code == 422
    assert "toy_cine_labels gives neither an expected error nor probabilities" in answer.json()["detail"]


def test_octa_is_annotated_corrected_and_retrained(corrected: LabelServer, studies: Path, served_bundles, tmp_path):
    """The whole round of a clinic: the network's labels, a person's corrections, a training, other labels."""
    before = hashes(served_bundles[OCTA])
    first, second = f"{OCTA}_1", f"{OCTA}_2"
    annotated = {}
    for image in (first, second):
        _, result = corrected.result(OCTA, image)
        annotated[image] = np.asarray(result.dataobj)
        thin = np.where(annotated[image] == 2, 2, 0).astype(np.uint8)  # this reader marks no capillaries
        label = write_label(tmp_path / f"{image}.nii.gz", thin, result.affine)
        answer = corrected.submit(image, label)
        assert answer.status_code == 200, answer.text
    task = corrected.trained(OCTA, max_epochs=3, val_split=0.5, device="cpu")
    told = "\n".join(task["details"])
    assert task["status"] == "DONE", told
    assert '"training_images": 1' in told
    assert '"validation_images": 1' in told
    _, after = corrected.result(OCTA, first)
    assert (np.asarray(after.dataobj) != annotated[first]).any(), "the new weights are used"
    _, shipped = corrected.result(OCTA, first, weights="shipped")
    np.testing.assert_array_equal(np.asarray(shipped.dataobj), annotated[first])
    assert hashes(served_bundles[OCTA]) == before
