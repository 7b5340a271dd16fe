"""MONAI Label's app for bundles: which tasks there are, made from what the bundles' metadata say."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.config import settings as server_settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.async_tasks.utils import processes

from clinbundles.dicom import SeriesError
from clinbundles.hosts.hosted_bundle import NOTICE, HostedBundle, find_bundle
from clinbundles.hosts.label.batch_prediction import BatchPrediction
from clinbundles.hosts.label.bundle_settings import settings_of_each
from clinbundles.hosts.label.dicomweb_studies import DicomWebStudies, dicomweb_client
from clinbundles.hosts.label.expected_error import ExpectedError
from clinbundles.hosts.label.prediction_task import PredictionTask
from clinbundles.hosts.label.random_choice import RandomChoice
from clinbundles.hosts.label.request_names import plain_tag
from clinbundles.hosts.label.study_labels import ORIGINAL, LabelledStudies
from clinbundles.hosts.label.trained_weights import TrainedWeights
from clinbundles.hosts.label.training_task import TrainingTask
from clinbundles.hosts.label.uploaded_sessions import UploadedSessions
from clinbundles.hosts.label.worst_first import WorstFirst

logger = logging.getLogger(__name__)


class LabelApp(MONAILabelApp):
    """One app for all bundles; ``app_dir`` is the server's workspace.

    Args:
        app_dir: workspace: logs, trained weights, uploads, cached DICOM.
        studies: folder of images, or address of a DICOMweb store.
        conf: ``bundles``: JSON list of names or folders; ``settings``: JSON mapping of ids of their inference configs.

    Raises:
        BundleError: a bundle or a setting that does not exist.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        self.workspace = Path(app_dir)
        self.bundles: dict[str, HostedBundle] = {}
        for name in json.loads(conf["bundles"]):
            bundle = find_bundle(name)
            self.bundles[bundle.name] = bundle
        self.settings = settings_of_each(self.bundles.values(), json.loads(conf.get("settings", "{}")))
        self.weights = {name: TrainedWeights(bundle, self.workspace) for name, bundle in self.bundles.items()}
        titles = "; ".join(bundle.title for bundle in self.bundles.values())
        super().__init__(
            app_dir, studies, dict(conf), name="clinbundles", description=f"{titles}. {NOTICE}", version="1.0"
        )
        self._auto_update_scoring = False  # next_sample starts it when it is needed

    @property
    def _segmenting(self) -> list[str]:
        return [name for name, bundle in self.bundles.items() if bundle.kind == "label_map"]

    @property
    def label_names(self) -> dict[int, str]:
        """Every label that some bundle here has; names of the same number are joined."""
        names: dict[int, dict[str, None]] = {}
        for bundle in self._segmenting:
            for number, name in self.bundles[bundle].label_names.items():
                names.setdefault(number, {})[name] = None
        return {number: " or ".join(names[number]) for number in sorted(names)}

    # --- what MONAI Label asks for ---

    def init_datastore(self) -> Datastore:
        """The folder of studies, or a DICOMweb store with its copies in the workspace."""
        if not self.studies.startswith(("http://", "https://")):
            return LabelledStudies(self.studies, self.label_names)
        client = dicomweb_client(self.studies.rstrip("/"))
        return DicomWebStudies(client, self.workspace / "dicom", list(self.bundles.values()), self.label_names)

    def init_infers(self) -> dict[str, PredictionTask]:
        """One task for each bundle."""
        scratch = self.workspace / "results"
        return {
            name: PredictionTask(bundle, self.weights[name], self.settings[name], scratch)
            for name, bundle in self.bundles.items()
        }

    def init_trainers(self) -> dict[str, TrainingTask]:
        """One for each bundle that learns from images with label maps."""
        return {
            name: TrainingTask(bundle, self.weights[name], self.settings[name])
            for name, bundle in self.bundles.items()
            if bundle.can_train
        }

    def init_scoring_methods(self) -> dict[str, ExpectedError]:
        """The expected error, where a bundle gives label maps."""
        tasks = {name: self._infers[name] for name in self._segmenting}
        return {ExpectedError.NAME: ExpectedError(tasks)} if tasks else {}

    def init_strategies(self) -> dict[str, Any]:
        """The worst first, or by chance."""
        weights = {name: self.weights[name] for name in self._segmenting}
        return {**({WorstFirst.NAME: WorstFirst(weights)} if weights else {}), RandomChoice.NAME: RandomChoice()}

    def init_batch_infer(self) -> BatchPrediction:
        """All images of the studies, one after the other."""
        return BatchPrediction()

    def _load_sessions(self, load: bool = False) -> UploadedSessions | None:
        if not load:
            return None
        folder = self.workspace / "sessions"
        folder.mkdir(parents=True, exist_ok=True)
        return UploadedSessions(str(folder), server_settings.MONAI_LABEL_SESSION_EXPIRY)

    # --- requests ---

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Do one image: an id of the studies, or a file that was uploaded into the workspace.

        With ``save_label`` the label map becomes the image's label with the tag ``label_tag`` ("original"); a
        classification is noted with the image; other results are kept in ``WORKSPACE/BUNDLE/results``.

        Raises:
            MONAILabelException: no such model or image.
            ValueError: whatever the bundle says of the image.
        """
        studies = datastore or self.datastore()
        task = self._infers.get(request.get("model"))
        if task is None:
            raise MONAILabelException(
                MONAILabelError.INVALID_INPUT,
                f"there is no model {request.get('model')!r}; models: {', '.join(self._infers)}",
            )
        image_id = str(request.get("image") or "")
        uploaded = self._is_uploaded(image_id)
        image = image_id if uploaded else studies.get_image_uri(image_id)
        tag = plain_tag(str(request.get("label_tag") or ORIGINAL))
        file, answer = task({**request, "image": image})
        label = file
        if str(request.get("save_label", "")).lower() == "true" and not uploaded:
            label = self._keep(studies, task.bundle, image_id, file, tag, answer) or file
        return {"label": label, "tag": tag, "file": file, "params": answer}

    def _is_uploaded(self, image: str) -> bool:
        folders = [self.workspace / "uploads", self.workspace / "sessions"]
        path = Path(image)
        return path.is_absolute() and any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)

    def _keep(
        self, studies: Any, bundle: HostedBundle, image: str, file: str | None, tag: str, answer: dict[str, Any]
    ) -> str | None:
        if bundle.kind == "label_map":
            return str(studies.save_label(image, file, tag, {"model": bundle.name, "params": answer}))
        if bundle.kind == "classification":
            noted = studies.get_image_info(image).get("prediction", {})
            studies.update_image_info(image, {"prediction": {**noted, bundle.name: answer["prediction"]}})
            return None
        kept = self.workspace / bundle.name / "results" / f"{image}{''.join(Path(str(file)).suffixes)}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        Path(str(file)).replace(kept)
        answer["file"] = str(kept)
        return None

    def infer_wsi(self, request: Any, datastore: Any = None) -> Any:
        """Whole-slide images have no bundle here."""
        raise MONAILabelException(MONAILabelError.INVALID_INPUT, "whole-slide images are not served here")

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The image to label next; scores that are missing or old are computed meanwhile, in another process."""
        chosen = self._usable_sample({"strategy": next(iter(self._strategies)), **request})
        if chosen.pop("scores_missing", False) and server_settings.MONAI_LABEL_AUTO_UPDATE_SCORING:
            if not processes("scoring"):
                AsyncTask.run("scoring", request={"method": ExpectedError.NAME}, params=None, enqueue=True)
            chosen["message"] = f"{chosen['message']}; the scores are being computed in the background"
        if chosen.get("message"):
            logger.info("next sample: %s", chosen["message"])
        return chosen

    def _usable_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The strategy's choice; a series that turns out to be no regular volume is no candidate any more."""
        candidates = len(self._datastore.get_unlabeled_images())
        while True:
            try:
                return dict(super().next_sample(request))
            except SeriesError as error:
                logger.warning("next sample: %s", error)
                left = len(self._datastore.get_unlabeled_images())
                if left >= candidates:
                    raise
                candidates = left
