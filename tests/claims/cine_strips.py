"""Cines as all reconstructions of the claims see them: a strip of rows around the heart, undersampled, and its maps.

Whole lines of phase encoding are sampled along the readout, so that rows of the image are independent of each other: a
strip is a smaller examination with the same lines, coils and noise, and a reconstruction takes seconds. Only motion
across the strip's ends is cut off, for every method alike. The heart's region is what of it lies in the strip.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claim_tables import OUTPUT
from monai.transforms import Compose

from cardiac_mri_mcmr_reconstruction.case_files import FindCaseFilesd
from cardiac_mri_mcmr_reconstruction.pipeline import preprocessing
from clinbundles.data import datalist
from clinbundles.data.atomic_file import atomic_path
from clinbundles.data.manifest import read_manifest
from clinbundles.kspace import LoadKspaced, SampleLinesd
from clinbundles.mcmr.fourier import READOUT, fftc, ifftc
from clinbundles.phantoms.cine_kspace.simulated_kspace import SIMULATOR_REVISION, true_pair_flows

BUNDLE = "cardiac_mri_mcmr_reconstruction"
MANIFEST = "cine_kspace_simulated"
FOLDER = OUTPUT / BUNDLE / f"simulator_{SIMULATOR_REVISION}"
"""Of everything that takes long; another revision of the simulator begins anew."""
ROWS = 64
COILS = 8  # as train.yaml
TRAINED_RATES = (8, 12, 16)
Strip = dict[str, Any]


def cases(split: str, count: int) -> list[dict[str, Any]]:
    """The first cases of a split; simulated if they are not there yet."""
    return datalist(MANIFEST, None, split, limit=count)


def strip(case: dict[str, Any], rate: float) -> Strip:
    """The strip of a case that keeps a share of its lines; maps are estimated from these, by the bundle's own steps.

    Returns:
        ``kspace`` (T, N, 64, Y), ``mask`` (T, Y), ``sensitivity_maps`` (N, 64, Y), ``reference`` (T, 64, Y), the true
        ``flow_to_ed`` (T, 2, 64, Y) and ``myocardium`` (64, Y), ``roi`` (x0, y0, x1, y1) in the strip.
    """
    file = FOLDER / "strips" / f"{case['case']}_R{rate:02g}.npz"
    if not file.is_file():
        steps = preprocessing(acceleration=float(rate), coils=COILS, maps="espirit", truth=True, for_network=False)
        sample = steps(dict(case))
        first = first_row(case, sample["kspace"].shape[-2])
        found = {name: of_rows(sample[name], first) for name in ("reference", "sensitivity_maps", "myocardium")}
        found["flow_to_ed"] = of_rows(sample["flow_to_ed"], first)
        found["kspace"] = fftc(of_rows(ifftc(plain(sample["kspace"]), READOUT), first), READOUT)
        found["mask"] = plain(sample["mask"])
        x0, y0, x1, y1 = (int(edge) for edge in case["roi"])
        found["roi"] = torch.tensor([max(x0 - first, 0), y0, min(x1 - first, ROWS), y1])
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as path, path.open("wb") as stream:
            np.savez_compressed(stream, **{name: values.numpy() for name, values in found.items()})
    return {**_read(file), "cyclic": True, "case": case["case"]}


@functools.lru_cache(maxsize=2)
def _read(file: Path) -> Strip:
    with np.load(file) as kept:
        return {name: torch.from_numpy(kept[name]) for name in kept.files}


def true_flow(case: dict[str, Any]) -> torch.Tensor:
    """True flow (T, S, 2, 64, Y) between all frames of a case's strip."""
    file = FOLDER / "true_flow" / f"{case['case']}.npy"
    if not file.is_file():
        simulator = read_manifest(MANIFEST).simulator
        assert simulator is not None
        flow = true_pair_flows(int(case["case"]), **simulator[1])
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as path, path.open("wb") as stream:
            np.save(stream, of_rows(torch.from_numpy(flow), first_row(case, flow.shape[-2])).numpy())
    return torch.from_numpy(np.load(file))


def without_reference(split: str, count: int) -> list[dict[str, Any]]:
    """Cases of which there is nothing but the acquired lines: no reference, no maps, no truth, no further lines."""
    found = []
    for case in cases(split, count):
        file = FOLDER / "without_reference" / f"{case['case']}.npy"
        if not file.is_file():
            load = LoadKspaced("kspace", sensitivity_maps=False, reference=False)
            sample = Compose([FindCaseFilesd(), load, SampleLinesd(TRAINED_RATES, seed=0)])(dict(case))
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as path, path.open("wb") as stream:
                np.save(stream, plain(sample["kspace"]).numpy())
        kept = ("case", "affine", "cyclic", "frame_ms", "noise_sd", "roi", "spacing_mm", "thickness_mm")
        found.append({**{name: case[name] for name in kept}, "kspace": str(file)})
    return found


def first_row(case: dict[str, Any], rows: int) -> int:
    """Of the strip around the middle of the heart's region."""
    middle = (int(case["roi"][0]) + int(case["roi"][2])) // 2
    return min(max(middle - ROWS // 2, 0), rows - ROWS)


def of_rows(values: torch.Tensor, first: int) -> torch.Tensor:
    """(..., X, Y) to (..., 64, Y)."""
    return plain(values)[..., first : first + ROWS, :].contiguous()


def plain(values: Any) -> torch.Tensor:
    """A tensor without MONAI's metadata."""
    return torch.as_tensor(values).as_subclass(torch.Tensor)
