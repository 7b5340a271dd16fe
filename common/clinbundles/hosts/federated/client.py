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


def site_algorithm(job: Mapping[str, Any], site: str) -> MonaiAlgo:
    """MONAI's federated client of the job's bundle, with this site's data and folders."""
    settings = {**job["settings"], **(job["sites"].get(site) or settings_from_environment(site))}
    algorithm = MonaiAlgo(
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
