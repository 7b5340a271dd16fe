"""Everything a person does with the project, as commands: `nox -l` lists them, `nox -s NAME -- ARGUMENTS` runs one.

All sessions share one environment in .nox/project, so that only the first of them downloads PyTorch. It is brought
up to date when pyproject.toml changes; delete the folder to start afresh.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
BUNDLES = sorted(file.parent.parent.name for file in (ROOT / "bundles").glob("*/configs/metadata.json"))

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "tests"]


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """See a bundle at work on a simulated patient: demo [-- BUNDLE] [--input FOLDER] [--output FOLDER] ..."""
    names, rest = bundles_and_rest(session)
    python = project_python(session)
    if not (names or BUNDLES):
        session.error("bundles/ holds no bundle yet")
    for name in names or BUNDLES[:1]:
        with session.chdir(session.invoked_from):  # --input and --output count from where the user is
            run(session, python, "-m", f"{name}.demo", *rest)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests: tests [-- BUNDLE ...] [pytest arguments]"""
    names, rest = bundles_and_rest(session)
    run(session, project_python(session), "-m", "pytest", *selection(names), *rest)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style and types: lint [-- BUNDLE ...] (without names: the whole project)"""
    names, rest = bundles_and_rest(session)
    if rest:
        session.error(f"lint takes names of bundles, not {' '.join(rest)}")
    folders = [f"bundles/{name}" for name in names]
    python = project_python(session)
    run(session, python, "-m", "ruff", "check", *folders)
    run(session, python, "-m", "ruff", "format", "--check", *folders)
    run(session, python, "-m", "mypy", *folders)


@nox.session(venv_backend="none", default=False)
def claims(session: nox.Session) -> None:
    """Repeat the papers' claims, minutes to hours: claims [-- BUNDLE ...] [pytest arguments]"""
    names, rest = bundles_and_rest(session)
    run(session, project_python(session), "-m", "pytest", "tests/claims", "-s", *selection(names), *rest)


@nox.session(venv_backend="none", default=False)
def benchmarks(session: nox.Session) -> None:
    """Measure speeds with pytest-benchmark: benchmarks [-- BUNDLE ...] [pytest arguments]"""
    names, rest = bundles_and_rest(session)
    run(session, project_python(session), "-m", "pytest", "tests/benchmarks", *selection(names), *rest)


@nox.session(venv_backend="none", default=False)
def train(session: nox.Session) -> None:
    """Train a bundle, tracked by MLflow: train -- BUNDLE ... [--epochs 10 ...] (any id of its train.yaml)"""
    names, rest = bundles_and_rest(session)
    if not names:
        session.error(f"say which bundle: nox -s train -- NAME, with NAME of: {', '.join(BUNDLES)}")
    python = project_python(session)
    for name in names:
        folder = ROOT / "bundles" / name
        tracking = [] if "--tracking" in rest else ["--tracking", "mlflow"]
        config = str(folder / "configs" / "train.yaml")
        command = ["-m", "monai.bundle", "run", "--bundle_root", str(folder), "--config_file", config]
        with session.chdir(session.invoked_from):
            run(session, python, *command, *tracking, *rest)


def bundles_and_rest(session: nox.Session) -> tuple[list[str], list[str]]:
    """The leading arguments that name bundles, and all arguments after them."""
    arguments = list(session.posargs)
    names: list[str] = []
    while arguments and arguments[0] in BUNDLES:
        names.append(arguments.pop(0))
    # A leading bare word that is no file, option or `path::test` can only be a misspelt bundle.
    if arguments and arguments[0].isidentifier() and not (ROOT / arguments[0]).exists():
        close = difflib.get_close_matches(arguments[0], BUNDLES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        session.error(f"there is no bundle {arguments[0]!r}; {hint}bundles: {', '.join(BUNDLES) or 'none yet'}")
    return names, arguments


def selection(names: list[str]) -> list[str]:
    """Options that keep the tests of these bundles and of the shared package (see tests/conftest.py)."""
    return [f"--bundle={name}" for name in names]


def run(session: nox.Session, *command: str) -> None:
    """Run in the shared environment, without a display, with compiled kernels kept between sessions."""
    environment = {
        "PATH": os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")]),
        "VIRTUAL_ENV": str(Path(command[0]).parent.parent),
        "MPLBACKEND": os.environ.get("MPLBACKEND", "Agg"),
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(ROOT / ".nox" / "numba_cache")),
        # PyTorch counts the cores of the machine; a container may own fewer of them.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(own_cores())),
        "PYTHONUNBUFFERED": "1",
    }
    session.run(*command, env=environment, external=True)


def own_cores() -> int:
    """Number of CPU cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000" is two cores' worth of time
    if quota.is_file():
        share, period = quota.read_text().split()
        if share != "max":
            cores = min(cores, max(1, round(int(share) / int(period))))
    return cores


def project_python(session: nox.Session) -> str:
    """The Python of the shared environment, with the project and its `dev` extra installed in it."""
    environment = ROOT / ".nox" / "project"
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp = environment / "installed_from.txt"
    # The version is part of the metadata that an editable installation copies.
    sources = [ROOT / "pyproject.toml", ROOT / "common" / "clinbundles" / "__init__.py"]
    state = hashlib.sha256(b"".join(file.read_bytes() for file in sources) + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == state and python.is_file():
        return str(python)
    session.log("Installing the project and its libraries; the first time this downloads PyTorch and takes minutes.")
    clear = [] if _made_by_this_python(environment) else ["--clear"]
    session.run_install(sys.executable, "-m", "venv", *clear, str(environment), external=True)
    session.run_install(str(python), "-m", "pip", "install", "--editable", f"{ROOT}[dev]", external=True)
    if python.is_file():
        stamp.write_text(state)
    return str(python)


def _made_by_this_python(environment: Path) -> bool:
    settings = environment / "pyvenv.cfg"
    version = ".".join(map(str, sys.version_info[:3]))
    return settings.is_file() and f"version = {version}" in settings.read_text()
