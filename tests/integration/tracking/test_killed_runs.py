"""A process that is killed outright cannot say so: whoever opens the next run does."""

from __future__ import annotations

import signal
import subprocess
import sys

import mlflow
import pytest

from clinbundles.handlers import tracked_run

PROGRAM = """
import sys, time
from clinbundles.handlers import tracked_run
with tracked_run("train", "a_bundle", tracking_uri=sys.argv[1], experiment="killed", name=sys.argv[2]):
    print("ready", flush=True)
    time.sleep(300)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell when a process started")
@pytest.mark.host("MLflow", "a killed run is marked as failed and not continued")
def test_next_run_marks_a_killed_run_as_failed_and_leaves_living_ones_alone(store, runs_of):
    client = mlflow.MlflowClient(store)
    number = client.create_experiment("killed")
    foreign = client.create_run(number, run_name="of another machine", tags={"clinbundles.machine": "0"})
    processes = {
        name: subprocess.Popen([sys.executable, "-c", PROGRAM, store, name], stdout=subprocess.PIPE, text=True)
        for name in ("killed", "living")
    }
    try:
        for process in processes.values():
            assert process.stdout.readline().strip() == "ready"
        processes["killed"].send_signal(signal.SIGKILL)
        processes["killed"].wait(timeout=60)
        status = {run.info.run_name: run.info.status for run in runs_of("killed")}
        assert status["killed"] == "RUNNING", "nobody was left to close it"

        where = {"tracking_uri": store, "experiment": "killed"}
        with tracked_run("train", "a_bundle", **where, name="next", parameters={"seed": 1}) as following:
            pass
        runs = {run.info.run_name: run for run in runs_of("killed")}
    finally:
        processes["living"].terminate()
        processes["living"].wait(timeout=60)
    assert runs["killed"].info.status == "FAILED"
    assert "process was killed" in runs["killed"].data.tags["clinbundles.end"]
    assert runs["living"].info.status == "RUNNING"
    assert client.get_run(foreign.info.run_id).info.status == "RUNNING", "its process cannot be seen from here"
    assert runs["next"].info.run_id == following.run_id != runs["killed"].info.run_id
    assert "seed" not in runs["killed"].data.params, "it was continued"
    assert {run.info.run_name: run.info.status for run in runs_of("killed")}["living"] == "FAILED", "SIGTERM"
