from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

# The toy simulators are named by dotted path, and are found by child processes too.
HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _toy_simulators_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.fixture
def real_content() -> dict[str, Any]:
    return {
        "name": "cohort",
        "title": "A cohort",
        "description": "Eyes",
        "modality": "OCTA",
        "licence": "own",
        "citation": "none",
        "access": {"url": "https://cohort.example", "registration": True, "steps": "Ask the data office."},
        "layout": {
            "files": {"image": "image/{patient}_{eye}.png", "label": "label/{patient}_{eye}.png"},
            "constants": {"fov_mm": [3.0, 3.0]},
        },
        "splits": {"seeded": {"seed": 1, "fractions": {"training": 0.5, "test": 0.5}}},
    }


@pytest.fixture
def simulated_content() -> dict[str, Any]:
    return {
        "name": "toy",
        "title": "Toy",
        "description": "Noise",
        "modality": "none",
        "licence": "Apache-2.0",
        "citation": "none",
        "simulator": {"_target_": "toy_simulators.simulate_noise", "size": 4},
        "splits": {"training": {"first_seed": 10, "cases": 4}, "test": {"first_seed": 50, "cases": 2}},
    }


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def write(content: dict[str, Any]) -> Path:
        path = tmp_path / "manifest.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Files of 12 patients with two eyes each."""
    root = tmp_path / "cohort with blanks"
    for kind in ("image", "label"):
        (root / kind).mkdir(parents=True)
        for patient in range(1, 13):
            for eye in ("OD", "OS"):
                (root / kind / f"P{patient}_{eye}.png").write_bytes(f"{kind}{patient}{eye}".encode())
    return root
