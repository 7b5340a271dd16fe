"""Exact rasterisation of vessel graphs: every segment is a capsule whose covered width is known in each pixel.

At distance t (pixels) from the segment's projected axis, a vessel of radius r (pixels) covers
``clip(r + 1/2 - t, 0, min(1, 2 r))`` of the pixel: the box-filtered width, right also below one pixel. Vessels are
composed by maximum. Pixel (i, j) covers [i, i + 1) x [j, j + 1) in pixel units; rows are x, columns are y of the graph.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from retinal_octa_vessel_segmentation.simulation.vessel_graph import VesselGraph

LARGER_VESSEL_RADIUS_MM = 0.0099
"""Least radius of the "larger vessels" in OCTA-500 (Kreitner et al. 2024, label detail 0.0033 of 3 mm)."""


@njit(cache=True)
def _paint(start, end, radius, coverage, widest):  # type: ignore[no-untyped-def]
    height, width = coverage.shape
    for edge in range(radius.shape[0]):
        r = radius[edge]
        reach = r + 0.5
        x0, y0 = start[edge, 0], start[edge, 1]
        dx, dy = end[edge, 0] - x0, end[edge, 1] - y0
        top = max(int(np.floor(min(x0, x0 + dx) - reach)), 0)
        bottom = min(int(np.ceil(max(x0, x0 + dx) + reach)), height)
        left = max(int(np.floor(min(y0, y0 + dy) - reach)), 0)
        right = min(int(np.ceil(max(y0, y0 + dy) + reach)), width)
        length2 = dx * dx + dy * dy
        inverse = 1.0 / length2 if length2 > 0 else 0.0
        limit = min(1.0, 2.0 * r)
        for i in range(top, bottom):
            px = i + 0.5 - x0
            for j in range(left, right):
                py = j + 0.5 - y0
                s = min(max((px * dx + py * dy) * inverse, 0.0), 1.0)
                qx, qy = px - s * dx, py - s * dy
                d2 = qx * qx + qy * qy
                if d2 >= reach * reach:
                    continue
                covered = min(reach - np.sqrt(d2), limit)
                if covered > coverage[i, j]:
                    coverage[i, j] = covered
                if covered >= 0.5 * limit and r > widest[i, j]:
                    widest[i, j] = r


@njit(cache=True)
def _paint_volume(start, end, radius, coverage):  # type: ignore[no-untyped-def]
    height, width, depth = coverage.shape
    for edge in range(radius.shape[0]):
        r = radius[edge]
        reach = r + 0.5
        x0, y0, z0 = start[edge, 0], start[edge, 1], start[edge, 2]
        dx, dy, dz = end[edge, 0] - x0, end[edge, 1] - y0, end[edge, 2] - z0
        length2 = dx * dx + dy * dy + dz * dz
        inverse = 1.0 / length2 if length2 > 0 else 0.0
        limit = min(1.0, 2.0 * r)
        for i in range(
            max(int(np.floor(min(x0, x0 + dx) - reach)), 0), min(int(np.ceil(max(x0, x0 + dx) + reach)), height)
        ):
            px = i + 0.5 - x0
            for j in range(
                max(int(np.floor(min(y0, y0 + dy) - reach)), 0), min(int(np.ceil(max(y0, y0 + dy) + reach)), width)
            ):
                py = j + 0.5 - y0
                for k in range(
                    max(int(np.floor(min(z0, z0 + dz) - reach)), 0), min(int(np.ceil(max(z0, z0 + dz) + reach)), depth)
                ):
                    pz = k + 0.5 - z0
                    s = min(max((px * dx + py * dy + pz * dz) * inverse, 0.0), 1.0)
                    qx, qy, qz = px - s * dx, py - s * dy, pz - s * dz
                    distance = np.sqrt(qx * qx + qy * qy + qz * qz)
                    covered = min(reach - distance, limit)
                    if covered > coverage[i, j, k]:
                        coverage[i, j, k] = covered


def paint_segments(start: np.ndarray, end: np.ndarray, radius: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Coverage (H, W) float32 in [0, 1] of segments given in pixels: start and end (E, 2 or 3), radius (E,)."""
    return paint_coverage_and_width(start, end, radius, shape)[0]


