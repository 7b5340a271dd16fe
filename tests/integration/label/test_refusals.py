"""What a stranger may try: names that lead out of a folder, foreign pages, foreign weights, no password."""

from __future__ import annotations

import base64
import http.client
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jwt
import nibabel
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from label.label_server import LabelServer
from toy_bundles import bright_labels

OUTSIDE = ["../secret", "..%2Fsecret", "..\\secret", "/etc/passwd", "labels/../../secret", ".hidden", "a\x00b"]
REQUESTS = [
    ("POST", "/infer/toy_volume_labels", "image"),
    ("POST", "/infer/toy_volume_labels", "session_id"),
    ("GET", "/datastore/image", "image"),
    ("HEAD", "/datastore/image", "image"),
    ("GET", "/datastore/image/info", "image"),
    ("PUT", "/datastore/image/info", "image"),
    ("PUT", "/datastore/image", "image"),
    ("PUT", "/datastore/label", "image"),
    ("GET", "/datastore/label", "label"),
    ("GET", "/datastore/label", "tag"),
    ("PUT", "/datastore/label", "tag"),
    ("DELETE", "/datastore/label", "id"),
    ("DELETE", "/datastore/label", "tag"),
    ("DELETE", "/datastore/image", "id"),
    ("DELETE", "/datastore/", "id"),
]


def listing(folder: Path) -> dict[str, int]:
    return {path.as_posix(): path.stat().st_size for path in folder.rglob("*") if path.suffix != ".log"}


@pytest.fixture(scope="module")
def secret(studies: Path) -> Path:
    path = studies.parent / "secret.nii.gz"
    path.write_bytes((studies / "oblique.nii.gz").read_bytes())
    return path


@pytest.mark.parametrize("method, path, name", REQUESTS)
def test_a_name_that_leads_out_of_the_studies_is_refused(server, studies, secret, method, path, name):
    before = listing(studies.parent)
    content = secret.read_bytes()
    for value in OUTSIDE:
        query = {"image": "oblique", "label": "oblique", "id": "oblique", "tag": "final"} | {name: value}
        query = {"session_id": value} if name == "session_id" else query
        form = {"file": ("x.nii.gz", content), "label": ("x.nii.gz", content), "params": (None, "{}")}
        answer = server.ask(method, path, params=query, files=form if method in ("POST", "PUT") else None)
        assert answer.status_code in (400, 404), (value, answer.status_code, answer.text)
        assert content[:40] not in answer.content
    assert listing(studies.parent) == before


@pytest.mark.parametrize("path", ["/session/..", "/session/%2e%2e", "/model/..%2f..%2fsecret", "/ohif/../../secret"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_path_that_leads_out_is_refused(server: LabelServer, studies: Path, secret: Path, method: str, path: str):
    before = listing(studies.parent)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, path)  # as it stands: requests would tidy it up
    assert connection.getresponse().status in (400, 403, 404, 405)
    assert listing(studies.parent) == before


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_way_to_the_dicom_store_cannot_leave_it(server: LabelServer, method: str):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, "/proxy/dicom/wado/%2e%2e/system")
    answer = connection.getresponse()
    assert (answer.status, b"leads out" in answer.read()) == (400, True)


def test_params_cannot_replace_the_image_or_choose_where_results_go(server: LabelServer, studies: Path, secret: Path):
    before = listing(studies.parent)
    harmful = {
        "image": str(secret),
        "label": str(secret),
        "image_path": str(secret),
        "session": str(secret),
        "output_dir": str(studies.parent),
        "result_dir": str(studies.parent),
        "result_write_to_file": False,
        "skip_writer": True,
        "description": "x",
        "model": "toy_enhancement",
    }
    _, result = server.result("toy_volume_labels", "V3", **harmful)
    image = np.asarray(nibabel.load(studies / "V3.nii.gz").dataobj)
    np.testing.assert_array_equal(np.asarray(result.dataobj), bright_labels(image))
    assert listing(studies.parent) == before


@pytest.mark.parametrize("options", [{"label_tag": "../../x"}, {"label_tag": "../../x", "save_label": True}])
def test_a_label_tag_in_params_is_a_plain_name(server: LabelServer, studies: Path, options: dict):
    before = listing(studies.parent)
    answer = server.infer("toy_volume_labels", "V3", **options)
    assert (answer.status_code, "tag '../../x' is refused" in answer.text) == (400, True)
    assert listing(studies.parent) == before


def test_a_batch_takes_studies_only(server: LabelServer, secret: Path):
    body = {"images": [str(secret)]}
    answer = server.ask("POST", "/batch/infer/toy_volume_labels", params={"run_sync": "true"}, json=body)
    assert (answer.status_code, "there is no image" in answer.text) == (422, True)


@pytest.mark.parametrize("text", ["[]", "no json", "5"])
def test_params_that_are_no_object_are_refused(server: LabelServer, text: str):
    answer = server.ask("POST", "/infer/toy_volume_labels", params={"image": "V3"}, files={"params": (None, text)})
    assert (answer.status_code, "params" in answer.json()["detail"]) == (400, True)


