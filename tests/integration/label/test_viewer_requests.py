"""Inference as 3D Slicer and OHIF ask for it, with every bundle."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests
import SimpleITK
from label.label_server import LabelServer, answer_of, image_for
from make_dicom import OBLIQUE, write_series
from PIL import Image
from toy_bundles import blob, bright_labels

from clinbundles.hosts.hosted_bundle import HostedBundle

OCTA = "retinal_octa_vessel_segmentation"
TYPES = {"label_map": "segmentation", "classification": "classification", "files": "others"}


def stored(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


@pytest.mark.host("MONAI Label", "shown with its type, labels and notice")
def test_the_type_and_labels_of_a_model_come_from_its_metadata(server: LabelServer, hosted: HostedBundle):
    model = server.ask("GET", "/info/").json()["models"][hosted.name]
    assert model["type"] == TYPES[hosted.kind]
    expected = {} if hosted.kind == "files" else {name: number for number, name in hosted.label_names.items()}
    assert model["labels"] == expected
    assert model["version"] == hosted.version
    assert "Research use only" in model["description"]


@pytest.mark.host("MONAI Label", "inference")
def test_the_server_gives_what_the_bundle_itself_gives(server: LabelServer, hosted: HostedBundle, studies: Path):
    study = image_for(hosted.name)
    image = next(studies.glob(f"{study}.*"))
    settings = {"fov_mm": 1.5} if hosted.name == OCTA else {}
    own = hosted.predictor(**settings)(image)["pred"]
    answer, result = server.result(hosted.name, study, weights="shipped")
    assert answer["notice"] == hosted.notice
    if hosted.kind == "classification":
        assert result is None
        names = [entry["label"] for entry in answer["prediction"]]
        assert names == list(hosted.label_names.values())
        np.testing.assert_allclose([entry["score"] for entry in answer["prediction"]], np.asarray(own), rtol=1e-5)
        return
    values = np.asarray(result.dataobj)
    if image.suffix == ".png":  # row by row in the bundle, columns first in a viewer
        np.testing.assert_array_equal(values[..., 0].T, np.asarray(own)[0])
        seen = SimpleITK.ReadImage(str(image))
        affine = np.diag([-seen.GetSpacing()[0], -seen.GetSpacing()[1], 1.0, 1.0])
        np.testing.assert_allclose(result.affine, affine)
        assert values.shape == (*seen.GetSize(), 1)
    else:
        np.testing.assert_allclose(values, np.asarray(own)[0], rtol=1e-5)
        np.testing.assert_array_equal(result.affine, nibabel.load(image).affine)
    assert result.get_data_dtype() == (np.uint8 if hosted.kind == "label_map" else np.float32)


@pytest.mark.parametrize("model", ["toy_volume_labels", "toy_slice_labels", "toy_detection_labels"])
def test_labels_of_an_oblique_volume_lie_on_its_voxels(server: LabelServer, studies: Path, model: str):
    answer, result = server.result(model, "oblique")
    np.testing.assert_array_equal(np.asarray(result.dataobj), bright_labels(stored(studies / "oblique.nii.gz")))
    np.testing.assert_allclose(result.affine, OBLIQUE, rtol=1e-6)
    assert answer["label_names"] == {"bright tissue": 1}


def test_labels_of_a_cine_keep_time_as_the_last_axis_and_the_affine(server: LabelServer, studies: Path):
    _, result = server.result("toy_cine_labels", "cine")
    cine = stored(studies / "cine.nii.gz").astype(float)
    np.testing.assert_array_equal(np.asarray(result.dataobj), cine > cine.mean())
    np.testing.assert_array_equal(result.affine, nibabel.load(studies / "cine.nii.gz").affine)


@pytest.mark.parametrize("study", ["enface_2d", "enface_3d"])
def test_labels_of_a_plane_have_the_axes_that_its_file_stores(server: LabelServer, studies: Path, study: str):
    _, picture = server.result(OCTA, f"{OCTA}_1", weights="shipped")
    _, result = server.result(OCTA, study, weights="shipped")
    image = nibabel.load(studies / f"{study}.nii.gz")
    assert result.shape == image.shape
    np.testing.assert_array_equal(result.affine, image.affine)
    plane = np.asarray(result.dataobj).reshape(image.shape[:2])
    np.testing.assert_array_equal(plane, np.asarray(picture.dataobj)[..., 0])


def test_measures_come_with_the_labels(server: LabelServer):
    answer = server.infer(OCTA, f"{OCTA}_1", output="json").json()
    assert 1.4 < answer["results"]["fov_width_mm"] < 1.6
    assert "label_names" in answer


def test_an_image_that_is_no_label_map_comes_as_a_file_with_a_message(server: LabelServer, studies: Path):
    answer, result = server.result("toy_enhancement", "oblique")
    image = stored(studies / "oblique.nii.gz").astype(float)
    np.testing.assert_allclose(np.asarray(result.dataobj), (image - image.mean()) / image.std(), atol=1e-3)
    assert "gives an image, not labels" in answer["message"]


def test_ohif_gets_raw_voxels_as_nrrd_and_sends_raw_bytes_back(server: LabelServer, studies: Path):
    asked = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}
    answer = server.infer("toy_volume_labels", "V3", output="image", **asked)
    assert b"encoding: raw" in answer.content
    raw = answer.content.split(b"\n\n", 1)[1]
    expected = bright_labels(stored(studies / "V3.nii.gz"))
    assert raw == expected.tobytes(order="F")
    form = {"label": ("label.bin", io.BytesIO(raw)), "params": (None, json.dumps({"label_info": []}))}
    sent = server.ask("PUT", "/datastore/label", params={"image": "V3", "tag": "from_ohif"}, files=form)
    assert sent.status_code == 200, sent.text
    np.testing.assert_array_equal(server.label("V3", "from_ohif"), expected)


def test_an_image_may_come_with_the_request_and_leaves_nothing_behind(server: LabelServer, studies: Path):
    with (studies / "oblique.nii.gz").open("rb") as content:
        form = {"file": ("my image.nii.gz", content), "params": (None, "{}")}
        response = server.ask("POST", "/infer/toy_volume_labels", files=form)
    _, result = answer_of(response, server.workspace / "received.nii.gz")
    np.testing.assert_array_equal(np.asarray(result.dataobj), bright_labels(stored(studies / "oblique.nii.gz")))
    assert not any((server.workspace / "uploads").iterdir())
    assert not any((server.workspace / "results").iterdir())


def test_an_image_may_be_uploaded_for_a_session(server: LabelServer, studies: Path):
    with (studies / "oblique.nii.gz").open("rb") as content:
        session = server.ask("PUT", "/session/", files={"files": ("x.nii.gz", content)}).json()["session_id"]
    response = server.ask("POST", "/infer/toy_volume_labels", params={"session_id": session})
    _, result = answer_of(response, server.workspace / "received.nii.gz")
    np.testing.assert_array_equal(np.asarray(result.dataobj), bright_labels(stored(studies / "oblique.nii.gz")))


def test_the_files_of_a_dicom_series_may_be_uploaded_for_a_session(server: LabelServer, tmp_path: Path):
    volume = np.round(blob((14, 10, 6), 3)).astype(np.int16)
    files = write_series(tmp_path, volume, OBLIQUE)
    form = [("files", (path.name, path.read_bytes())) for path in files]
    session = server.ask("PUT", "/session/", files=form).json()["session_id"]
    response = server.ask("POST", "/infer/toy_volume_labels", params={"session_id": session})
    _, result = answer_of(response, server.workspace / "received.nii.gz")
    assert np.asarray(result.dataobj).sum() == bright_labels(volume).sum()
    assert result.shape == volume.shape


def test_an_uploaded_image_becomes_a_study_but_replaces_none(server: LabelServer, studies: Path):
    def upload() -> requests.Response:
        with (studies / "oblique.nii.gz").open("rb") as content:
            form = {"file": ("x.nii.gz", content), "params": (None, "{}")}
            return server.ask("PUT", "/datastore/image", params={"image": "uploaded"}, files=form)

    assert upload().json() == {"image": "uploaded"}
    assert (studies / "uploaded.nii.gz").read_bytes() == (studies / "oblique.nii.gz").read_bytes()
    again = upload()
    assert again.status_code == 422
    assert "there is an image 'uploaded' already" in again.json()["detail"]
    assert server.ask("DELETE", "/datastore/image", params={"id": "uploaded"}).status_code == 200
    assert not (studies / "uploaded.nii.gz").exists()


def test_an_image_that_is_copied_into_the_folder_is_there_at_the_next_request(server: LabelServer, studies: Path):
    (studies / "late.nii.gz").write_bytes((studies / "V0.nii.gz").read_bytes())
    assert "late" in server.ask("GET", "/datastore/", params={"output": "all"}).json()["objects"]
    (studies / "late.nii.gz").unlink()
    assert "late" not in server.ask("GET", "/datastore/", params={"output": "all"}).json()["objects"]


def test_a_batch_does_every_image_and_names_those_that_fail(server: LabelServer, studies: Path):
    images = ["V1", "V2", "damaged"]
    body = {"images": images, "label_tag": "batch"}  # no multi_gpu: MONAI Label's own answers 500 without a GPU
    answer = server.ask("POST", "/batch/infer/toy_volume_labels", params={"run_sync": "true"}, json=body)
    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert set(done) == set(images)
    assert "damaged.nii.gz" in done["damaged"]["error"]
    for image in ("V1", "V2"):
        np.testing.assert_array_equal(server.label(image, "batch"), bright_labels(stored(studies / f"{image}.nii.gz")))


def test_a_batch_of_a_classification_is_noted_with_each_image(server: LabelServer):
    body = {"images": ["V1", "V2"]}
    server.ask("POST", "/batch/infer/toy_classification", params={"run_sync": "true"}, json=body)
    noted = server.ask("GET", "/datastore/image/info", params={"image": "V1"}).json()["prediction"]
    assert [entry["label"] for entry in noted["toy_classification"]] == ["dark", "middle", "bright"]


def test_a_batch_of_images_keeps_them_in_the_workspace_and_not_as_labels(server: LabelServer, studies: Path):
    body = {"images": ["V1"], "label_tag": "batch_of_images"}
    done = server.ask("POST", "/batch/infer/toy_enhancement", params={"run_sync": "true"}, json=body).json()
    assert Path(done["V1"]["params"]["file"]).is_relative_to(server.workspace)
    assert Path(done["V1"]["params"]["file"]).is_file()
    assert not (studies / "labels" / "batch_of_images").exists()


@pytest.mark.parametrize(
    "model, study, options, status, message",
    [
        ("nothing", "oblique", {}, 400, "there is no model 'nothing'; models: "),
        ("toy_volume_labels", "unknown", {}, 404, "there is no image 'unknown' among the studies"),
        ("toy_volume_labels", "damaged", {}, 422, "damaged.nii.gz"),
        (OCTA, "oblique", {}, 422, "is a volume of 24 x 20 x 8 voxels: give its en-face projection"),
        ("toy_volume_labels", "oblique", {"result_extension": ".exe"}, 422, "expected one of .nii.gz, .nii, .nrrd"),
        ("toy_volume_labels", "oblique", {"result_dtype": "object"}, 422, "result_dtype is 'object'"),
        ("toy_volume_labels", "oblique", {"weights": "mine"}, 422, "weights is 'mine', expected latest"),
        ("toy_cine_labels", "cine", {"result_extension": ".nrrd"}, 422, "ask for result_extension .nii.gz"),
    ],
)
def test_an_error_reaches_the_viewer_in_words(server, model, study, options, status, message):
    answer = server.infer(model, study, **options)
    assert (answer.status_code, message in answer.json()["detail"]) == (status, True), answer.text
    assert server.ask("GET", "/info/").status_code == 200


def test_a_classification_asked_for_an_image_says_how_to_ask(server: LabelServer):
    answer = server.infer("toy_classification", "oblique", output="image")
    assert answer.status_code == 422
    assert "ask with output=json" in answer.json()["detail"]


def test_the_server_answers_others_while_it_works(server: LabelServer):
    slow = [threading.Thread(target=server.infer, args=(OCTA, f"{OCTA}_2")) for _ in range(2)]
    for thread in slow:
        thread.start()
    assert server.ask("GET", "/info/").elapsed.total_seconds() < 2
    for thread in slow:
        thread.join()


def test_pictures_in_a_folder_are_studies(server: LabelServer, studies: Path):
    pictures = [path for path in studies.glob("*.png") if Image.open(path).size]
    assert pictures
    listed = server.ask("GET", "/datastore/", params={"output": "all"}).json()["objects"]
    assert {path.stem for path in pictures} <= set(listed)
