"""What all tests share: the real data, and the choice of bundles by `--bundle NAME`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = {file.parent.parent.name for file in (ROOT / "bundles").glob("*/configs/metadata.json")}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bundle", action="append", default=[], metavar="NAME", help="leave out the tests of all other bundles"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for folder in ("claims", "benchmarks"):
            if item.path.is_relative_to(ROOT / "tests" / folder):
                item.add_marker(folder)
        item.add_marker(pytest.mark.xdist_group(_group_of(item.path)))
    chosen = set(config.getoption("--bundle"))
    if not chosen:
        return
    unknown = chosen - BUNDLES
    if unknown:
        raise pytest.UsageError(f"no bundle {', '.join(sorted(unknown))}; bundles: {', '.join(sorted(BUNDLES))}")
    left_out = [item for item in items if _bundles_of(item) and not _bundles_of(item) & chosen]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _group_of(file: Path) -> str:
    """Tests that share expensive fixtures run in one process: those of a file, of a host, of the conformity suite."""
    together = [ROOT / "tests" / "bundles", *(ROOT / "tests" / "integration").iterdir()]
    return str(file.parent if file.parent in together else file)


def _bundles_of(item: pytest.Item) -> set[str]:
    """Bundles that a test names in its path (a folder, or test_NAME.py) or among its parameters."""
    words = {*item.path.parts, item.path.stem.removeprefix("test_")}
    if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        words |= {getattr(value, "name", value) for value in item.callspec.params.values() if _is_name(value)}
    return words & BUNDLES


def _is_name(value: object) -> bool:
    return isinstance(value, str | Path)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the small real data sets; tests that ask for it are skipped where it is not."""
    folder = Path(os.environ.get("CLINBUNDLES_REAL_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data are not here ({folder}): set CLINBUNDLES_REAL_DATA to their folder")
    return folder
