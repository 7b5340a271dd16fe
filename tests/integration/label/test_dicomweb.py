"""Studies from a DICOMweb store: Orthanc of the Debian packages orthanc and orthanc-dicomweb, on loopback."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from label.label_server import LabelServer, write_label
from make_dicom import OBLIQUE, PATIENT_NAME, SECRETS, write_series
from toy_bundles import blob, bright_labels

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER = ("clinic", "letmein")
SERIES, OTHER, GAPPED = "1.2.826.0.1.77.1", "1.2.826.0.1.77.2", "1.2.826.0.1.77.3"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Store:
    url: str
    client: DICOMwebClient
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return np.round(blob((14, 10, 6), 3)).astype(np.int16)


@pytest.fixture(scope="module")
def store(volume: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Orthanc with an oblique MR series, one of another modality, and one with a missing slice."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None or not PLUGIN.is_file():
        pytest.skip("Orthanc with its DICOMweb plugin is not installed (Debian: orthanc orthanc-dicomweb)")
    folder = tmp_path_factory.mktemp("orthanc")
    port = free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER[0]: USER[1]},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            requests.get(f"{address}/system", auth=USER, timeout=5).raise_for_status()
            break
        except requests.RequestException:
            time.sleep(0.1)
    else:
        pytest.fail(f"Orthanc did not start: {(folder / 'log').read_text()[-2000:]}")
    series = write_series(folder / "mr", volume, OBLIQUE, series=SERIES)
    series += write_series(folder / "us", volume, OBLIQUE, series=OTHER, modality="US")
    gapped = write_series(folder / "gapped", volume, OBLIQUE, series=GAPPED)
    for file in series + gapped[:2] + gapped[3:]:
        requests.post(f"{address}/instances", data=file.read_bytes(), auth=USER, timeout=30).raise_for_status()
    session = requests.Session()
    session.auth = USER
    yield Store(f"{address}/dicom-web", DICOMwebClient(f"{address}/dicom-web", session=session), process)
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def server(store: Store, served_bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServer]:
    """MONAI Label on that store."""
    environment = {"MONAI_LABEL_DATASTORE_USERNAME": USER[0], "MONAI_LABEL_DATASTORE_PASSWORD": USER[1]}
    bundles = [served_bundles["toy_volume_labels"]]
    workspace = tmp_path_factory.mktemp("on dicomweb")
    started = LabelServer(bundles, store.url, workspace, environment=environment).start()
    yield started.ready()
    started.stop()


def on_series_grid(labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Labels of the volume turned to the axes that a reader gives the series."""
    steps = np.linalg.inv(affine) @ OBLIQUE
    flips = [axis for axis in range(3) if steps[axis, axis] < 0]
    return np.flip(labels, flips)


def test_the_series_that_the_bundles_take_are_offered(server: LabelServer):
    status = server.ask("GET", "/info/").json()["datastore"]
    assert (status["total"], status["completed"]) == (2, 0)


@pytest.mark.parametrize("strategy", ["random", "worst_first"])
def test_the_next_sample_is_a_series_that_can_be_used(server: LabelServer, strategy: str):
    chosen = [server.ask("POST", f"/activelearning/{strategy}", json={}).json() for _ in range(6)]
    assert {sample["id"] for sample in chosen} == {SERIES}
    assert (chosen[0]["Modality"], bool(chosen[0]["StudyInstanceUID"])) == ("MR", True)


def test_labels_of_a_series_lie_where_the_series_lies(server: LabelServer, volume: np.ndarray):
    _, result = server.result("toy_volume_labels", SERIES)
    expected = on_series_grid(bright_labels(volume), result.affine)
    np.testing.assert_array_equal(np.asarray(result.dataobj), expected)


def test_a_series_that_cannot_be_used_is_refused_with_what_was_found(server: LabelServer):
    answer = server.infer("toy_volume_labels", GAPPED)
    assert answer.status_code == 422
    assert "missing" in answer.json()["detail"], answer.text


