"""What differs between the sites of a federated training: their cases and their folders."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SITE_DATA = "CLINBUNDLES_SITE_DATA"
SITE_OUTPUT = "CLINBUNDLES_SITE_OUTPUT"
SITE_MANIFEST = "manifest.yaml"


def folder_settings(data: str | os.PathLike[str], output: str | os.PathLike[str]) -> dict[str, Any]:
    """Config ids of a site whose cases are in a folder; its `manifest.yaml`, if there is one, says what is what.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    folder = Path(data).expanduser().resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"the site's data folder {folder} does not exist")
    manifest = folder / SITE_MANIFEST
    return {
        "dataset_dir": str(folder),
        **({"manifest": str(manifest)} if manifest.is_file() else {}),
        **output_settings(output),
    }


def output_settings(output: str | os.PathLike[str]) -> dict[str, Any]:
    """Config ids of a site's own files: two sites on one machine must not write the same model.pt."""
    folder = Path(output).expanduser().resolve()
    return {"output_dir": str(folder), "ckpt_dir": str(folder / "models")}


def settings_from_environment(site: str) -> dict[str, Any]:
    """Config ids of a hospital, from the environment of its FLARE client.

    Raises:
        RuntimeError: a variable is missing; says which and what it holds.
    """
    what = {SITE_DATA: "the folder with the site's cases", SITE_OUTPUT: "a folder for the site's own files"}
    missing = [f"{name} ({meaning})" for name, meaning in what.items() if not os.environ.get(name)]
    if missing:
        raise RuntimeError(f"{site}: set {' and '.join(missing)} in the environment of the FLARE client")
    return folder_settings(os.environ[SITE_DATA], os.environ[SITE_OUTPUT])


def deal_out(cases: Sequence[Mapping[str, Any]], sites: int, seed: int) -> list[list[dict[str, Any]]]:
    """Deal cases to simulated sites by patient, in an order that depends on the seed alone.

    Args:
        cases: with `patient`; a case without one is a patient of its own.
        sites: number of sites.
        seed: of the shuffle.

    Returns:
        One list per site. Numbers of patients differ by at most one.

    Raises:
        ValueError: there are fewer patients than sites.
    """
    by_patient: dict[Any, list[dict[str, Any]]] = {}
    for number, case in enumerate(cases):
        by_patient.setdefault(case.get("patient", ("case", number)), []).append(dict(case))
    if len(by_patient) < sites:
        raise ValueError(f"{len(by_patient)} patients cannot be dealt to {sites} sites: each needs at least one")
    patients = list(by_patient.values())
    random.Random(seed).shuffle(patients)
    return [[case for patient in patients[site::sites] for case in patient] for site in range(sites)]