def paint_coverage_and_width(
    start: np.ndarray, end: np.ndarray, radius: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage as :func:`paint_segments`, and the radius in pixels of the widest vessel whose label covers a pixel.

    A vessel's label covers the pixels whose centre lies within max(radius, 1/2) of its axis: no vessel is thinner than
    a pixel, so thin ones stay connected. Both maps are (H, W) float32; the second is 0 outside vessels.
    """
    coverage, widest = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    _paint(np.ascontiguousarray(start), np.ascontiguousarray(end), np.ascontiguousarray(radius), coverage, widest)
    return coverage, widest


def _in_pixels(
    graph: VesselGraph, shape: tuple[int, int], min_radius_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments at least ``min_radius_mm`` wide, in pixels of an image that spans the whole field."""
    if shape[0] != shape[1]:
        raise ValueError(f"shape is {shape}; the field of view is square, so height and width must agree")
    keep = graph.radius_mm >= min_radius_mm
    if len(graph) and not keep.any():
        raise ValueError(
            f"min_radius_mm={min_radius_mm} removes every vessel segment: the largest radius is "
            f"{graph.radius_mm.max():.4f} mm; choose a smaller value"
        )
    return graph.start[keep] * shape[0], graph.end[keep] * shape[0], graph.radius[keep] * shape[0]


def vessel_coverage(graph: VesselGraph, shape: tuple[int, int], min_radius_mm: float = 0.0) -> np.ndarray:
    """Covered fraction (H, W) float32 of every pixel of an image that spans the field.

    Args:
        graph: vessels to draw.
        shape: (H, W) with H == W.
        min_radius_mm: segments below this radius are left out ("label detail"; OCTA-500 large vessels 0.0099 mm,
            ROSE-1 0.0045 mm, all capillaries 0).

    Raises:
        ValueError: ``min_radius_mm`` removes every segment, or the shape is not square.
    """
    return paint_segments(*_in_pixels(graph, shape, min_radius_mm), shape)


def vessel_label(graph: VesselGraph, shape: tuple[int, int], min_radius_mm: float = 0.0) -> np.ndarray:
    """Binary label (H, W) bool: pixels whose centre lies within max(radius, half a pixel) of a vessel's axis."""
    return paint_coverage_and_width(*_in_pixels(graph, shape, min_radius_mm), shape)[1] > 0


def artery_vein_label(graph: VesselGraph, shape: tuple[int, int], min_radius_mm: float = 0.0) -> np.ndarray:
    """Label (H, W) uint8: 0 background, 1 artery, 2 vein; where both run, what covers more, arteries on a tie."""
    maps = []
    for artery in (True, False):
        side = graph.select(graph.artery == artery)
        if len(side) and (side.radius_mm >= min_radius_mm).any():
            coverage, width = paint_coverage_and_width(*_in_pixels(side, shape, min_radius_mm), shape)
            maps.append(np.where(width > 0, coverage, 0))
        else:
            maps.append(np.zeros(shape, np.float32))
    arteries, veins = maps
    return np.where(np.maximum(arteries, veins) > 0, np.where(arteries >= veins, 1, 2), 0).astype(np.uint8)


def radius_map(graph: VesselGraph, shape: tuple[int, int], min_radius_mm: float = 0.0) -> np.ndarray:
    """Radius in mm (H, W) float32 of the widest vessel whose label covers the pixel, 0 outside vessels."""
    return paint_coverage_and_width(*_in_pixels(graph, shape, min_radius_mm), shape)[1] * np.float32(
        graph.field_mm / shape[0]
    )


def centreline(graph: VesselGraph, shape: tuple[int, int], min_radius_mm: float = 0.0) -> np.ndarray:
    """Pixels (H, W) bool within half a pixel of a vessel's axis."""
    start, end, _ = _in_pixels(graph, shape, min_radius_mm)
    return paint_segments(start, end, np.full(len(start), 0.5), shape) >= 0.5


def vessel_volume(graph: VesselGraph, shape: tuple[int, int, int], min_radius_mm: float = 0.0) -> np.ndarray:
    """Covered fraction (H, W, D) float32 of cubic voxels of ``field_mm / H``; the slab starts at the first layer."""
    segments = _in_pixels(graph, shape[:2], min_radius_mm)
    coverage = np.zeros(shape, np.float32)
    _paint_volume(*(np.ascontiguousarray(part) for part in segments), coverage)
    return coverage
