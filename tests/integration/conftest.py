"""What the tests of the hosts share: toy bundles, every real bundle with an image of its own, and the table of hosts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from toy_bundles import KINDS, make_toy_bundle

from clinbundles.data import datalist
from clinbundles.hosts.hosted_bundle import HostedBundle

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(file.parent.parent.name for file in (ROOT / "bundles").glob("*/configs/metadata.json"))
TABLE_FOLDER = Path(os.environ.get("CLINBUNDLES_CONFORMITY", ROOT / ".nox" / "conformity"))

_outcomes: dict[tuple[str, str, str], str] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "host(name, what): counts in the conformity table for the bundle that the fixture `hosted` gives"
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    mark = item.get_closest_marker("host")
    if mark is None or not (report.when == "call" or report.outcome != "passed"):
        return
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    hosted = parameters.get("hosted") or getattr(item, "funcargs", {}).get("hosted")
    name = hosted if isinstance(hosted, str) else getattr(hosted, "name", "all bundles")
    key = (name, mark.args[0], mark.args[1])
    worst = ("passed", "skipped", "failed")
    _outcomes[key] = max(_outcomes.get(key, "passed"), report.outcome, key=worst.index)


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


def bundle_settings(name: str) -> dict:
    """The settings of tests/bundles/NAME/conformity.yaml, manifests with their folder."""
    folder = ROOT / "tests" / "bundles" / name
    settings = yaml.safe_load((folder / "conformity.yaml").read_text(encoding="utf-8"))
    for part in ("train", "inference_input"):
        for key, value in settings[part].items():
            if value in settings["manifests"]:
                settings[part][key] = str(folder / value)
    return settings


def bundle_images(name: str, folder: Path, simulated: Path) -> list[Path]:
    """Small simulated images for inference with a real bundle, copied into ``folder``."""
    chosen = bundle_settings(name)["inference_input"]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for case in datalist(chosen["manifest"], simulated, chosen["split"], progress=False):
        source = Path(case[chosen["key"]])
        paths.append(Path(shutil.copy(source, folder / f"case_{case['case']}{''.join(source.suffixes)}")))
    return paths
