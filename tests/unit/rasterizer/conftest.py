"""What the tests of meshes share."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

ARCHIVE = Path("cardiac_mesh", "bivme_patient1", "meshes_vtk_even_frames.tar.xz")


@pytest.fixture(scope="session")
def real_data(tmp_path_factory):
    """Folder of fitted surfaces of one real heart (biv-me, Apache-2.0)."""
    root = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    archive = Path(os.environ.get("CLINBUNDLES_REAL_DATA", root)) / ARCHIVE
    if not archive.is_file():
        pytest.skip(f"needs {ARCHIVE} in the folder that CLINBUNDLES_REAL_DATA names")
    folder = tmp_path_factory.mktemp("meshes")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return next(folder.rglob("patient1_LV_ENDOCARDIAL_000.vtk")).parent
