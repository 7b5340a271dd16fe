"""Simulated training cases: one grown eye and one map of background capillaries per case, stored as vessel graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retinal_octa_vessel_segmentation.simulation.growth_parameters import GrowthParameters
from retinal_octa_vessel_segmentation.simulation.vessel_growth import grow_vessels

BACKGROUND_SEED = 1_000_000_007
"""Added to a case's seed for its background capillaries, so that they are independent of the eye."""


def simulate_vessel_case(
    folder: Path,
    seed: int,
    *,
    growth: Mapping[str, Any],
    background: Mapping[str, Any],
    wide_field: Mapping[str, Any] | None = None,
    wide_field_every: int = 0,
) -> dict[str, Any]:
    """Grow one case into ``folder``; the same arguments give the same bytes.

    Args:
        folder: existing, empty folder that receives graph.csv and background.csv.
        seed: the case's seed.
        growth: parameters of the eye (:class:`GrowthParameters` as a mapping).
        background: parameters of the dense deep-plexus capillaries without avascular zone that fill the background.
        wide_field: parameters that replace those of ``growth`` in wide-field cases, such as ``field_mm: 6.0``.
        wide_field_every: every n-th seed is a wide-field case; 0 for none.

    Returns:
        Datalist entry: graph, background (files relative to ``folder``), fov_mm, layer, patient.
    """
    wide = wide_field_every > 0 and seed % wide_field_every == 0
    parameters = {**growth, **(wide_field or {})} if wide else dict(growth)
    graph = grow_vessels(GrowthParameters.from_config(parameters), seed)
    graph.write_csv(folder / "graph.csv")
    grow_vessels(GrowthParameters.from_config(background), seed + BACKGROUND_SEED).write_csv(folder / "background.csv")
    return {
        "graph": "graph.csv",
        "background": "background.csv",
        "fov_mm": [graph.field_mm, graph.field_mm],
        "layer": "full",
        "patient": f"simulated-{seed}",
    }
