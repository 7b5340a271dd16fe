"""Training of a bundle with the labels that people have corrected."""

from __future__ import annotations

import logging
import random
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import device_list, name_to_device

from clinbundles.data.study_dataset import root_cause
from clinbundles.hosts.bundle_predictor import load_network
from clinbundles.hosts.hosted_bundle import HostedBundle
from clinbundles.hosts.label.label_check import checked_labels, write_training_label
from clinbundles.hosts.label.trained_weights import TrainedWeights

logger = logging.getLogger(__name__)

SEED = 0


class TrainingTask(TrainTask):
    """Runs a bundle's own training on the studies' images with final labels.

    Everything is written below ``WORKSPACE/BUNDLE``: the labels in the form that the bundle reads, the training's
    history, and in the end the new weights, in one step. A training that is killed leaves only
    ``training/unfinished``, which the next one removes.

    Args:
        bundle: the bundle.
        weights: where its weights on this server are.
        settings: ids of its inference config that the user has set; those that training has too, such as ``fov_mm``,
            count there as well.
    """

    def __init__(self, bundle: HostedBundle, weights: TrainedWeights, settings: Mapping[str, Any]) -> None:
        super().__init__(f"{bundle.title}: trains a copy of the weights. {bundle.notice}")
        self.bundle = bundle
        self.weights = weights
        self.settings = dict(settings)

    def config(self) -> dict[str, Any]:
        """Options that viewers show."""
        return {"max_epochs": 20, "val_split": 0.2, "pretrained": True, "device": device_list()}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train; the answer says with how many labels, which were left out and why, and what was reached.

        Raises:
            ValueError: wrong options, or no usable label; the message names the labels and what is wrong with them.
        """
        epochs, validation_share = _number(request, "max_epochs", 20, 1, 100_000), _share(request)
        folder = self.weights.folder / "training" / "unfinished"
        shutil.rmtree(folder, ignore_errors=True)
        cases, left_out = self._cases(datastore, folder / "labels")
        training, validation = split_cases(cases, validation_share)
        logger.info("%s: %d labels to train, %d to validate", self.bundle.name, len(training), len(validation))
        overrides = {
            "bundle_root": str(self.bundle.root),
            "output_dir": str(folder),
            "ckpt": str(self.weights.path()) if request.get("pretrained", True) else None,
            "epochs": epochs,
            "val_interval": 1,  # the weights of the best epoch are kept, so each must be judged
            "device": torch.device(name_to_device(request.get("device"))),
            "seed": SEED,
            "workers": 0,
            "training_cases": training,
            "validation_cases": validation,
        }
        reached = self._run({**self._settings_of_training(), **overrides})
        state = torch.load(folder / "models" / "model.pt", map_location="cpu", weights_only=True)
        self.weights.install(state)
        shutil.rmtree(folder / "models")  # the optimizer's state: each training starts anew
        folder.rename(folder.with_name(time.strftime("%Y%m%d-%H%M%S") + f"-{time.time_ns() % 1000:03d}"))
        answer = {
            "model": self.bundle.name,
            "epochs": epochs,
            "training_images": len(training),
            "validation_images": len(validation),
            "left_out": left_out,
            "weights": str(self.weights.trained),
            **reached,
        }
        logger.info("%s: training is finished: %s", self.bundle.name, answer)
        return answer

    def _cases(self, datastore: Any, folder: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
        cases, left_out = [], {}
        takes = self.bundle.predictor(**self.settings).preprocessing
        for image_id, image, label in datastore.labelled_pairs():
            try:
                takes({"image": str(image)})  # images of other bundles, or damaged ones
                labels = checked_labels(label, image, self.bundle.label_names, f"label of image '{image_id}'")
                placed = write_training_label(labels, image, folder, image_id)
            except Exception as error:  # one bad pair must not keep the others from being used
                left_out[image_id] = str(root_cause(error))
                logger.warning("left out of the training: %s", left_out[image_id])
                continue
            cases.append({"image": str(image), "label": str(placed), "case": image_id})
        if not cases:
            reasons = "; ".join(left_out.values()) or "no image has a final label yet: submit labels first"
            raise ValueError(f"{self.bundle.name} cannot be trained: {reasons}")
        return cases, left_out

    def _settings_of_training(self) -> dict[str, Any]:
        known = ConfigParser.load_config_files([str(path) for path in self.bundle.training_configs])
        return {name: value for name, value in self.settings.items() if name in known}

    def _run(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        workflow = ConfigWorkflow(
            config_file=[str(path) for path in self.bundle.training_configs],
            meta_file=str(self.bundle.root / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type="train",
            **overrides,
        )
        try:
            workflow.initialize()
            workflow.run()
            workflow.finalize()
        except Exception as error:
            logger.exception("%s: the training failed", self.bundle.name)
            cause = _first_cause(error)
            if isinstance(cause, OSError):
                raise cause from None
            raise RuntimeError(f"training {self.bundle.name} failed, its weights are unchanged: {cause}") from None
        validator = workflow.parser.get_parsed_content("validate#evaluator")
        trained = workflow.parser.get_parsed_content("network_def")
        load_network(trained, Path(overrides["output_dir"]) / "models" / "model.pt", torch.device("cpu"))
        return {
            "best_epoch": int(validator.state.best_metric_epoch),
            str(validator.state.key_metric_name): round(float(validator.state.best_metric), 4),
        }


def split_cases(
    cases: list[dict[str, str]], validation_share: float, seed: int = SEED
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Cases to train with and cases to validate with, the same for the same cases.

    Both get at least one; with fewer than two cases, or without a share, validation repeats what was trained.
    """
    mixed = sorted(cases, key=lambda case: case["case"])
    random.Random(seed).shuffle(mixed)
    count = min(max(round(len(mixed) * validation_share), 1), len(mixed) - 1) if validation_share > 0 else 0
    return (mixed[count:], mixed[:count]) if count else (mixed, mixed)


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:  # MONAI wraps what goes wrong in a config several times
        error = error.__cause__
    return error


def _number(request: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = request.get(name, default)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        raise ValueError(f"{name} is {value!r}, expected a whole number from {least} to {most}")
    return number


def _share(request: Mapping[str, Any]) -> float:
    value = request.get("val_split", 0.2)
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share < 1:
        raise ValueError(f"val_split is {value!r}, expected the share of labels for validation, from 0 to below 1")
    return share
