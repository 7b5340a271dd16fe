"""Every bundle that can be trained works as a site; FLARE itself, the same for all bundles, is not started."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from monai.fl.client import MonaiAlgo
from monai.fl.utils.exchange_object import ExchangeObject
from toy_bundles import KINDS, make_toy_bundle, write_pairs

from clinbundles.hosts.federated.client import site_algorithm
from clinbundles.hosts.federated.federated_plan import make_plan
from clinbundles.hosts.federated.screened_aggregation import update_norm
from clinbundles.hosts.federated.shared_network import initial_network
from clinbundles.hosts.hosted_bundle import HostedBundle

SETTINGS = Path(__file__).resolve().parents[2] / "bundles"


def small_training(name, folder):
    """Overrides that make the training of a bundle small, with its data."""
    if name in KINDS:
        return {"dataset_dir": str(write_pairs(folder / "pairs", 10))}
    settings = yaml.safe_load((SETTINGS / name / "conformity.yaml").read_text(encoding="utf-8"))
    chosen = {
        key: str(SETTINGS / name / value) if value in settings["manifests"] else value
        for key, value in settings["train"].items()
    }
    return {**chosen, "dataset_dir": str(folder / "sets")}


@pytest.mark.host("Federated", "a site evaluates, trains and sends its update")
def test_a_site_evaluates_the_shared_model_and_sends_a_finite_update(hosted, tmp_path):
    if not hosted.has_config("train"):
        pytest.skip("does not apply: the bundle has no training")
    overrides = small_training(hosted.name, tmp_path)
    plan = make_plan(
        hosted, ("configs/train.yaml",), overrides, rounds=1, local_epochs=1, sites=2, output_dir=tmp_path / "out"
    )
    algorithm = site_algorithm(asdict(plan), "site-1")
    shared = initial_network(plan.bundle, plan.configs, {**plan.settings, **plan.initial}).state_dict()
    metrics = algorithm.evaluate(ExchangeObject(weights=dict(shared))).metrics
    assert plan.key_metric in metrics
    algorithm.train(ExchangeObject(weights=dict(shared)))
    update = {name: torch.as_tensor(value).numpy() for name, value in algorithm.get_weights().weights.items()}
    assert set(update) == set(shared)
    assert 0 < update_norm(update) < float("inf")
    assert (tmp_path / "out" / "sites" / "site-1" / "models" / "last.pt").is_file()


def test_modules_that_are_still_being_imported_do_not_stop_a_site(tmp_path, monkeypatch):
    """MONAI goes through sys.modules while FLARE's threads import."""
    bundle = HostedBundle(make_toy_bundle("toy_volume_labels", tmp_path))
    overrides = {"dataset_dir": str(write_pairs(tmp_path / "pairs", 10))}
    numbers = {"rounds": 1, "local_epochs": 1, "sites": 2, "output_dir": tmp_path / "out"}
    plan = make_plan(bundle, ("configs/train.yaml",), overrides, **numbers)
    errors = [RuntimeError("dictionary changed size during iteration")] * 2
    initialize = MonaiAlgo.initialize

    def with_errors(self, extra):
        if errors:
            raise errors.pop()
        initialize(self, extra)

    monkeypatch.setattr(MonaiAlgo, "initialize", with_errors)
    assert site_algorithm(asdict(plan), "site-1").train_workflow is not None
    errors.append(RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        site_algorithm(asdict(plan), "site-1")
