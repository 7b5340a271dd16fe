"""What runs at a site: trains the bundle on the site's own images and sends the change of its weights, never images.

FLARE starts this file with `federated.json` of the job beside it; simulated sites and hospitals run the same. A
hospital says where its images are, and where its own files go, in two environment variables of its FLARE client:

    CLINBUNDLES_SITE_DATA     dataset_dir of the training; a manifest.yaml in it is used instead of the bundle's
    CLINBUNDLES_SITE_OUTPUT   folder for history.csv and the site's checkpoints
"""

from __future__ import annotations

import json
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nvflare.client as flare
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics
from monai.fl.utils.exchange_object import ExchangeObject

from clinbundles.hosts.federated.site_settings import settings_from_environment
from clinbundles.hosts.hosted_bundle import find_bundle

_TRIES = 5


class SiteAlgorithm(MonaiAlgo):
    """MONAI's federated client, for which what the sites share are the weights of ``network_def``.

    A config may train a larger module that contains it; MONAI would exchange the names and weights of that.
    """

    def train(self, data: ExchangeObject, extra: dict[str, Any] | None = None) -> None:
        """Train from shared weights."""
        super().train(self._in_trainer(data), extra)

    def evaluate(self, data: ExchangeObject, extra: dict[str, Any] | None = None) -> ExchangeObject:
        """Evaluate shared weights."""
        return super().evaluate(self._in_trainer(data), extra)

    def get_weights(self, extra: dict[str, Any] | None = None) -> ExchangeObject:
        """The weights, or their change, as the sites share them."""
        own = super().get_weights(extra)
        weights = (own.weights or {}).items()
        own.weights = {name.removeprefix(self._place): value for name, value in weights if name.startswith(self._place)}
        return own

    def _in_trainer(self, shared: ExchangeObject) -> ExchangeObject:
        weights = {self._place + name: value for name, value in (shared.weights or {}).items()}
        return ExchangeObject(weights=weights, statistics=shared.statistics)

    @property
    def _place(self) -> str:
        """What stands before the names of the shared weights in the trained module, such as "network."."""
        shared = self.train_workflow.parser.get_parsed_content("network_def")
        places = [name for name, module in self.trainer.network.named_modules() if module is shared]
        return f"{places[0]}." if places and places[0] else ""


def site_algorithm(job: Mapping[str, Any], site: str) -> MonaiAlgo:
    """MONAI's federated client of the job's bundle, with this site's data and folders."""
    settings = {**job["settings"], **(job["sites"].get(site) or settings_from_environment(site))}
    algorithm = SiteAlgorithm(
        bundle_root=str(find_bundle(job["bundle"]).root),
        local_epochs=job["local_epochs"],
        config_train_filename=list(job["configs"]),
        train_kwargs=dict(settings),
        config_evaluate_filename=list(job["configs"]),
        eval_kwargs=dict(settings),
    )
    for left in reversed(range(_TRIES)):
        try:
            algorithm.initialize({ExtraItems.CLIENT_NAME: site})
            break
        except RuntimeError as error:  # FLARE's threads still import modules while MONAI goes through them all
            if left == 0 or "changed size during iteration" not in str(error):
                raise
    return algorithm


def run_site(job_file: Path) -> None:
    """Train and evaluate as the server asks until it ends the run."""
    job = json.loads(job_file.read_text(encoding="utf-8"))
    flare.init()
    algorithm = site_algorithm(job, flare.get_site_name())
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        shared = {name: torch.as_tensor(value) for name, value in model.params.items()}
        metrics = _numbers(algorithm.evaluate(ExchangeObject(weights=shared)).metrics)
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics=metrics))
            continue
        algorithm.train(ExchangeObject(weights=shared))
        update = algorithm.get_weights()
        flare.send(
            flare.FLModel(
                params_type=flare.ParamsType.DIFF,
                params=dict(update.weights),
                metrics=metrics,
                meta={"NUM_STEPS_CURRENT_ROUND": update.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS]},
            )
        )
    algorithm.finalize()


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if isinstance(value, numbers.Real)}


if __name__ == "__main__":
    run_site(Path(__file__).with_name("federated.json"))
