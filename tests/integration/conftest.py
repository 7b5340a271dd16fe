"""What the tests of the hosts share: the real bundles and the toy bundles."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_images import BUNDLES, ROOT
from toy_bundles import KINDS, make_toy_bundle

from clinbundles.hosts.hosted_bundle import HostedBundle


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
