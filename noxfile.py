"""Everything a person does with the project, as commands: `nox -l` lists them, `nox -s NAME -- ARGUMENTS` runs one.

Sessions share environments: .nox/project for nearly all, .nox/label and .nox/deploy for MONAI Label and MONAI Deploy,
which need opposite major versions of pydicom. Each is made when it is first needed and brought up to date when
pyproject.toml changes; delete its folder to start afresh.
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
nox.options.sessions = ["lint", "tests", "label_tests", "deploy_tests", "conformity"]

ENVIRONMENTS = {  # environment -> extras of pyproject.toml
    "project": ("dev", "federated", "onnx"),
    "label": ("dev", "label"),
    "deploy": ("dev", "deploy"),
}


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """See a bundle at work on a simulated patient: demo [-- BUNDLE] [--input FOLDER] [--output FOLDER] ..."""
    names, rest = bundles_and_rest(session)
    python = environment_python(session, "project")
    if not (names or BUNDLES):
        session.error("bundles/ holds no bundle yet")
    for name in names or BUNDLES[:1]:
        with session.chdir(session.invoked_from):  # --input and --output count from where the user is
            run(session, python, "-m", f"{name}.demo", *rest)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests: tests [-- BUNDLE ...] [pytest arguments]"""
    names, rest = bundles_and_rest(session)
    python = environment_python(session, "project")
    if rest:
        run(session, python, "-m", "pytest", *selection(names), *rest)
    else:  # all of them: a process of tests for each core, since most tests keep one core busy at best
        together = ["--numprocesses", str(own_cores()), "--dist", "loadgroup"]
        run(session, python, "-m", "pytest", *together, *selection(names), threads=1)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style and types: lint [-- BUNDLE ...] (without names: the whole project)"""
    names, rest = bundles_and_rest(session)
    if rest:
        session.error(f"lint takes names of bundles, not {' '.join(rest)}")
    folders = [f"bundles/{name}" for name in names]
    python = environment_python(session, "project")
    run(session, python, "-m", "ruff", "check", *folders)
    run(session, python, "-m", "ruff", "format", "--check", *folders)
    run(session, python, "-m", "mypy", *folders)


@nox.session(venv_backend="none", default=False)
def claims(session: nox.Session) -> None:
    """Repeat the papers' claims, minutes to hours: claims [-- BUNDLE ...] [pytest arguments]"""
    names, rest = bundles_and_rest(session)
    run(session, environment_python(session, "project"), "-m", "pytest", "tests/claims", "-s", *selection(names), *rest)


@nox.session(venv_backend="none", default=False)
def benchmarks(session: nox.Session) -> None:
    """Measure speeds with pytest-benchmark: benchmarks [-- BUNDLE ...] [pytest arguments]"""
    names, rest = bundles_and_rest(session)
    run(session, environment_python(session, "project"), "-m", "pytest", "tests/benchmarks", *selection(names), *rest)


@nox.session(venv_backend="none", default=False)
def train(session: nox.Session) -> None:
    """Train a bundle, tracked by MLflow: train -- BUNDLE ... [--epochs 10 ...] (any id of its train.yaml)"""
    names, rest = bundles_and_rest(session)
    if not names:
        session.error(f"say which bundle: nox -s train -- NAME, with NAME of: {', '.join(BUNDLES)}")
    python = environment_python(session, "project")
    for name in names:
        folder = ROOT / "bundles" / name
        tracking = [] if "--tracking" in rest else ["--tracking", "mlflow"]
        config = str(folder / "configs" / "train.yaml")
        command = ["-m", "monai.bundle", "run", "--bundle_root", str(folder), "--config_file", config]
        with session.chdir(session.invoked_from):
            run(session, python, *command, *tracking, *rest)


@nox.session(venv_backend="none", default=False)
def label(session: nox.Session) -> None:
    """Start a MONAI Label server: label -- BUNDLE ... --studies FOLDER [--port 8000] ... (--help: all options)"""
    host(session, "label", "clinbundles.hosts.label")


