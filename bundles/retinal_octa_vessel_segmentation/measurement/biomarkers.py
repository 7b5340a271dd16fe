"""Biomarkers of an en-face OCT angiograph: one flat table per region of the ETDRS grid and per radius class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from retinal_octa_vessel_segmentation.measurement.binary_mask import binary_mask, same_shape
from retinal_octa_vessel_segmentation.measurement.etdrs_grid import EtdrsGrid, etdrs_grid
from retinal_octa_vessel_segmentation.measurement.foveal_avascular_zone import (
    FazShape,
    faz_shape,
    foveal_avascular_zone,
)
from retinal_octa_vessel_segmentation.measurement.fractal_dimension import fractal_dimension
from retinal_octa_vessel_segmentation.measurement.half_width import half_width_map
from retinal_octa_vessel_segmentation.measurement.intercapillary_distance import intercapillary_gaps
from retinal_octa_vessel_segmentation.measurement.pixel_spacing import checked_spacing
from retinal_octa_vessel_segmentation.measurement.radius_classes import ALL_RADII, RADIUS_CLASSES, radius_class_index
from retinal_octa_vessel_segmentation.measurement.skeleton_graph import SkeletonGraph, trace_skeleton, vessel_skeleton
from retinal_octa_vessel_segmentation.measurement.tortuosity import branch_tortuosity

LARGER_VESSEL, CAPILLARY = "larger vessel", "capillary"


@dataclass(frozen=True)
class BiomarkerRow:
    """One number: where, of which vessels, what, in which unit; ``value`` None with a ``note`` where it is not
    defined.
    """

    region: str
    radius_class: str
    name: str
    value: float | None
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Biomarkers:
    """The table of one image and what it was measured on.

    Attributes:
        table: rows by region, radius class and name.
        faz_mask: boolean (H, W), the foveal avascular zone that was used; empty where none was found.
        grid: the ETDRS grid that was used.
        skeleton: boolean (H, W), the centreline that was measured.
    """

    table: tuple[BiomarkerRow, ...]
    faz_mask: np.ndarray
    grid: EtdrsGrid
    skeleton: np.ndarray

    def rows(self) -> list[dict[str, object]]:
        """Rows as dictionaries with the keys region, radius_class, name, value, unit, note."""
        return [asdict(row) for row in self.table]

    def wide(self) -> dict[str, float | None]:
        """A line of a cohort CSV: one entry per row, keyed ``name``, ``name[region]`` or ``name[region, class]``."""
        wide = {}
        for row in self.table:
            where = [part for part in (row.region, row.radius_class) if part not in ("whole", ALL_RADII)]
            wide[f"{row.name}[{', '.join(where)}]" if where else row.name] = row.value
        return wide

    def value(self, name: str, region: str = "whole", radius_class: str = ALL_RADII) -> float | None:
        """One value.

        Raises:
            KeyError: when the table has no such row.
        """
        for row in self.table:
            if (row.name, row.region, row.radius_class) == (name, region, radius_class):
                return row.value
        raise KeyError(f"no biomarker '{name}' for region '{region}' and radius class '{radius_class}'")


def measure_biomarkers(
    vessel_mask: np.ndarray,
    larger_mask: np.ndarray | None,
    spacing_mm: float | Sequence[float],
    eye: str | None = None,
    faz_mask: np.ndarray | None = None,
) -> Biomarkers:
    """All biomarkers of a vessel mask.

    Names carry their units. Per region and radius class: ``vessel_area_density`` (fraction of the pixels of the
    region), ``skeleton_density_mm_per_mm2``, ``mean_calibre_um`` (2 x half width, averaged along the centreline),
    ``tortuosity`` (arc over chord, weighted by arc length; a branch counts where its middle lies), ``branch_count``,
    ``branch_point_count``, ``end_point_count``. Per region: ``area_mm2`` (of the part of the region in the image),
    ``intercapillary_distance_um`` (mean of twice the local maxima of the distance to the nearest vessel, outside the
    FAZ). For the image: ``fractal_dimension``, ``faz_area_mm2``, ``faz_perimeter_mm``, ``faz_circularity``,
    ``faz_axis_ratio``. Region: ``whole``, rings, and disjoint regions of the ETDRS grid centred on the FAZ (on the
    image when there is none). Radius class: ``all``, < 10 um, 10-20 um, > 20 um by local half width, and with
    ``larger_mask`` ``larger vessel`` and ``capillary``. Densities and lengths of the three radius classes add up to
    ``all``; so do the two of ``larger_mask``.

    Args:
        vessel_mask: (H, W), all vessels; boolean, {0, 1} or {0, 255}.
        larger_mask: (H, W), larger vessels, or None. Pixels outside ``vessel_mask`` are ignored.
        spacing_mm: mm per pixel, one number or (row, column).
        eye: "OD", "OS" or None (unknown: side quadrants are named left and right).
        faz_mask: (H, W), a known FAZ; default: found in ``vessel_mask``.

    Raises:
        ValueError: see ``binary_mask``, ``checked_spacing``, ``etdrs_grid``; masks of different shapes; sides below
            16 pixels.
    """
    vessels = binary_mask(vessel_mask, "vessel_mask")
    spacing = checked_spacing(spacing_mm)
    larger = None if larger_mask is None else binary_mask(larger_mask, "larger_mask")
    if larger is not None:
        same_shape(larger, vessels, "larger_mask", "vessel_mask")
    if faz_mask is None:
        faz = foveal_avascular_zone(vessels, spacing)
    else:
        faz = binary_mask(faz_mask, "faz_mask")
        same_shape(faz, vessels, "faz_mask", "vessel_mask")

    shape = faz_shape(faz, spacing)
    grid = etdrs_grid(vessels.shape, spacing, None if shape is None else shape.centre_mm, eye)
    half_width_mm = half_width_map(vessels, spacing)
    skeleton_mask = vessel_skeleton(vessels, half_width_mm / np.sqrt(spacing[0] * spacing[1]))
    skeleton = trace_skeleton(skeleton_mask, spacing)

    rows = _image_rows(vessels, shape, spacing)
    rows += _region_rows(vessels, faz, grid, spacing)
    rows += _vessel_rows(vessels, larger, skeleton_mask, skeleton, half_width_mm, grid, spacing)
    return Biomarkers(tuple(rows), faz, grid, skeleton_mask)


def _image_rows(vessels: np.ndarray, shape: FazShape | None, spacing: tuple[float, float]) -> list[BiomarkerRow]:
    no_faz = "" if shape else "no avascular region with a closed border near the centre; grid centred on the image"
    dimension = fractal_dimension(_square_pixels(vessels, spacing))
    values: tuple[tuple[str, float | None, str, str], ...] = (
        ("faz_area_mm2", shape.area_mm2 if shape else None, "mm2", no_faz),
        ("faz_perimeter_mm", shape.perimeter_mm if shape else None, "mm", no_faz),
        ("faz_circularity", shape.circularity if shape else None, "1", no_faz),
        ("faz_axis_ratio", shape.axis_ratio if shape else None, "1", no_faz),
        ("fractal_dimension", dimension, "1", "" if dimension is not None else "no vessel in the image"),
    )
    return [BiomarkerRow("whole", ALL_RADII, name, value, unit, note) for name, value, unit, note in values]


def _region_rows(
    vessels: np.ndarray, faz: np.ndarray, grid: EtdrsGrid, spacing: tuple[float, float]
) -> list[BiomarkerRow]:
    count = len(grid.names)
    area = np.bincount(grid.index.ravel(), minlength=count) * spacing[0] * spacing[1]
    pixels, gap_mm = intercapillary_gaps(vessels, spacing, exclude=faz)
    region = grid.index[pixels[:, 0], pixels[:, 1]]
    gaps, gap_sum = np.bincount(region, minlength=count), np.bincount(region, weights=gap_mm, minlength=count)
    rows = []
    for name in grid.all_names():
        own = grid.members(name)
        rows.append(BiomarkerRow(name, ALL_RADII, "area_mm2", float(area[own].sum()), "mm2"))
        rows.append(
            _mean_row(
                name, ALL_RADII, "intercapillary_distance_um", 1000 * gap_sum[own].sum(), gaps[own].sum(), "um",
                "no gap between vessels in the region",
            )
        )  # fmt: skip
    return rows


def _vessel_rows(
    vessels: np.ndarray,
    larger: np.ndarray | None,
    skeleton_mask: np.ndarray,
    skeleton: SkeletonGraph,
    half_width_mm: np.ndarray,
    grid: EtdrsGrid,
    spacing: tuple[float, float],
) -> list[BiomarkerRow]:
    """Densities, calibre, tortuosity and counts of each class of vessels in each region."""
    at = tuple(skeleton.pixels.T)
    pixel_class = radius_class_index(half_width_mm[at])
    partitions = [(ALL_RADII,), RADIUS_CLASSES]
    classes_on_skeleton = [np.zeros(len(pixel_class), dtype=int), pixel_class]
    classes_on_pixels = [np.zeros(int(vessels.sum()), dtype=int), _spread(pixel_class, skeleton_mask, vessels)]
    if larger is not None:
        partitions.append((CAPILLARY, LARGER_VESSEL))
        classes_on_skeleton.append(larger[at].astype(int))
        classes_on_pixels.append(larger[vessels].astype(int))

    middle = np.array([branch[len(branch) // 2] for branch in skeleton.branches], dtype=int)
    ratio = branch_tortuosity(skeleton)
    defined = np.isfinite(ratio)
    measured = {  # name: (pixel numbers on the skeleton, what is added up there)
        "length": (np.arange(len(pixel_class)), skeleton.pixel_length_mm),
        "calibre": (np.arange(len(pixel_class)), 2 * half_width_mm[at] * skeleton.pixel_length_mm),
        "branches": (middle, np.ones(len(middle))),
        "arc": (middle[defined], skeleton.arc_mm[defined]),
        "arc_tortuosity": (middle[defined], (skeleton.arc_mm * ratio)[defined]),
        "junctions": (skeleton.junction_pixels(), None),
        "ends": (np.flatnonzero(skeleton.degree == 1), None),
    }
    count = len(grid.names)
    region_area = np.bincount(grid.index.ravel(), minlength=count)
    pixel_mm2 = spacing[0] * spacing[1]
    region_on_skeleton, region_on_pixels = grid.index[at], grid.index[vessels]
    rows = []
    for names, on_skeleton, on_pixels in zip(partitions, classes_on_skeleton, classes_on_pixels, strict=True):
        size = (len(names), count)
        area = _sums(on_pixels, region_on_pixels, None, size)
        sums = {
            key: _sums(on_skeleton[number], region_on_skeleton[number], weight, size)
            for key, (number, weight) in measured.items()
        }
        for region in grid.all_names():
            own = grid.members(region)
            pixels = region_area[own].sum()
            for i, vessel_class in enumerate(names):
                total = {key: float(value[i, own].sum()) for key, value in sums.items()}
                where = (region, vessel_class)
                no_branch = "no such branch of at least 10 pixels in the region"
                no_area, no_vessel = "the region lies outside the image", "no such vessel in the region"
                length_um = 1000 * total["calibre"]
                rows += [
                    _mean_row(*where, "vessel_area_density", area[i, own].sum(), pixels, "1", no_area),
                    _mean_row(
                        *where, "skeleton_density_mm_per_mm2", total["length"], pixels * pixel_mm2, "mm/mm2", no_area
                    ),
                    _mean_row(*where, "mean_calibre_um", length_um, total["length"], "um", no_vessel),
                    _mean_row(*where, "tortuosity", total["arc_tortuosity"], total["arc"], "1", no_branch),
                    BiomarkerRow(*where, "branch_count", total["branches"], "count"),
                    BiomarkerRow(*where, "branch_point_count", total["junctions"], "count"),
                    BiomarkerRow(*where, "end_point_count", total["ends"], "count"),
                ]
    return rows


def _mean_row(
    region: str, vessel_class: str, name: str, total: float, weight: float, unit: str, note: str
) -> BiomarkerRow:
    """Total / weight, or an undefined value with a note where the weight is zero."""
    if weight > 0:
        return BiomarkerRow(region, vessel_class, name, float(total / weight), unit)
    return BiomarkerRow(region, vessel_class, name, None, unit, note)


def _sums(classes: np.ndarray, regions: np.ndarray, weights: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    """Sums by (class, region)."""
    flat = np.bincount(classes * size[1] + regions, weights=weights, minlength=size[0] * size[1])
    return flat.reshape(size)


def _spread(pixel_class: np.ndarray, skeleton_mask: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """Class of each vessel pixel: that of the nearest centreline pixel. (number of vessel pixels,)"""
    if not len(pixel_class):
        return np.zeros(int(vessels.sum()), dtype=int)
    class_map = np.zeros(vessels.shape, dtype=int)
    class_map[skeleton_mask] = pixel_class
    nearest = distance_transform_edt(~skeleton_mask, return_distances=False, return_indices=True)
    return class_map[nearest[0][vessels], nearest[1][vessels]]


def _square_pixels(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """The mask on square pixels of the finer spacing, nearest neighbour; unchanged when pixels are square."""
    fine = min(spacing)
    if np.isclose(spacing[0], spacing[1]):
        return mask
    rows, columns = (
        np.minimum(((np.arange(round(side * step / fine)) + 0.5) * fine / step).astype(int), side - 1)
        for side, step in zip(mask.shape, spacing, strict=True)
    )
    return mask[np.ix_(rows, columns)]
