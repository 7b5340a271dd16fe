"""Retinal vasculature with disease: varied anatomy, capillary dropout and an enlarged FAZ.

What the disease looks like: in diabetic retinopathy capillaries vanish in patches and the foveal avascular zone grows
(e.g. Hwang et al., Retina 35(11), 2015). Lengths in mm; positions (x, y) = (row, column) in units of the field.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import distance_transform_edt, label

from retinal_octa_vessel_segmentation.measurement.foveal_avascular_zone import GAP_MM
from retinal_octa_vessel_segmentation.simulation.growth_parameters import GrowthParameters
from retinal_octa_vessel_segmentation.simulation.vessel_graph import VesselGraph
from retinal_octa_vessel_segmentation.simulation.vessel_rasterizer import vessel_label

CAPILLARY_RADIUS_MM = 0.006
"""Dropout takes segments below this radius: capillaries and the smallest arterioles and venules."""
MOST_PATCHES = 6
LARGEST_FAZ_FACTOR = 1.8


@dataclass(frozen=True)
class DropoutPatch:
    """A disc without capillaries: centre (x, y) in units of the field, radius in mm."""

    centre: tuple[float, float]
    radius_mm: float


def draw_anatomy(
    generator: np.random.Generator, severity: float, field_mm: float = 3.0
) -> tuple[GrowthParameters, tuple[DropoutPatch, ...]]:
    """Parameters of one eye.

    kappa U(2.4, 3), phi U(10, 20) degrees, FAZ N(0.44, 0.08) mm times 1 to 1.8 with severity, fovea within about
    0.1 mm of the middle, 6 to 10 trees of each kind, capillary radius U(2.3, 3.2) um; up to 6 dropout patches of radius
    0.1 to 0.35 mm, their mean number proportional to severity, none of them on the FAZ.

    Args:
        generator: source of randomness.
        severity: 0 (healthy) to 1.
        field_mm: side of the field of view.

    Raises:
        ValueError: if `severity` is outside [0, 1].
    """
    if not 0 <= severity <= 1:
        raise ValueError(f"severity is {severity}: it lies between 0 (healthy) and 1")
    faz_mm = max(generator.normal(0.44, 0.08), 0.2) * (1.0 + (LARGEST_FAZ_FACTOR - 1.0) * severity)
    row, column = 0.5 + generator.uniform(-0.1, 0.1, 2) / field_mm
    fovea = (float(row), float(column))
    kappa, phi = float(generator.uniform(2.4, 3.0)), float(generator.uniform(10.0, 20.0))
    standard = GrowthParameters(field_mm=field_mm)
    parameters = replace(
        standard,
        arterial_trees=int(generator.integers(6, 11)),
        venous_trees=int(generator.integers(6, 11)),
        terminal_radius_mm=float(generator.uniform(0.0023, 0.0032)),
        faz_mm=float(faz_mm),
        faz_sd_mm=0.0,
        faz_centre=fovea,
        stages=tuple(replace(stage, kappa=kappa, phi_deg=phi) for stage in standard.stages),
    )
    patches = []
    for _ in range(generator.binomial(MOST_PATCHES, severity)):
        radius_mm = generator.uniform(0.1, 0.35)
        clear = 0.7 * faz_mm + radius_mm + GAP_MM
        for _ in range(100):
            centre = generator.uniform(0.0, 1.0, 2)
            if np.hypot(*(centre - fovea)) * field_mm > clear:
                patches.append(DropoutPatch((float(centre[0]), float(centre[1])), float(radius_mm)))
                break
    return parameters, tuple(patches)


def drop_capillaries(
    graph: VesselGraph, patches: tuple[DropoutPatch, ...], capillary_radius_mm: float = CAPILLARY_RADIUS_MM
) -> VesselGraph:
    """The graph without the capillaries whose middle lies in a patch, and without all that these fed.

    Args:
        graph: healthy graph.
        patches: where capillaries are lost.
        capillary_radius_mm: segments below this radius can be lost.
    """
    middle = 0.5 * (graph.start + graph.end)[:, :2]
    lost = np.zeros(len(graph), bool)
    for patch in patches:
        lost |= np.linalg.norm(middle - patch.centre, axis=1) * graph.field_mm <= patch.radius_mm
    lost &= graph.radius_mm < capillary_radius_mm
    return graph.select(~graph.downstream_of(lost))


def avascular_zone(graph: VesselGraph, fovea: tuple[float, float], side: int, gap_mm: float = GAP_MM) -> np.ndarray:
    """Foveal avascular zone of a graph: (side, side) bool.

    The zone is the part of the background around `fovea` that a disc of diameter `gap_mm` can reach without touching a
    vessel (the same definition as for images, where the measurement must find it without knowing the graph).
    All false if a vessel passes within gap_mm / 2 of every point within 0.3 mm of the fovea.

    Args:
        graph: vessels.
        fovea: (x, y) in units of the field.
        side: pixels per side of the field; 1216 on 3 mm resolves the capillary wall to 2.5 um.
        gap_mm: widest gap between vessels that does not belong to the zone.
    """
    pixel_mm = graph.field_mm / side
    to_vessel = distance_transform_edt(~vessel_label(graph, (side, side))) * pixel_mm
    axis = (np.arange(side) + 0.5) / side
    from_fovea = np.hypot(axis[:, None] - fovea[0], axis[None, :] - fovea[1]) * graph.field_mm
    core, _ = label(to_vessel >= 0.5 * gap_mm)
    central = np.where((core > 0) & (from_fovea <= 0.3), from_fovea, np.inf)
    nearest = np.unravel_index(np.argmin(central), central.shape)
    if not np.isfinite(central[nearest]):
        return np.zeros((side, side), bool)
    reached = distance_transform_edt(core != core[nearest]) * pixel_mm < 0.5 * gap_mm
    return reached & (to_vessel > 0)
