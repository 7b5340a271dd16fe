"""The motion-compensated reconstruction of real cines, which no network has seen: six slices of two patients.

Their k-space is made up from magnitudes that scanners had reconstructed, filtered and interpolated already, which is in
part an inverse crime (``real_cine_kspace`` says what is real and what is not): figures compare methods, they promise
nothing about a scanner. The scanner's own noise in these magnitudes is part of the reference; no method can guess it.

Settings of the methods without motion are the best on simulated validation cines (``cine_reconstruction_claims``), as
the weights come from simulated cines alone. "View sharing, best here" may choose its width for each slice by the
reference itself: no tuning can do better. Scores are of magnitudes in the heart's region, after one scalar per cine.

``CLINBUNDLES_CLAIMS_WEIGHTS`` names other weights than the bundle's. Reconstructions are kept in
``CLINBUNDLES_CLAIMS_OUTPUT``; those of the network under a checksum of its weights. Delete them after a change of code.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from cine_reconstruction_baselines import BASELINES, roi_psnr
from cine_reconstruction_claims import SETTINGS, TUNING_CINES, tuning
from cine_strips import BUNDLE, COILS
from claim_tables import OUTPUT, REPOSITORY, ClaimTables, markdown
from framewise_encoding import adjoint_images, encoding_of
from real_cine_figure import comparison_figure
from real_cine_kspace import PIXEL_MM, SLICES, SNR, RealSlice, read_cine, undersampled, write_case

from cardiac_mri_mcmr_reconstruction.networks import GroupwiseMotionNet
from cardiac_mri_mcmr_reconstruction.refined_motion import RefinedMotion
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import Iterate, reconstruct
from clinbundles.data.atomic_file import atomic_path
from clinbundles.mcmr.reconstruction_metrics import reconstruction_scores

pytestmark = pytest.mark.claims

RATES = (8, 12, 16)
WEIGHTS = Path(os.environ.get("CLINBUNDLES_CLAIMS_WEIGHTS", REPOSITORY / "bundles" / BUNDLE / "models" / "model.pt"))
FOLDER = OUTPUT / BUNDLE / "real_cine"
OURS, OURS_ONCE, NETWORK, INSTANCE = "ours", "ours, K = 1", "network", "instance-optimised"
SHARED, SHARED_BEST = "view sharing", "view sharing, best here"
METHODS = ("CG-SENSE", SHARED, SHARED_BEST, "temporal TV", NETWORK, INSTANCE, OURS, OURS_ONCE)
OF_WEIGHTS = (OURS, OURS_ONCE, NETWORK)
METRICS = {"psnr": "PSNR dB", "ssim": "SSIM", "hfen": "HFEN", "xt_nrmse": "x-t NRMSE"}
SHOWN = SLICES[1]
TABLES = ClaimTables(
    {
        "slices": f"{len(SLICES)} of two patients",
        "coils": f"{COILS} simulated",
        "snr": SNR,
        "pixel_mm": PIXEL_MM,
        "tuning_cines": TUNING_CINES,
        "objects": "magnitudes that scanners had reconstructed, filtered and interpolated (in part an inverse crime)",
    }
)


@pytest.fixture(scope="module", autouse=True, params=[BUNDLE])  # names the bundle to the choice by --bundle
def sources(real_data: Path) -> Path:
    """The folder of the real data."""
    if not all((real_data / "cardiac_cine" / one.archive).is_file() for one in SLICES):
        pytest.skip("the real cines are not among the real data")
    if not WEIGHTS.is_file():
        pytest.skip(f"no weights of the network: expected {WEIGHTS.name} in the bundle or CLINBUNDLES_CLAIMS_WEIGHTS")
    return real_data


def folder_of(one: RealSlice) -> Path:
    return FOLDER / one.name.replace(" ", "_")


@functools.cache
def case_of(one: RealSlice, real_data: Path) -> dict[str, Any]:
    """The slice as a case with fully sampled k-space."""
    folder = folder_of(one)
    folder.mkdir(parents=True, exist_ok=True)
    return write_case(one, read_cine(one, real_data, FOLDER / "dicom"), folder)


@functools.lru_cache(maxsize=1)
def data_of(one: RealSlice, real_data: Path, rate: int) -> dict[str, Any]:
    return undersampled(case_of(one, real_data), float(rate))


def images(one: RealSlice, real_data: Path, rate: int, method: str) -> torch.Tensor:
    """Magnitudes (T, X, Y) in the heart's region; "reference" is one of the methods."""
    version = f"_{hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:8]}" if method in OF_WEIGHTS else ""
    name = "_".join(re.findall(r"[\w-]+", method))
    file = folder_of(one) / f"R{rate:02g}_{name}{version}.npy"
    if not file.is_file():
        x0, y0, x1, y1 = data_of(one, real_data, rate)["roi"]
        with torch.no_grad():
            found = reconstructed(one, real_data, rate, method)
        with atomic_path(file) as path, path.open("wb") as stream:
            np.save(stream, found[:, x0:x1, y0:y1].abs().numpy())
    return torch.from_numpy(np.load(file))


