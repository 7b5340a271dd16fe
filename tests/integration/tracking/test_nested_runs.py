"""Runs inside a run: one parent for a session of claims, a child for each training and table."""

from __future__ import annotations

import threading

import pytest

from clinbundles.handlers import tracked_run

PARENT = "mlflow.parentRunId"


@pytest.mark.host("MLflow", "nested runs of claims")
def test_trainings_and_tables_inside_a_run_are_its_children(store, runs_of, train, tmp_path):
    where = {"tracking_uri": store, "experiment": "claims"}
    with tracked_run("claims", "a_bundle", **where, name="session") as session:
        train(tmp_path / "arm", "claims")
        with (
            tracked_run("claims", "a_bundle", **where, name="table") as table,
            tracked_run("claims", "a_bundle", **where, name="row") as row,
        ):
            pass
        with tracked_run("claims", "a_bundle", tracking_uri=store, experiment="another", name="elsewhere"):
            pass
    with tracked_run("claims", "a_bundle", **where, name="after"):
        pass
    _, training, *_, after = runs = runs_of("claims")
    parents = {run.info.run_id: run.data.tags.get(PARENT) for run in runs}
    assert parents[session.run_id] is None
    assert training.data.tags["clinbundles.kind"] == "train"
    assert parents[training.info.run_id] == parents[table.run_id] == session.run_id
    assert parents[row.run_id] == table.run_id
    assert parents[after.info.run_id] is None, "a closed run has no more children"
    assert PARENT not in runs_of("another")[0].data.tags, "MLflow shows children only in their parent's experiment"
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_run_of_another_thread_is_no_child(store, runs_of):
    where = {"tracking_uri": store, "experiment": "threads"}

    def work():
        with tracked_run("train", "a_bundle", **where, name="site"):
            pass

    with tracked_run("claims", "a_bundle", **where, name="outer"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert all(PARENT not in run.data.tags for run in runs_of("threads"))


def test_a_child_that_fails_fails_its_parent_only_if_nobody_catches_the_error(store, runs_of):
    where = {"tracking_uri": store, "experiment": "failures"}
    with (
        tracked_run("claims", "a_bundle", **where, name="goes on"),
        pytest.raises(ArithmeticError),
        tracked_run("train", "a_bundle", **where, name="broken arm"),
    ):
        raise ArithmeticError("diverged")
    with (
        pytest.raises(ArithmeticError),
        tracked_run("claims", "a_bundle", **where, name="ends"),
        tracked_run("train", "a_bundle", **where, name="broken arm"),
    ):
        raise ArithmeticError("diverged")
    assert [run.info.status for run in runs_of("failures")] == ["FINISHED", "FAILED", "FAILED", "FAILED"]
