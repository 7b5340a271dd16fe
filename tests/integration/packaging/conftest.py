"""The package of every bundle, and a Python that has only the project's wheel and what the wheel requires."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_images import BUNDLES
from fresh_environment import make_fresh_environment
from toy_bundles import KINDS, make_toy_bundle

from clinbundles.hosts.hosted_bundle import HostedBundle
from clinbundles.packaging.bundle_package import Package, package_bundle

ROOT = Path(__file__).resolve().parents[3]
"""Folder of the project."""


def complete(bundle: HostedBundle, folder: Path) -> HostedBundle:
    """A toy with the documents that the Model Zoo wants; a real bundle as it is."""
    if bundle.name in BUNDLES:
        return bundle
    root = folder / bundle.name
    shutil.copytree(bundle.root, root)
    shutil.copy(ROOT / "LICENSE", root)
    (root / "docs").mkdir()
    (root / "docs" / "README.md").write_text("# A toy\n\nFor tests only.\n", encoding="utf-8")
    return HostedBundle(root)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[HostedBundle], Package]:
    """Packs each bundle once."""
    made: dict[str, Package] = {}

    def package(bundle: HostedBundle) -> Package:
        if bundle.name not in made:
            folder = tmp_path_factory.mktemp("packages")
            made[bundle.name] = package_bundle(complete(bundle, folder), folder / "dist")
        return made[bundle.name]

    return package


@pytest.fixture(scope="session")
def unpacked(
    packages: Callable[[HostedBundle], Package], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[HostedBundle], Path]:
    """Unpacks the package of a bundle once; gives the bundle's folder, which tests only read."""
    folder = tmp_path_factory.mktemp("unpacked packages")

    def unpack(bundle: HostedBundle) -> Path:
        if not (folder / bundle.name).is_dir():
            with zipfile.ZipFile(packages(bundle).path) as archive:
                archive.extractall(folder)
        return folder / bundle.name

    return unpack


@pytest.fixture(scope="session")
def all_bundles(tmp_path_factory: pytest.TempPathFactory) -> list[HostedBundle]:
    """The bundles that `hosted` gives one by one."""
    folder = tmp_path_factory.mktemp("all toys")
    return [HostedBundle(make_toy_bundle(name, folder)) for name in KINDS] + [
        HostedBundle(ROOT / "bundles" / name) for name in BUNDLES
    ]


@pytest.fixture(scope="session")
def fresh_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with this project's wheel and what it requires."""
    return make_fresh_environment(ROOT, tmp_path_factory.mktemp("fresh"))