def test_a_submitted_label_is_in_the_store_as_dicom_segmentation(
    server: LabelServer, store: Store, volume: np.ndarray, tmp_path: Path
):
    _, result = server.result("toy_volume_labels", SERIES)
    labels = np.array(result.dataobj)
    labels[:4] = 0
    answer = server.submit(SERIES, write_label(tmp_path / "label.nii.gz", labels, result.affine))
    assert answer.status_code == 200, answer.text
    found = store.client.search_for_series(search_filters={"Modality": "SEG"})
    assert len(found) == 1
    study, series = (found[0][tag]["Value"][0] for tag in ("0020000D", "0020000E"))
    segmentation = highdicom.seg.Segmentation.from_dataset(store.client.retrieve_series(study, series)[0])
    assert [str(segment.SegmentLabel) for segment in segmentation.SegmentSequence] == ["bright tissue"]
    assert segmentation.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC", "a person had a hand in it"
    assert str(segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID) == SERIES
    assert str(segmentation.PatientName) == PATIENT_NAME  # the store files it with its patient
    assert int(np.asarray(segmentation.pixel_array).sum()) == int(labels.sum())
    np.testing.assert_array_equal(server.label(SERIES), labels)
    assert server.ask("GET", "/info/").json()["datastore"]["completed"] == 1


def test_a_segmentation_that_only_the_store_has_is_trained_with(server: LabelServer, tmp_path: Path):
    copy = server.workspace / "dicom" / "labels" / "final" / f"{SERIES}.nii.gz"
    before = np.asarray(nibabel.load(copy).dataobj).copy()
    copy.unlink()
    options = {"max_epochs": 1, "device": "cpu"}
    answer = server.ask("POST", "/train/toy_volume_labels", params={"run_sync": "true"}, json=options)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["training_images"], answer.json()["left_out"]) == (1, {})
    np.testing.assert_array_equal(np.asarray(nibabel.load(copy).dataobj), before)


def test_a_label_that_does_not_fit_its_series_never_reaches_the_store(
    server: LabelServer, store: Store, tmp_path: Path
):
    before = len(store.client.search_for_instances())
    label = write_label(tmp_path / "label.nii.gz", np.ones((3, 3, 3), np.uint8), OBLIQUE)
    answer = server.submit(SERIES, label)
    assert (answer.status_code, f"label of series '{SERIES}'" in answer.text) == (422, True)
    assert len(store.client.search_for_instances()) == before


def test_ohif_may_ask_for_the_result_as_dicom_segmentation(server: LabelServer, tmp_path: Path):
    answer = server.infer("toy_volume_labels", SERIES, output="dicom_seg", weights="shipped")
    assert answer.status_code == 200, answer.text
    (tmp_path / "answer.dcm").write_bytes(answer.content)
    assert pydicom.dcmread(tmp_path / "answer.dcm").Modality == "SEG"


@pytest.mark.parametrize("name", ["1.2.3", "..", "%2e%2e", "dicom"])
def test_a_series_that_the_store_does_not_have_is_not_found(server: LabelServer, name: str):
    assert server.infer("toy_volume_labels", name).status_code in (400, 404)


def test_the_proxy_for_ohif_reaches_the_store_and_nothing_else(server: LabelServer):
    assert server.ask("GET", "/proxy/dicom/qido/studies").status_code == 200
    assert server.ask("GET", "/proxy/dicom/qido/%2e%2e/system").status_code == 400


def test_no_name_of_the_patient_is_in_logs_notes_or_file_names(server: LabelServer):
    texts = [path for path in server.workspace.rglob("*") if path.suffix in (".log", ".json", ".py", ".csv", "")]
    said = "".join(path.read_text(errors="replace") for path in texts if path.is_file())
    said += "\n".join(str(path) for path in server.workspace.rglob("*"))
    said += server.ask("GET", "/datastore/", params={"output": "all"}).text
    assert SERIES in said
    assert [secret for secret in SECRETS if secret in said] == []


def test_a_store_that_is_gone_is_an_error_in_words_and_no_label_is_half_saved(
    server: LabelServer, store: Store, volume: np.ndarray, tmp_path: Path
):
    _, result = server.result("toy_volume_labels", SERIES, weights="shipped")
    before = server.label(SERIES)
    store.process.terminate()
    store.process.wait(timeout=30)
    label = write_label(tmp_path / "label.nii.gz", np.zeros(result.shape, np.uint8), result.affine)
    answer = server.submit(SERIES, label)
    assert (answer.status_code, "the DICOMweb store cannot be used" in answer.text) == (502, True), answer.text
    np.testing.assert_array_equal(server.label(SERIES), before)
    assert server.infer("toy_volume_labels", SERIES).status_code == 200, "what was fetched before is still there"
