"""The privacy statement of the weights that are in use, recomputed before they are used."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clinbundles.privacy.accounting.statement import METADATA_KEY, STATEMENT_FILE, read_statement
from dp_equivariant_classification.results.class_results import CAUTION


def stated_privacy(weights: str | os.PathLike[str], bundle_root: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the statement of some weights says; epsilon is computed anew from its mechanism.

    Weights that a training wrote have theirs beside them, the shipped ones in the bundle's metadata.

    Args:
        weights: file of the weights.
        bundle_root: folder of the bundle.

    Returns:
        The statement as JSON has it, or None for weights without one: take these for not private.

    Raises:
        PrivacyStatementError: a statement that does not hold.
    """
    file, root = Path(weights).expanduser(), Path(bundle_root).expanduser()
    beside = file.parent / STATEMENT_FILE
    if beside.is_file():
        return read_statement(beside).to_dict()
    metadata = root / "configs" / "metadata.json"
    shipped = file.resolve().parent == (root / "models").resolve()
    if shipped and metadata.is_file() and METADATA_KEY in json.loads(metadata.read_text(encoding="utf-8")):
        return read_statement(metadata).to_dict()
    return None


def in_words(privacy: Mapping[str, Any] | None) -> str:
    """Epsilon, delta, unit and accountant of a statement in one line."""
    if privacy is None:
        return "no privacy statement: take these weights for not private"
    epsilon = privacy.get("epsilon")
    if epsilon is None or not np.isfinite(float(epsilon)):
        return "not private"
    return (
        f"epsilon {float(epsilon):.3g}, delta {float(privacy['delta']):.3g} per {privacy['unit']}, "
        f"{str(privacy.get('accountant', 'prv')).upper()} accountant"
    )


def notice(privacy: Mapping[str, Any] | None) -> str:
    """What the user must know of every result."""
    return f"{CAUTION} Privacy of its training images: {in_words(privacy)}."
