"""A MONAI Label server process, and its requests as 3D Slicer and OHIF send them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import requests
from bundle_images import BUNDLES, bundle_images
from requests_toolbelt import MultipartDecoder

START_SECONDS = 180


@dataclass
class LabelServer:
    """A server process and what a viewer asks of it."""

    bundles: list[Path]
    studies: Path | str
    workspace: Path
    options: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    def start(self) -> LabelServer:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.workspace.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "clinbundles.hosts.label", *map(str, self.bundles)]
        command += ["--studies", str(self.studies), "--workspace", str(self.workspace), "--port", str(self.port)]
        environment = {name: text for name, text in os.environ.items() if not name.startswith("MONAI_LABEL")}
        environment |= {"OMP_NUM_THREADS": "1", "MONAI_LABEL_AUTO_UPDATE_SCORING": "false", **self.environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.options],
                cwd=self.workspace,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    @property
    def log(self) -> Path:
        return self.workspace / "console.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> LabelServer:
        assert self.process is not None
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                requests.get(f"{self.url}/info/", timeout=10)
                return self
            except requests.RequestException:
                time.sleep(0.3)
        pytest.fail(f"the server did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, how)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    # --- as viewers ask ---

    def ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return requests.request(method, f"{self.url}{path}", timeout=170, **arguments)

    def infer(self, model: str, image: str, /, output: str = "all", **params: Any) -> requests.Response:
        form = {"params": (None, json.dumps(params))}
        return self.ask("POST", f"/infer/{model}", params={"image": image, "output": output}, files=form)

    def result(self, model: str, image: str, /, **params: Any) -> tuple[dict[str, Any], Any]:
        """(named results, NIfTI image or None)."""
        return answer_of(self.infer(model, image, **params), self.workspace / "received.nii.gz")

    def submit(self, image: str, label: Path, tag: str = "final") -> requests.Response:
        with label.open("rb") as content:
            form = {"label": (label.name, content), "params": (None, "{}")}
            return self.ask("PUT", "/datastore/label", params={"image": image, "tag": tag}, files=form)

    def label(self, image: str, tag: str = "final") -> np.ndarray:
        path = self.workspace / "received_label.nii.gz"
        answer = self.ask("GET", "/datastore/label", params={"label": image, "tag": tag})
        assert answer.status_code == 200, answer.text
        path.write_bytes(answer.content)
        return np.asarray(nibabel.load(path).dataobj)

    def trained(self, model: str, **options: Any) -> dict[str, Any]:
        """Train in the background as the viewers do; the finished task."""
        started = self.ask("POST", f"/train/{model}", json=options)
        assert started.status_code == 200, started.text
        return self.finished("train", started.json()["id"])

    def finished(self, kind: str, task: str) -> dict[str, Any]:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            tasks = self.ask("GET", f"/{kind}/", params={"all": "true"}).json()
            found = next(entry for entry in tasks if entry["id"] == task)
            if found["status"] in ("DONE", "ERROR"):
                return found
            time.sleep(0.5)
        pytest.fail(f"{kind} did not end:\n{self.log.read_text()[-3000:]}")


def answer_of(response: requests.Response, path: Path) -> tuple[dict[str, Any], Any]:
    assert response.status_code == 200, response.text
    if "multipart" not in response.headers["content-type"]:
        return response.json(), None
    parts = {}
    for part in MultipartDecoder.from_response(response).parts:
        name = part.headers[b"Content-Disposition"].decode().split('name="')[1].split('"')[0]
        parts[name] = part.content
    path.write_bytes(parts["image"])
    image = nibabel.load(path)
    return json.loads(parts["params"]), nibabel.Nifti1Image(np.array(image.dataobj), image.affine, image.header)


def write_label(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def studies_of(name: str, folder: Path, simulated: Path) -> list[Path]:
    """Simulated images of a bundle, named BUNDLE_1 and so on, in ``folder``."""
    images = bundle_images(name, folder, simulated)
    return [
        image.rename(folder / f"{name}_{number}{''.join(image.suffixes)}") for number, image in enumerate(images, 1)
    ]


def image_for(name: str) -> str:
    """Id of a study that a bundle takes."""
    return f"{name}_1" if name in BUNDLES else "cine" if name == "toy_cine_labels" else "oblique"
