"""An environment that has only this project's wheel and what the wheel requires, without downloading it once more."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections import Counter
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def make_fresh_environment(project: Path, folder: Path) -> Path:
    """Build the wheel of a project and put it, alone, into a new virtual environment; gives its Python.

    To install PyTorch and a hundred others again would take minutes. They are linked instead: exactly the files of
    those distributions that the wheel's metadata require, so that one that is not declared is missing here.
    """
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(folder), str(project)], check=True, timeout=240)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=60)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)  # what pip does with a wheel that has no scripts
    link_distributions(required_by(next(site.glob("clinbundles-*.dist-info"))), site)
    return environment / "bin" / "python"


def required_by(info: Path) -> list[importlib.metadata.Distribution]:
    """The installed distributions that one requires, directly or through others."""
    waiting, found = [importlib.metadata.Distribution.at(info)], {}
    while waiting:
        for text in waiting.pop().requires or []:
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            found[name] = importlib.metadata.distribution(name)
            waiting.append(found[name])
    return list(found.values())


def link_distributions(chosen: list[importlib.metadata.Distribution], site: Path) -> None:
    """Link the files of distributions: a folder as a whole unless other distributions have files in it, too."""
    owners = Counter(
        top for dist in importlib.metadata.distributions() for top in {file.parts[0] for file in dist.files or []}
    )
    for dist in chosen:
        for file in dist.files or []:
            top = file.parts[0]
            path = Path(top) if owners[top] == 1 else Path(file)
            link, source = site / path, Path(str(dist.locate_file(path)))
            if top == ".." or link.exists() or not source.exists():
                continue
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)


def run_python(python: Path | str, *words: str, folder: Path) -> subprocess.Popen[str]:
    """Start a Python in a folder, without the variables that change where modules are found."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW"))}
    environment |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(python), *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def output_of(process: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for the end, which must be this exit code."""
    text, _ = process.communicate(timeout=280)
    assert process.returncode == code, text[-3000:]
    return text
