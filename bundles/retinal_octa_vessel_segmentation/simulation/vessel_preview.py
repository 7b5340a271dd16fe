"""A look at one simulated eye: graph files, a picture, and the numbers by which it is compared with real images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from clinbundles.data.atomic_file import atomic_path
from retinal_octa_vessel_segmentation.augmentation.random_augmentation import RandVesselContrastd
from retinal_octa_vessel_segmentation.simulation.growth_parameters import GrowthParameters
from retinal_octa_vessel_segmentation.simulation.vessel_graph import VesselGraph
from retinal_octa_vessel_segmentation.simulation.vessel_growth import grow_vessels
from retinal_octa_vessel_segmentation.simulation.vessel_rasterizer import vessel_coverage, vessel_label

_logger = logging.getLogger("clinbundles")


def scale_density(parameters: GrowthParameters, density: float) -> GrowthParameters:
    """The parameters with `density` times the oxygen sinks per step of every stage.

    Raises:
        ValueError: `density` is not positive.
    """
    if not density > 0:
        raise ValueError(f"density is {density}; expected a positive factor, 1 for the published density")
    stages = [
        replace(stage, sinks_per_step=max(1, round(stage.sinks_per_step * density))) for stage in parameters.stages
    ]
    return replace(parameters, stages=tuple(stages))


def vessel_statistics(graph: VesselGraph) -> dict[str, float]:
    """Segments, length per area (mm/mm2) and percentiles of the radius (um) of a graph."""
    percentiles = np.percentile(graph.radius_mm, (50, 95, 100)) * 1e3
    return {
        "segments": float(len(graph)),
        "length_mm_per_mm2": float(graph.length_mm.sum() / graph.field_mm**2),
        "radius_um_median": float(percentiles[0]),
        "radius_um_95": float(percentiles[1]),
        "radius_um_largest": float(percentiles[2]),
    }


def preview_vessels(
    output_dir: str | Path,
    seed: int = 0,
    field_mm: float = 3.0,
    pixels: int = 304,
    min_radius_um: float = 0.0,
    density: float = 1.0,
    growth: Mapping[str, Any] | None = None,
    noise: float = 0.7,
    gamma: float = 0.3,
) -> dict[str, float]:
    """Grow one eye and write `vessels.csv`, `vessels.graphml` and `preview.png`; returns its statistics.

    Args:
        output_dir: folder of the three files.
        seed: of the growth and of the augmentation.
        field_mm: side of the field of view.
        pixels: side of the picture.
        min_radius_um: least radius of a vessel in the label.
        density: factor on the oxygen sinks per growth step.
        growth: further parameters of :class:`GrowthParameters`.
        noise, gamma: strengths of speckle and local contrast in the augmented picture.

    Raises:
        ValueError: parameters out of range; `min_radius_um` that removes every vessel.
    """
    folder = Path(output_dir)
    parameters = GrowthParameters.from_config({"field_mm": field_mm, **(growth or {})})
    graph = grow_vessels(scale_density(parameters, density), seed)
    shape = (pixels, pixels)
    clean = vessel_coverage(graph, shape)
    label = vessel_label(graph, shape, min_radius_um / 1e3)
    augment = RandVesselContrastd(keys="image", delta=0.0, noise=noise, gamma=gamma).set_random_state(seed=seed)
    augmented = np.asarray(augment({"image": torch.from_numpy(clean)[None]})["image"][0])

    figure = Figure(figsize=(12, 4.4), layout="constrained")
    titles = ("simulated vessels", "random augmentation", f"label, radius from {min_radius_um:g} um")
    for axis, picture, title in zip(figure.subplots(1, 3), (clean, augmented, label), titles, strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=(0, field_mm, field_mm, 0))
        axis.set(title=title, xlabel="mm")
    with atomic_path(folder / "vessels.csv") as path:
        graph.write_csv(path)
    with atomic_path(folder / "vessels.graphml") as path:
        graph.write_graphml(path)
    with atomic_path(folder / "preview.png") as path:
        FigureCanvasAgg(figure).print_figure(path, dpi=110)
    statistics = {**vessel_statistics(graph), "label_fraction": float(label.mean())}
    _logger.info("%s", "  ".join(f"{name} {value:.4g}" for name, value in statistics.items()))
    _logger.info("Results in %s: vessels.csv, vessels.graphml, preview.png", folder.resolve())
    return statistics
