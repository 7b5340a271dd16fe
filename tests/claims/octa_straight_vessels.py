"""The control of claim 4: straight segments at random places, with the radii and the total length of a grown eye."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retinal_octa_vessel_segmentation.simulation.growth_parameters import GrowthParameters
from retinal_octa_vessel_segmentation.simulation.vessel_graph import VesselGraph
from retinal_octa_vessel_segmentation.simulation.vessel_growth import grow_vessels


def straighten(eye: VesselGraph, rng: np.random.Generator, length_mm: float = 0.4) -> VesselGraph:
    """Segments of ``length_mm`` at random places and directions; radii drawn by length from those of ``eye``."""
    count = round(eye.length_mm.sum() / length_mm)
    middle, angle = rng.random((count, 2)), rng.uniform(0, np.pi, count)
    half = 0.5 * length_mm / eye.field_mm * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    flat = np.zeros((count, 1))
    radius = rng.choice(eye.radius, size=count, p=eye.length_mm / eye.length_mm.sum())
    start, end = (np.hstack([np.clip(middle + sign * half, -0.09, 1.09), flat]) for sign in (-1, 1))
    return VesselGraph(start, end, radius, np.full(count, -1), np.ones(count, bool), np.zeros(count, int), eye.field_mm)


def simulate_straight_case(folder: Path, seed: int, *, growth: Mapping[str, Any]) -> dict[str, Any]:
    """A case of the control set: the same files as ``simulate_vessel_case``, without anatomy."""
    rng = np.random.default_rng(seed)
    eye = grow_vessels(GrowthParameters.from_config(growth), seed)
    straighten(eye, rng).write_csv(folder / "graph.csv")
    straighten(eye.select(eye.radius_mm < 0.005), rng).write_csv(folder / "background.csv")
    return {
        "graph": "graph.csv",
        "background": "background.csv",
        "fov_mm": [eye.field_mm, eye.field_mm],
        "layer": "full",
        "patient": f"straight-{seed}",
    }
