"""Federated training in FLARE's simulator, as a user starts it; and with sites that are broken."""

import csv
import subprocess
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
import torch
from federations import environment, federation
from python_fork_server import SERVER
from toy_bundles import make_toy_bundle, write_pairs

from clinbundles.hosts.hosted_bundle import HostedBundle

ROUNDS = 3
LIMIT_S = 300


@dataclass
class Federation:
    """A finished command: its folder, exit code and output."""

    folder: Path
    code: int
    log: str

    def table(self, name):
        with (self.folder / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def weights(self):
        return torch.load(self.folder / "models" / "model.pt", weights_only=True)

    def dice(self, site="mean"):
        return [float(row["dice"]) for row in self.table("rounds.csv") if row["site"] == site]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A toy bundle, and the folders of four hospitals."""
    folder = tmp_path_factory.mktemp("hospitals")
    data = [write_pairs(folder / f"hospital {number}", 8, first_seed=20 * number) for number in range(1, 5)]
    return make_toy_bundle("toy_volume_labels", folder), data


def run(command, folder, broken=None):
    result = subprocess.run(
        [SERVER.python(), *map(str, command)],
        env=environment(broken),
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return Federation(folder, result.returncode, result.stdout + result.stderr)


@pytest.fixture(scope="module")
def two_sites(toy, tmp_path_factory):
    root, data = toy
    folder = tmp_path_factory.mktemp("two sites") / "out"
    words = [root, "--site_data", *data[:2], "--rounds", ROUNDS, "--local_epochs", 4, "--output_dir", folder]
    return run(["-m", "clinbundles.hosts.federated", *words, "--tracking", "mlflow"], folder)


@pytest.fixture(scope="module")
def broken_sites(toy, tmp_path_factory):
    """Four sites: one dies in round 2, one sends NaN, then 1000 times its update, then its negative."""
    folder = tmp_path_factory.mktemp("broken sites") / "out"
    broken = {"site-3": {"2": "die"}, "site-4": {"1": "nan", "2": "huge", "3": "flipped"}}
    return run(federation(*toy, folder, sites=4, min_sites=3, rounds=ROUNDS), folder, broken)


@pytest.mark.host("Federated", "two sites train one model")
def test_two_sites_train_one_model_that_fits_the_bundle(two_sites, toy):
    assert two_sites.code == 0, two_sites.log
    assert two_sites.dice()[-1] > 0.7 > two_sites.dice()[0], two_sites.log
    assert f"after {ROUNDS} rounds: dice" in two_sites.log
    assert "Research use only" in two_sites.log
    predictor = HostedBundle(toy[0]).predictor(weights=two_sites.folder / "models" / "model.pt")
    predictor.network.load_state_dict(two_sites.weights(), strict=True)


def test_every_round_has_a_row_for_every_site(two_sites):
    rows = [(int(row["round"]), row["site"]) for row in two_sites.table("rounds.csv")]
    assert rows == [(number, site) for number in range(ROUNDS + 1) for site in ("site-1", "site-2", "mean")]
    assert (two_sites.folder / "rounds.png").stat().st_size > 5000
    updates = two_sites.table("updates.csv")
    assert len(updates) == 2 * ROUNDS
    assert not any(row["refused"] for row in updates)


def test_each_site_keeps_its_own_history_and_checkpoints(two_sites):
    sites = [two_sites.folder / "sites" / name for name in ("site-1", "site-2")]
    for site in sites:
        assert sorted(path.name for path in (site / "models").iterdir()) == ["last.pt", "model.pt"]
        with (site / "history.csv").open(newline="") as file:
            assert [row["epoch"] for row in csv.DictReader(file)] == [str(epoch) for epoch in range(1, 13)]
    first, second = (torch.load(site / "models" / "last.pt", weights_only=True)["model"] for site in sites)
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_the_bundle_is_left_as_it_was(two_sites, toy):
    files = sorted(path.relative_to(toy[0]).as_posix() for path in toy[0].rglob("*") if path.is_file())
    assert files == sorted(
        ["configs/dicom.yaml", "configs/inference.yaml", "configs/metadata.json", "configs/train.yaml"]
        + ["models/model.pt", "pairs.yaml"]
    )


def test_the_whole_training_is_one_mlflow_run(two_sites):
    client = mlflow.MlflowClient(f"sqlite:///{two_sites.folder}/mlruns.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert [run.info.status for run in runs] == ["FINISHED"]
    steps = [metric.value for metric in client.get_metric_history(runs[0].info.run_id, "dice")]
    assert steps == pytest.approx(two_sites.dice())
    assert runs[0].data.params["sites"] == "2"


@pytest.mark.host("Federated", "four sites: one is killed, one sends broken weights")
def test_a_dead_and_a_poisoned_site_leave_a_finite_and_good_model(broken_sites):
    assert broken_sites.code == 0, broken_sites.log
    assert all(torch.isfinite(weight).all() for weight in broken_sites.weights().values())
    assert broken_sites.dice("site-1")[-1] > 0.7, broken_sites.log
    refused = {row["round"]: row["refused"] for row in broken_sites.table("updates.csv") if row["site"] == "site-4"}
    assert "not finite" in refused["1"]
    assert "more than 5 times" in refused["2"]
    assert "points against the other sites" in refused["3"]


def test_the_others_are_not_refused_for_it_and_the_dead_one_is_missed_from_then_on(broken_sites):
    rows = broken_sites.table("updates.csv")
    assert not any(row["refused"] for row in rows if row["site"] != "site-4")
    assert {row["round"] for row in rows if row["site"] == "site-3"} <= {"1"}
    assert {row["round"] for row in rows if row["site"] == "site-1"} >= {"2", "3"}


def test_when_every_site_is_needed_one_that_fails_ends_the_run_with_its_name(toy, tmp_path):
    folder = tmp_path / "out"
    ended = run(federation(*toy, folder, sites=2, min_sites=2, rounds=ROUNDS), folder, {"site-2": {"1": "raise"}})
    assert ended.code == 1, ended.log
    assert "Result from site-2 is bad" in ended.log
    assert str(folder / "flare" / "log.txt") in ended.log
    assert "RuntimeError: the disk is full" in ended.log
    assert not (folder / "models").exists()
