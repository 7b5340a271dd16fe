"""A real MONAI Label server with every bundle and toy, on a folder of studies as a clinic has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from bundle_images import BUNDLES as ALL_BUNDLES
from bundle_images import ROOT
from label.label_server import LabelServer, studies_of
from make_dicom import OBLIQUE
from PIL import Image
from toy_bundles import KINDS as ALL_KINDS
from toy_bundles import blob, make_toy_bundle, write_volume

from clinbundles.hosts.hosted_bundle import HostedBundle

BUNDLES = [name for name in ALL_BUNDLES if HostedBundle(ROOT / "bundles" / name).dicom.study == "series"]
KINDS = [name for name in ALL_KINDS if name != "toy_exam"]


@pytest.fixture(scope="session")
def hosted(hosted: HostedBundle) -> HostedBundle:
    """Each bundle that viewers can be served: one image at a time."""
    if hosted.takes_exam:
        pytest.skip("does not apply: the bundle takes an exam of several images")
    if hosted.takes_raw_data:
        pytest.skip("does not apply: the bundle takes raw data, no images")
    return hosted


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes, a cine, pictures of the real bundles, and a damaged file."""
    folder = tmp_path_factory.mktemp("label") / "studies of a clinic"
    folder.mkdir()
    write_volume(folder / "oblique.nii.gz")
    for seed in range(4):
        write_volume(folder / f"V{seed}.nii.gz", (16, 16, 4), seed)
    cine = np.round(blob((12, 16, 4, 5), 7)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(cine, OBLIQUE), folder / "cine.nii.gz")
    whole = (folder / "oblique.nii.gz").read_bytes()
    (folder / "damaged.nii.gz").write_bytes(whole[: len(whole) // 2])
    simulated = tmp_path_factory.mktemp("simulated")
    for name in BUNDLES:
        studies_of(name, folder, simulated)
    picture = next(iter(folder.glob("retinal_octa_vessel_segmentation_1.*")))
    raster = np.asarray(Image.open(picture).convert("L"))
    pixel = np.diag([1.5 / raster.shape[1], 1.5 / raster.shape[0], 1.0, 1.0])
    directions = OBLIQUE / np.append(np.linalg.norm(OBLIQUE[:3, :3], axis=0), 1.0)
    turned = directions @ pixel
    nibabel.save(nibabel.Nifti1Image(raster.T.copy(), pixel), folder / "enface_2d.nii.gz")
    nibabel.save(nibabel.Nifti1Image(raster.T[..., None].copy(), turned), folder / "enface_3d.nii.gz")
    return folder


@pytest.fixture(scope="session")
def served_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of every real bundle, and the toys; name to folder."""
    folder = tmp_path_factory.mktemp("label bundles")
    left_out = shutil.ignore_patterns("__pycache__")
    real = {name: Path(shutil.copytree(ROOT / "bundles" / name, folder / name, ignore=left_out)) for name in BUNDLES}
    toys = {name: make_toy_bundle(name, folder) for name in KINDS}
    for name in ("toy_trained", "toy_trained_twice"):  # others are asked for what their shipped weights give
        toys[name] = Path(shutil.copytree(toys["toy_volume_labels"], folder / name))
    return real | toys


@pytest.fixture(scope="session")
def server(
    studies: Path, served_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelServer]:
    workspace = tmp_path_factory.mktemp("label workspace") / "of a clinic"
    started = LabelServer(list(served_bundles.values()), studies, workspace, ["--fov_mm", "1.5"]).start()
    yield started.ready()
    started.stop()
