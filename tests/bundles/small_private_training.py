"""The small private training of the tests of dp_equivariant_classification, and what a user reads of a mistake."""

from __future__ import annotations

from pathlib import Path

import dp_equivariant_classification

ROOT = Path(dp_equivariant_classification.__file__).parent
HERE = Path(__file__).parent / "dp_equivariant_classification"
SMALL = {
    "bundle_root": str(ROOT),
    "manifest": str(HERE / "few_cells.yaml"),
    "expected_batch": 10,
    "steps": 8,
    "network_def#fields": [1, 2],
}


def files(*names):
    return [str(ROOT / "configs" / f"{name}.yaml") for name in names]


def reason(error):
    """What a user reads last: the error behind MONAI's 'Failed to instantiate component'."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