@nox.session(venv_backend="none")
def label_tests(session: nox.Session) -> None:
    """Test the bundles in a real MONAI Label server: label_tests [-- BUNDLE ...] [pytest arguments]"""
    host_tests(session, "label")


@nox.session(venv_backend="none", default=False)
def deploy(session: nox.Session) -> None:
    """Run a bundle on DICOM with MONAI Deploy: deploy -- BUNDLE --input FOLDER --output FOLDER ... (--help)"""
    host(session, "deploy", "clinbundles.hosts.deploy")


@nox.session(venv_backend="none")
def deploy_tests(session: nox.Session) -> None:
    """Test the bundles in MONAI Deploy: deploy_tests [-- BUNDLE ...] [pytest arguments]"""
    host_tests(session, "deploy")


@nox.session(venv_backend="none", default=False)
def federated(session: nox.Session) -> None:
    """Train a bundle at several sites with NVIDIA FLARE's simulator: federated -- BUNDLE [--sites 2] ... (--help)"""
    host(session, "project", "clinbundles.hosts.federated")


@nox.session(venv_backend="none", default=False)
def package(session: nox.Session) -> None:
    """Write a bundle's zip for the Model Zoo's tools: package -- BUNDLE [--output dist] ... (--help)"""
    host(session, "project", "clinbundles.packaging")


@nox.session(venv_backend="none")
def conformity(session: nox.Session) -> None:
    """Print which bundle was proven in which host by the last tests"""
    run(session, environment_python(session, "project"), str(ROOT / "tests" / "integration" / "conformity_table.py"))


def host(session: nox.Session, environment: str, module: str) -> None:
    """Run a host's module from where the user is."""
    python = environment_python(session, environment)
    with session.chdir(session.invoked_from):
        run(session, python, "-m", module, *session.posargs)


def host_tests(session: nox.Session, name: str) -> None:
    """Run the tests of a host that needs an environment of its own."""
    names, rest = bundles_and_rest(session)
    python = environment_python(session, name)
    run(session, python, "-m", "pytest", f"tests/integration/{name}", *selection(names), *rest)


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


def run(session: nox.Session, *command: str, threads: int | None = None) -> None:
    """Run in the shared environment, without a display, with compiled kernels kept between sessions."""
    environment = {
        "PATH": os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")]),
        "VIRTUAL_ENV": str(Path(command[0]).parent.parent),
        "MPLBACKEND": os.environ.get("MPLBACKEND", "Agg"),
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(ROOT / ".nox" / "numba_cache")),
        # PyTorch counts the cores of the machine; a container may own fewer of them.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads or own_cores())),
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


def environment_python(session: nox.Session, name: str) -> str:
    """The Python of a shared environment, with the project and its extras installed in it."""
    environment = ROOT / ".nox" / name
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp = environment / "installed_from.txt"
    # The version is part of the metadata that an editable installation copies.
    sources = [ROOT / "pyproject.toml", ROOT / "common" / "clinbundles" / "__init__.py"]
    extras = ",".join(ENVIRONMENTS[name])
    state = b"".join(file.read_bytes() for file in sources) + f"{sys.version} {extras}".encode()
    digest = hashlib.sha256(state).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest and python.is_file():
        return str(python)
    session.log("Installing the project and its libraries; the first time this downloads PyTorch and takes minutes.")
    clear = [] if _made_by_this_python(environment) else ["--clear"]
    session.run_install(sys.executable, "-m", "venv", *clear, str(environment), external=True)
    # files are compiled when they are first imported: most never are
    command = ["-m", "pip", "install", "--no-compile", "--editable", f"{ROOT}[{extras}]"]
    session.run_install(str(python), *command, external=True)
    if python.is_file():
        stamp.write_text(digest)
    return str(python)


def _made_by_this_python(environment: Path) -> bool:
    settings = environment / "pyvenv.cfg"
    version = ".".join(map(str, sys.version_info[:3]))
    return settings.is_file() and f"version = {version}" in settings.read_text()
