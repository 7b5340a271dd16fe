"""Speed of the heart simulator: what a training set costs on one core."""

from __future__ import annotations

import time
from pathlib import Path

import nibabel as nib
import pytest

from clinbundles.phantoms.heart import simulate_heart_exam

pytestmark = pytest.mark.benchmarks

CASES, FRAMES, PLANES, LIMIT_S = 72, [0.0, 0.2, 0.36], 13, 30.0


def test_72_cases_of_3_frames_on_13_planes_take_30_seconds_of_one_core(tmp_path: Path) -> None:
    def simulate(seed: int) -> int:
        folder = tmp_path / str(seed)
        folder.mkdir()
        case = simulate_heart_exam(folder, seed, frames=FRAMES, pixels=64, slice_spacing_mm=10.0)
        return int(nib.load(folder / case["sax"]).shape[2]) + 3

    simulate(999)  # compiles
    begin = time.process_time()
    planes = sum(simulate(seed) for seed in range(CASES)) / CASES
    seconds = time.process_time() - begin
    print(f"{CASES} cases of {len(FRAMES)} frames on {planes:.1f} planes: {seconds:.1f} s of CPU")
    assert planes >= PLANES
    assert seconds < LIMIT_S
