"""One simulated exam for all tests of the bundle, loaded as inference and training load it."""

from __future__ import annotations

import pytest
from exact_heart_case import exam

from cardiac_mri_mesh_motion.results.pipeline import preprocessing


@pytest.fixture(scope="session")
def case(tmp_path_factory):
    return exam(tmp_path_factory.mktemp("exam"))


@pytest.fixture(scope="session")
def sample(case):
    """With labels."""
    return preprocessing(labels=True)(dict(case))
