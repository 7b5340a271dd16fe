"""What all tests share: the real data, the choice of bundles by `--bundle NAME`, the table of bundles and hosts."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = {file.parent.parent.name for file in (ROOT / "bundles").glob("*/configs/metadata.json")}
TABLE_FOLDER = Path(os.environ.get("CLINBUNDLES_CONFORMITY", ROOT / ".nox" / "conformity"))

_outcomes: dict[tuple[str, str, str], str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bundle", action="append", default=[], metavar="NAME", help="leave out the tests of all other bundles"
    )


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for folder in ("claims", "benchmarks"):
            if item.path.is_relative_to(ROOT / "tests" / folder):
                item.add_marker(folder)
        if config.pluginmanager.hasplugin("xdist"):
            item.add_marker(pytest.mark.xdist_group(_group_of(item)))
    chosen = set(config.getoption("--bundle"))
    if not chosen:
        return
    unknown = chosen - BUNDLES
    if unknown:
        raise pytest.UsageError(f"no bundle {', '.join(sorted(unknown))}; bundles: {', '.join(sorted(BUNDLES))}")
    left_out = [item for item in items if _bundles_of(item) and not _bundles_of(item) & chosen]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def loggers_speak() -> None:
    """Undo what earlier tests' runs did to logging in this process.

    A bundle's logging.conf keeps its lines from the root logger, where pytest listens; MLflow's database disables
    loggers.
    """
    for name, logger in logging.root.manager.loggerDict.items():
        if name.split(".")[0] == "clinbundles" and isinstance(logger, logging.Logger):
            logger.disabled = False
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
            logger.handlers.clear()


def _group_of(item: pytest.Item) -> str:
    """Tests that share expensive fixtures run in one process: those of a file, of a host, of a bundle's conformity."""
    file = item.path
    if file.parent == ROOT / "tests" / "bundles" and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        return f"bundles/{item.callspec.params.get('bundle', file.name)}"
    together = list((ROOT / "tests" / "integration").iterdir())
    return (file.parent if file.parent in together else file).relative_to(ROOT / "tests").as_posix()


def _bundles_of(item: pytest.Item) -> set[str]:
    """Bundles that a test names in its path (a folder, or test_NAME.py) or among its parameters."""
    words = {*item.path.parts, item.path.stem.removeprefix("test_")}
    if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        words |= {getattr(value, "name", value) for value in item.callspec.params.values() if _is_name(value)}
    return words & BUNDLES


def _is_name(value: object) -> bool:
    return isinstance(value, str | Path)


# --- the table of bundles and hosts (nox -s conformity) ---


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "host(name, what): a row of the conformity table, for the bundle of the parameter `hosted` or `bundle`",
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    marks = list(item.iter_markers("host"))
    if marks and not any(name == "conformity" for name, _ in item.user_properties):
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        hosted = parameters.get("hosted") or parameters.get("bundle") or getattr(item, "funcargs", {}).get("hosted")
        name = hosted if isinstance(hosted, str) else getattr(hosted, "name", "any bundle")
        item.user_properties += [("conformity", [name, *mark.args]) for mark in marks]
    yield


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the process that prints, where tests run in several."""
    applies = not (report.skipped and "does not apply" in str(report.longrepr))
    if not applies or (report.when != "call" and report.passed):
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


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the small real data sets; tests that ask for it are skipped where it is not."""
    folder = Path(os.environ.get("CLINBUNDLES_REAL_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data are not here ({folder}): set CLINBUNDLES_REAL_DATA to their folder")
    return folder
