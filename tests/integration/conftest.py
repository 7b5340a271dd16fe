"""What the tests of the hosts share: every real bundle, the toy bundles, and the table of hosts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundle_images import BUNDLES, ROOT
from toy_bundles import KINDS, make_toy_bundle

from clinbundles.hosts.hosted_bundle import HostedBundle

TABLE_FOLDER = Path(os.environ.get("CLINBUNDLES_CONFORMITY", ROOT / ".nox" / "conformity"))

_outcomes: dict[tuple[str, str, str], str] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "host(name, what): counts in the conformity table for the bundle that the fixture `hosted` gives"
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    mark = item.get_closest_marker("host")
    if mark is not None and not any(name == "conformity" for name, _ in item.user_properties):
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        hosted = parameters.get("hosted") or getattr(item, "funcargs", {}).get("hosted")
        name = hosted if isinstance(hosted, str) else getattr(hosted, "name", "all bundles")
        item.user_properties.append(("conformity", [name, *mark.args]))
    yield


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the process that prints, where tests run in several."""
    if report.when != "call" and report.outcome == "passed":
        return
    for name, key in report.user_properties:
        if name == "conformity":
            worst = ("passed", "skipped", "failed")
            _outcomes[tuple(key)] = max(_outcomes.get(tuple(key), "passed"), report.outcome, key=worst.index)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _outcomes:
        return
    hosts = sorted({host for _, host, _ in _outcomes})
    TABLE_FOLDER.mkdir(parents=True, exist_ok=True)
    for host in hosts:
        rows = {f"{name}: {what}": end for (name, at, what), end in sorted(_outcomes.items()) if at == host}
        terminalreporter.section(f"conformity: {host}")
        for row, end in rows.items():
            terminalreporter.write_line(f"{end:8} {row}")
        content = [[name, what, end] for (name, at, what), end in sorted(_outcomes.items()) if at == host]
        (TABLE_FOLDER / f"{host.replace(' ', '_')}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


@pytest.fixture
def toy_bundle(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Make a toy bundle by its name; gives its folder."""
    return lambda name: make_toy_bundle(name, tmp_path / "toy bundles")


@pytest.fixture(scope="session", params=[*BUNDLES, *KINDS])
def hosted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HostedBundle:
    """Each bundle of the project, then each toy: what every host must be able to serve."""
    if request.param in BUNDLES:
        return HostedBundle(ROOT / "bundles" / request.param)
    return HostedBundle(make_toy_bundle(request.param, tmp_path_factory.mktemp("toys")))
