"""Simulators small enough to see through; named by dotted path in the manifests of the tests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np


def simulate_noise(folder: Path, seed: int, size: int = 4, scale: float = 1.0) -> dict[str, Any]:
    image = scale * np.random.default_rng(seed).normal(size=(size, size))
    np.save(folder / "image.npy", image)
    return {"image": "image.npy", "severity": round(float(image.mean()), 6), "layer": "SVC"}


def simulate_slowly(folder: Path, seed: int, calls: str) -> dict[str, Any]:
    """Also leave a mark in the folder `calls`, one per call, so that a test can count them."""
    (Path(calls) / f"{seed}-{time.monotonic_ns()}").touch()
    time.sleep(0.2)
    return simulate_noise(folder, seed)


def simulate_until_broken_off(folder: Path, seed: int, fail_at: str) -> dict[str, Any]:
    """Break off after writing half of the case whose seed stands in the file `fail_at`."""
    entry = simulate_noise(folder, seed)
    if json.loads(Path(fail_at).read_text()) == seed:
        raise KeyboardInterrupt
    return entry


def simulate_two_records(folder: Path, seed: int) -> dict[str, Any]:
    records = []
    for number in range(2):
        np.save(folder / f"{number}.npy", np.array([seed, number]))
        records.append({"image": f"{number}.npy", "label": number})
    return {"patient": f"P{seed}", "records": records}


def simulate_without_file(folder: Path, seed: int) -> dict[str, Any]:
    return {"image": Path("image.npy")}


def simulate_text_only(folder: Path, seed: int) -> dict[str, Any]:
    return {"image": "image.npy"}
