"""One MLflow run around a session of the claims: trainings (an arm and a seed each) and tables are its children."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from octa_experiments import BUDGET, BUNDLE, TRACKING

from clinbundles.handlers import tracked_run


@pytest.fixture(scope="session", autouse=True)
def session_run(request: pytest.FixtureRequest) -> Iterator[None]:
    """FAILED when a claim's experiment has failed or the session was broken off."""
    uri, experiment = TRACKING["tracking_uri"], TRACKING["experiment_name"]
    with tracked_run("claims", BUNDLE, tracking_uri=uri, experiment=experiment, parameters=BUDGET) as run:
        yield
        if request.session.exitstatus == pytest.ExitCode.INTERRUPTED:
            run.fail("session was interrupted")
        elif request.session.testsfailed:
            run.fail(f"{request.session.testsfailed} experiments failed")
