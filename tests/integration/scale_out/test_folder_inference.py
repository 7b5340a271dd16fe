"""One folder of studies for several processes: each study once, one summary, nobody waits for the dead.

The overlay is that of a real bundle, laid over a toy's inference: it must fit any.
"""

import csv
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from torchrun import LIMIT_S, ONE_NODE, OVERLAYS, end, process_of_rank, start, toy_with_log
from toy_bundles import write_volume

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")

OVERLAY = OVERLAYS / "multi_gpu_inference.yaml"
SLEEPING_PROCESS_1 = """
+imports: [$import time, $import torch.distributed as dist]
device: "$(time.sleep(600) if dist.get_rank() == 1 else None) or torch.device('cpu')"
"""
TRACKED = """
run_record:
  {_target_: clinbundles.handlers.RunRecord, kind: inference, bundle: toy, version: "1", output_dir: "@output_dir"}
+handlers: [{_target_: clinbundles.handlers.RunRecorder, record: "@run_record"}]
"""


@dataclass
class Runs:
    """A run in two processes, of which the second is killed when the first is done, and the same command again."""

    results: Path
    first_log: str
    first_code: int
    seconds_after_kill: float
    first_records: dict[str, int]
    table_after_kill: bool
    second_log: str
    second_code: int


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inference")
    configs = [toy_with_log(folder) / "inference.yaml", OVERLAY, folder / "tracked.yaml"]
    (folder / "tracked.yaml").write_text(TRACKED)
    for number in range(6):
        write_volume(folder / "images" / f"P{number}.nii.gz", (8, 8, 4), number)
    (folder / "images" / "P1.nii.gz").write_bytes(b"no image")
    (folder / "sleeping.yaml").write_text(SLEEPING_PROCESS_1)
    results = folder / "results"
    command = {"dataset_dir": folder / "images", "output_dir": results, "tracking": "mlflow"}

    first = start(folder, ONE_NODE, [*configs, folder / "sleeping.yaml"], sys.executable, **command)
    stop = time.time() + LIMIT_S
    while len(records(results)) < 3 and time.time() < stop and first.poll() is None:
        time.sleep(0.2)  # process 0 does its share and waits for the other
    done = records(results)
    os.kill(process_of_rank(first, 1), signal.SIGKILL)
    killed_at = time.time()
    log = end(first)
    seconds, table_there = time.time() - killed_at, (results / "results.csv").exists()
    second = start(folder, ONE_NODE, configs, **command)
    second_log = end(second)
    return Runs(results, log, first.returncode, seconds, done, table_there, second_log, second.returncode)


def records(results):
    return {path.name.removesuffix("_done.json"): path.stat().st_mtime_ns for path in results.rglob("*_done.json")}


def column(path, name):
    with path.open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_a_killed_process_stops_the_others_instead_of_leaving_them_waiting(runs):
    assert set(runs.first_records) == {"P0", "P2", "P4"}, f"process 0 has every second study: {runs.first_log}"
    assert runs.first_code == 1, runs.first_log
    assert runs.seconds_after_kill < 60
    assert not runs.table_after_kill


@pytest.mark.host("torchrun", "a killed process stops the others; started again, each study is done once")
def test_started_again_each_missing_study_is_done_once(runs):
    assert "3 of 3 studies are finished already" in runs.second_log
    now = records(runs.results)
    assert set(now) == {"P0", "P2", "P3", "P4", "P5"}, runs.second_log
    assert {study: now[study] for study in runs.first_records} == runs.first_records, "a study was done twice"
    assert len(list(runs.results.rglob("*labels.nii.gz"))) == 5
    assert not list(runs.results.rglob(".unfinished_*"))


def test_there_is_one_table_one_list_of_failures_and_one_summary(runs):
    assert column(runs.results / "results.csv", "study") == ["P0", "P2", "P3", "P4", "P5"]
    assert column(runs.results / "failures.csv", "study") == ["P1"]
    assert runs.second_log.count("5 of 6 studies have results") == 1, runs.second_log
    assert runs.second_log.count("1 studies failed, all listed in") == 1, runs.second_log


def test_torchrun_ends_with_1_and_names_exit_code_3(runs):
    assert runs.second_code == 1, runs.second_log
    assert "exitcode  : 3" in runs.second_log, runs.second_log


def test_two_processes_make_one_mlflow_run_and_the_killed_one_has_failed(runs):
    client = mlflow.MlflowClient(f"sqlite:///{runs.results}/mlruns.db")
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    states = sorted((run.info.status, run.data.metrics.get("failed_studies")) for run in found)
    assert states == [("FAILED", None), ("FINISHED", 1.0)], states
