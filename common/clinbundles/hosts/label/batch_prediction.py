"""Inference of all images of the studies in one request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore

from clinbundles.data.study_dataset import root_cause
from clinbundles.hosts.label.study_labels import ORIGINAL

logger = logging.getLogger(__name__)


class BatchPrediction:
    """Does one image after the other; one that fails is named and does not end the batch.

    Request: ``images`` ("all", "labeled", "unlabeled" or a list of ids), ``label_tag`` ("original"),
    ``max_batch_size`` (0: all), and what the model takes.
    """

    def __call__(
        self, request: Mapping[str, Any], datastore: Datastore, infer: Callable[..., dict[str, Any]]
    ) -> dict[str, Any]:
        """Image id to ``{"label": id, "params": ...}`` or ``{"error": message}``."""
        images = self._images(request.get("images", "all"), datastore)
        images = images[: int(request.get("max_batch_size") or 0) or None]
        done: dict[str, Any] = {}
        for number, image in enumerate(images, 1):
            asked = {**request, "image": image, "save_label": True, "label_tag": request.get("label_tag") or ORIGINAL}
            try:
                answer = infer(asked, datastore)
                done[image] = {"label": answer["label"], "tag": answer["tag"], "params": answer["params"]}
                if answer["file"]:
                    Path(answer["file"]).unlink(missing_ok=True)
            except Exception as error:  # whatever one image provokes must not end the batch
                cause = root_cause(error)
                done[image] = {"error": getattr(cause, "msg", None) or str(cause)}
                logger.error("image '%s' failed: %s", image, done[image]["error"])
            logger.info("%d of %d images are done", number, len(images))
        failed = [image for image, answer in done.items() if "error" in answer]
        logger.info("batch: %d images, %d failed%s", len(done), len(failed), f": {', '.join(failed)}" if failed else "")
        return done

    @staticmethod
    def _images(asked: Any, datastore: Datastore) -> list[str]:
        lists = {
            "all": datastore.list_images,
            "labeled": datastore.get_labeled_images,
            "unlabeled": datastore.get_unlabeled_images,
        }
        if isinstance(asked, str):
            if asked not in lists:
                raise ValueError(f"images is {asked!r}, expected all, labeled, unlabeled or a list of ids")
            return sorted(lists[asked]())
        unknown = sorted(set(map(str, asked)) - set(datastore.list_images()))
        if unknown:
            raise ValueError(f"there is no image {unknown[0]!r} among the studies")
        return sorted(map(str, asked))
