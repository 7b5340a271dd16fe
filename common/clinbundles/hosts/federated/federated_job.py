"""The FLARE job of a bundle: what the server does, and what it sends to the sites."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nvflare.app_common.executors.client_api_executor import ClientAPIExecutor, ExecutionMode
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from nvflare.app_common.workflows.cross_site_model_eval import CrossSiteModelEval
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather
from nvflare.app_opt.pt.job_config.model import PTModel
from nvflare.client.config import ExchangeFormat
from nvflare.job_config.base_fed_job import BaseFedJob

from clinbundles.hosts.federated import client
from clinbundles.hosts.federated.screened_aggregation import ScreenedAggregator

JOB_FILE = "federated.json"
ALL_SITES = "@ALL"


@dataclass(frozen=True)
class FederatedPlan:
    """A federated training of one bundle.

    Args:
        bundle: name or folder of the bundle.
        configs: its training configs, relative to its root.
        rounds: times that the shared model goes out and comes back.
        local_epochs: epochs of a site in each round.
        key_metric: metric that says which model is better.
        settings: config ids for every site.
        initial: config ids that only the first network needs, such as `ckpt`.
        sites: config ids of single sites; empty in a job for hospitals, which take theirs from the environment.
        min_sites: sites that must deliver in every round; a site that fails beyond that is left out.
        wait_s: seconds to wait for further sites once `min_sites` have delivered.
        round_limit_s: longest time of a round in seconds; 0: none.
        largest_update: see `ScreenedAggregator`; 0 averages whatever is sent.
    """

    bundle: str
    configs: tuple[str, ...]
    rounds: int
    local_epochs: int
    key_metric: str
    min_sites: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    initial: Mapping[str, Any] = field(default_factory=dict)
    sites: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    wait_s: int = 600
    round_limit_s: int = 0
    largest_update: float = 5.0


def make_job(plan: FederatedPlan, name: str, folder: Path, client_script: Path = Path(client.__file__)) -> BaseFedJob:
    """The FLARE job of a plan.

    Args:
        plan: what to do.
        name: name of the job.
        folder: where the file with the plan is written before FLARE copies it into the job.
        client_script: what the sites run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan_file = folder / JOB_FILE
    plan_file.write_text(json.dumps(asdict(plan), indent=1), encoding="utf-8")
    job = BaseFedJob(name=name, min_clients=plan.min_sites, key_metric=plan.key_metric)
    job.set_app_packages(["clinbundles"])  # is installed at every site, not sent along
    network = {
        "path": "clinbundles.hosts.federated.shared_network.initial_network",
        "args": {
            "bundle": plan.bundle,
            "configs": list(plan.configs),
            "settings": {**plan.settings, **plan.initial},
        },
    }
    ids = job.to_server(PTModel(network))
    job.to_server(FullModelShareableGenerator(), id="shareable_generator")
    job.to_server(ScreenedAggregator(plan.largest_update), id="aggregator")
    job.to_server(
        ScatterAndGather(
            min_clients=plan.min_sites,
            num_rounds=plan.rounds,
            wait_time_after_min_received=plan.wait_s,
            aggregator_id="aggregator",
            shareable_generator_id="shareable_generator",
            persistor_id=ids["persistor_id"],
            train_timeout=plan.round_limit_s,
            snapshot_every_n_rounds=0,
        )
    )
    job.to_server(
        CrossSiteModelEval(
            model_locator_id=ids["locator_id"],
            submit_model_task_name="",  # the shared models are compared, not the sites' own
            validation_timeout=plan.wait_s,
        )
    )
    job.to_clients(  # not FLARE's ScriptRunner: that writes the absolute path of this machine into the job
        ClientAPIExecutor(
            ExecutionMode.IN_PROCESS,
            task_script_path=client_script.name,
            params_exchange_format=ExchangeFormat.PYTORCH,
        ),
        tasks=["*"],
    )
    for file in (client_script, plan_file):
        job.add_file_to(str(file), ALL_SITES)
    return job