def test_an_archive_cannot_write_outside_of_its_session(server: LabelServer, tmp_path: Path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        entry = tarfile.TarInfo("../../../../harm.txt")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"harm"))
    before = set(server.workspace.parents[1].rglob("harm.txt"))
    files = {"files": ("x.tar.gz", content.getvalue())}
    answer = server.ask("PUT", "/session/", params={"uncompress": "true"}, files=files)
    assert (answer.status_code, "the archive is refused" in answer.text) == (422, True)
    assert set(server.workspace.parents[1].rglob("harm.txt")) == before


def test_web_pages_of_others_get_nothing(server: LabelServer):
    for method, path in (("GET", "/info/"), ("POST", "/activelearning/random"), ("OPTIONS", "/info/")):
        answer = server.ask(method, path, headers={"Origin": "http://page.example"})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    own = server.ask("GET", "/info/", headers={"Origin": server.url})
    assert own.status_code == 200


def test_another_host_name_for_this_machine_is_refused(server: LabelServer):
    answer = server.ask("GET", "/info/", headers={"Host": "page.example"})
    assert (answer.status_code, "listens on this machine only" in answer.text) == (403, True)


def test_nobody_puts_weights_on_the_server_or_takes_them_away(server: LabelServer, served_bundles: dict[str, Path]):
    weights = served_bundles["toy_volume_labels"] / "models" / "model.pt"
    before = weights.read_bytes()
    put = server.ask("PUT", "/model/toy_volume_labels", files={"file": ("model.pt", b"harm")})
    assert (put.status_code, "changed by training only" in put.text) == (403, True)
    assert server.ask("DELETE", "/model/toy_volume_labels").status_code == 403
    assert weights.read_bytes() == before
    assert server.ask("GET", "/model/toy_volume_labels").status_code == 200


def test_a_stranger_cannot_restart_the_app(server: LabelServer):
    assert server.ask("POST", "/reload").status_code == 404


class Realm(BaseHTTPRequestHandler):
    """Stands for Keycloak: publishes the key that its tokens are signed with."""

    public_key = ""

    def do_GET(self) -> None:
        body = json.dumps({"public_key": self.public_key}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def realm_key() -> rsa.RSAPrivateKey:
    return new_key()


@pytest.fixture(scope="module")
def guarded(
    realm_key: rsa.RSAPrivateKey, studies: Path, served_bundles: dict[str, Path], tmp_path_factory
) -> Iterator[LabelServer]:
    """A server with authentication switched on."""
    kinds = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    Realm.public_key = base64.b64encode(realm_key.public_key().public_bytes(*kinds)).decode()
    realm = HTTPServer(("127.0.0.1", 0), Realm)
    threading.Thread(target=realm.serve_forever, daemon=True).start()
    environment = {
        "MONAI_LABEL_AUTH_ENABLE": "true",
        "MONAI_LABEL_AUTH_REALM_URI": f"http://127.0.0.1:{realm.server_port}/realms/clinic",
    }
    workspace = tmp_path_factory.mktemp("guarded")
    bundles = [served_bundles["toy_volume_labels"]]
    server = LabelServer(bundles, studies, workspace, environment=environment).start()
    yield server.ready()
    server.stop()
    realm.shutdown()


def token(key: rsa.RSAPrivateKey, roles: list[str], seconds: float = 60) -> dict[str, str]:
    content = {"preferred_username": "reader", "realm_access": {"roles": roles}, "exp": time.time() + seconds}
    return {"Authorization": "Bearer " + jwt.encode(content, key, algorithm="RS256")}


def test_with_authentication_nothing_is_told_without_a_token(guarded: LabelServer):
    requests_ = [
        ("GET", "/info/"),
        ("GET", "/datastore/"),
        ("GET", "/datastore/image?image=oblique"),
        ("POST", "/infer/toy_volume_labels?image=oblique"),
        ("POST", "/train/toy_volume_labels"),
        ("PUT", "/datastore/label?image=oblique"),
        ("DELETE", "/datastore/image?id=oblique"),
        ("PUT", "/model/toy_volume_labels"),
        ("GET", "/logs/"),
    ]
    assert {path: guarded.ask(method, path).status_code for method, path in requests_} == {
        path: 401 for _, path in requests_
    }


def test_a_token_of_the_realm_opens_what_its_roles_allow(guarded: LabelServer, realm_key: rsa.RSAPrivateKey):
    reader = token(realm_key, ["monailabel-user"])
    assert guarded.ask("GET", "/info/", headers=reader).status_code == 200
    infer = guarded.ask("POST", "/infer/toy_volume_labels?image=oblique&output=json", headers=reader)
    assert infer.status_code == 200
    assert guarded.ask("POST", "/train/toy_volume_labels", json={}, headers=reader).status_code == 403


def test_forged_and_old_tokens_open_nothing(guarded: LabelServer, realm_key: rsa.RSAPrivateKey):
    roles = ["monailabel-admin", "monailabel-user"]
    unsigned = jwt.encode({"exp": time.time() + 60, "realm_access": {"roles": roles}}, None, algorithm="none")
    for header in (token(new_key(), roles), token(realm_key, roles, -60), {"Authorization": f"Bearer {unsigned}"}):
        assert guarded.ask("GET", "/info/", headers=header).status_code == 401
