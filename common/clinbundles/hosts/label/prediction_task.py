"""Inference with one bundle for MONAI Label: an image file in, a label map and named results out."""

from __future__ import annotations

import gzip
import logging
import math
import threading
import time
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.others.generic import device_list, name_to_device

from clinbundles.data.study_dataset import root_cause
from clinbundles.hosts.bundle_predictor import BundlePredictor
from clinbundles.hosts.hosted_bundle import HostedBundle
from clinbundles.hosts.label.file_grid import read_grid
from clinbundles.hosts.label.result_file import RESULT_EXTENSIONS, label_type, result_on_grid, write_result
from clinbundles.hosts.label.trained_weights import LATEST, SHIPPED, TrainedWeights

logger = logging.getLogger(__name__)

_CUT_OFF = (EOFError, gzip.BadGzipFile, zlib.error)  # what readers raise at the end of half a file
_TYPES = {"label_map": InferType.SEGMENTATION, "classification": InferType.CLASSIFICATION, "files": InferType.OTHERS}


class PredictionTask(InferTask):
    """A bundle's own pipeline, as its command line runs it, behind MONAI Label's interface.

    What the result is follows from the bundle's metadata, never from its name. A request may choose ``device``,
    ``weights`` ("latest" or "shipped"), ``result_extension`` and ``result_dtype``; other entries are not looked at.

    Args:
        bundle: the bundle.
        weights: its weights on this server.
        settings: ids of its inference config that the user has set.
        scratch: folder for results on their way to the viewer.
    """

    def __init__(
        self, bundle: HostedBundle, weights: TrainedWeights, settings: Mapping[str, Any], scratch: Path
    ) -> None:
        super().__init__(
            type=_TYPES[bundle.kind],
            labels={name: number for number, name in bundle.label_names.items() if bundle.kind != "files"},
            dimension=min(bundle.image_axes, 3),
            description=f"{bundle.metadata.get('description', bundle.title)} {bundle.notice}",
            config={"device": device_list(), "weights": [LATEST, SHIPPED]},
        )
        self.bundle = bundle
        self.weights = weights
        self.settings = dict(settings)
        self.scratch = scratch
        self._one_at_a_time = threading.Lock()
        self._predictor: tuple[tuple[Any, ...], BundlePredictor] | None = None

    def is_valid(self) -> bool:
        """A bundle without weights is shown too: its first result says what is missing."""
        return True

    def get_path(self, validate: bool = True) -> str:
        """File of the latest weights."""
        return str(self.weights.path())

    def info(self) -> dict[str, Any]:
        """What viewers show of the model."""
        return {**super().info(), "version": self.bundle.version, "notice": self.bundle.notice}

    def sample(self, image: str, device: Any = None, weights: Any = LATEST) -> dict[str, Any]:
        """The bundle's postprocessed sample of one image.

        Raises:
            BundleError, ValueError, RuntimeError: whatever the bundle says of the image or the weights.
        """
        name = Path(image).name
        chosen = weights[0] if isinstance(weights, (list, tuple)) else weights
        with self._one_at_a_time:
            predictor = self._current_predictor(str(name_to_device(device)), self.weights.path(str(chosen)))
            try:
                return predictor(image, study=name.split(".")[0])
            except Exception as error:
                cause = root_cause(error)
                if isinstance(cause, _CUT_OFF):
                    raise ValueError(f"{name}: cannot be read as an image, is it damaged or cut off?") from error
                raise

    def __call__(self, request: Mapping[str, Any], callbacks: Any = None) -> tuple[str | None, dict[str, Any]]:
        """Do one image: (result file or None, named results)."""
        start = time.monotonic()
        image = str(request["image"])
        sample = self.sample(image, request.get("device"), request.get("weights") or LATEST)
        seconds = round(time.monotonic() - start, 3)
        answer: dict[str, Any] = {
            "model": self.bundle.name,
            "version": self.bundle.version,
            "notice": self.bundle.notice,
            "label_names": self.labels,
            "latencies": {"total": seconds},
            "centroids": {},  # OHIF looks for it
        }
        if "expected_error" in sample:
            answer["expected_error"] = float(sample["expected_error"])
        if "results" in sample:
            answer["results"] = {str(name): _plain(value) for name, value in sample["results"].items()}
        logger.info("%s: %s in %.2f s", self.bundle.name, Path(image).name, seconds)
        if self.bundle.kind == "classification":
            answer["prediction"] = self._classes(sample["pred"])
            return None, answer
        return self._write(sample["pred"], image, request, answer), answer

    def _current_predictor(self, device: str, weights: Path) -> BundlePredictor:
        stamp = (device, weights, weights.stat().st_mtime_ns if weights.is_file() else 0)
        if self._predictor is None or self._predictor[0] != stamp:
            self._predictor = None  # let go of the old network before the new one is read
            self._predictor = (stamp, self.bundle.predictor(device=device, weights=weights, **self.settings))
        return self._predictor[1]

    def _classes(self, probabilities: Any) -> list[dict[str, Any]]:
        scores = np.asarray(probabilities.detach().cpu(), dtype=float).ravel()
        return [
            {"idx": number, "label": name, "score": float(scores[number])}
            for number, name in self.bundle.label_names.items()
        ]

    def _write(self, pred: Any, image: str, request: Mapping[str, Any], answer: dict[str, Any]) -> str:
        values = result_on_grid(pred, read_grid(image), Path(image).name)
        if self.bundle.kind == "label_map":
            values = values.astype(label_type(values, request.get("result_dtype")))
        else:
            values = values.astype(np.float32)
            answer["message"] = (
                f"{self.bundle.title} gives an image, not labels: the file holds it on the grid of the input; load it "
                "as a volume"
            )
        extension = str(request.get("result_extension") or RESULT_EXTENSIONS[0]).lower()
        extension = extension if extension.startswith(".") else f".{extension}"
        if extension not in RESULT_EXTENSIONS:
            raise ValueError(f"result_extension is {extension!r}, expected one of {', '.join(RESULT_EXTENSIONS)}")
        path = self.scratch / f"{self.bundle.name}_{uuid.uuid4().hex}{extension}"
        write_result(values, image, path)
        return str(path)


def _plain(value: Any) -> Any:
    """A number or text that JSON can hold; NaN, a measure that does not exist, becomes null."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return None if value is None else str(value)