def reconstructed(one: RealSlice, real_data: Path, rate: int, method: str) -> torch.Tensor:
    """Images (T, R, Y) of a strip."""
    data = data_of(one, real_data, rate)
    if method == "reference":
        return torch.as_tensor(data["reference"])
    if method == SHARED_BEST:
        weight = tuning(SHARED, rate)["settings"]["regularisation"]
        widths = BASELINES[SHARED].grid["sigma"]
        tried = [BASELINES[SHARED].reconstruct(data, sigma=width, regularisation=weight) for width in widths]
        return max(tried, key=lambda cine: roi_psnr(data, cine))
    if method in BASELINES:
        return BASELINES[method].reconstruct(data, **tuning(method, rate)["settings"])
    return iterates_of(one, real_data, rate, method.removesuffix(", K = 1"))[1 if method == OURS_ONCE else -1].images


@functools.lru_cache(maxsize=1)
def iterates_of(one: RealSlice, real_data: Path, rate: int, method: str) -> list[Iterate]:
    """Of the bundle with its settings; of the network alone; of motion that is fitted from rest. First images first."""
    network = GroupwiseMotionNet()
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True, map_location="cpu"))
    network.eval()
    motions = {OURS: RefinedMotion(network), NETWORK: network, INSTANCE: RefinedMotion(None)}
    data = data_of(one, real_data, rate)
    return reconstruct(encoding_of(data), adjoint_images(data), motions[method], SETTINGS)


def scores(real_data: Path, rate: int, method: str, metric: str) -> np.ndarray:
    """Of each slice."""
    values = []
    for one in SLICES:
        reference, found = images(one, real_data, rate, "reference"), images(one, real_data, rate, method)
        values.append(reconstruction_scores(found, reference)[metric])
    return np.array(values)


# --- the work, slice by slice -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", SLICES, ids=lambda one: one.name.replace(" ", "_"))
def test_slice(one: RealSlice, sources: Path) -> None:
    for rate in RATES:
        for method in ("reference", *METHODS):
            assert torch.isfinite(images(one, sources, rate, method)).all()


# --- tables and figure ------------------------------------------------------------------------------------------------


def test_tables(sources: Path) -> None:
    rows, single = {}, {}
    for rate in RATES:
        for method in METHODS:
            of_metric = {name: scores(sources, rate, method, metric) for metric, name in METRICS.items()}
            rows[f"R = {rate}, {method}"] = {
                name: f"{values.mean():.2f}" if "dB" in name else f"{values.mean():.3f}"
                for name, values in of_metric.items()
            }
            single[f"R = {rate}, {method}"] = {
                one.name: f"{value:.2f}" for one, value in zip(SLICES, of_metric["PSNR dB"], strict=True)
            }
    for name, content in {"real_cine": rows, "real_cine_slices_psnr": single}.items():
        table = pd.DataFrame(content).T.rename_axis("heart's region" if content is rows else "PSNR dB")
        TABLES.publish(BUNDLE, name, table)
        print(f"\n{markdown(table)}", flush=True)


def test_figure(sources: Path) -> None:
    found = {
        f"R = {rate}": {method: images(SHOWN, sources, rate, method) for method in (SHARED, OURS)} for rate in (8, 16)
    }
    reference = images(SHOWN, sources, 8, "reference")
    figure = comparison_figure(reference, found, PIXEL_MM, case_of(SHOWN, sources)["frame_ms"])
    figure.savefig(OUTPUT / BUNDLE / "real_cine.png", dpi=110)


# --- claims -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("other", [SHARED, SHARED_BEST])
@pytest.mark.parametrize("method", [OURS, NETWORK, INSTANCE])
def test_beats_view_sharing(method: str, other: str, rate: int, sources: Path) -> None:
    ours, theirs = (scores(sources, rate, name, "psnr") for name in (method, other))
    assert ours.mean() > theirs.mean(), f"{method} {ours.round(2)}, {other} {theirs.round(2)}"
