"""Running the Deploy app in this process, and a series to run it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from deploy.app_run import Run
from make_dicom import OBLIQUE, series_from_nifti
from toy_bundles import write_volume

from clinbundles.hosts.deploy.command_line import main


@pytest.fixture
def app(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run the app in this process: app(bundle, input, *arguments). Captures what the SDK's own code prints, too."""

    def run(bundle: Path | str, source: Path, *arguments: str, output: Path | None = None) -> Run:
        folder = output or tmp_path / "results of the app"
        capfd.readouterr()
        code = main([str(bundle), "--input", str(source), "--output", str(folder), *arguments])
        out, err = capfd.readouterr()
        return Run(code, out, err, folder)

    return run


@pytest.fixture(scope="session")
def nifti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An oblique volume whose third axis runs against the order of DICOM slices."""
    return write_volume(tmp_path_factory.mktemp("nifti") / "oblique.nii.gz", affine=OBLIQUE)


@pytest.fixture(scope="session")
def series(nifti: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same volume as a DICOM series; do not write into this folder."""
    folder = tmp_path_factory.mktemp("pacs") / "study"
    series_from_nifti(folder, nifti)
    return folder
