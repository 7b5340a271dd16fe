"""What is measured on the moving mesh: volumes, function, thickness, strain in 17 segments."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from numpy.typing import NDArray

from cardiac_mri_mesh_motion.ventricle.lv_mesh import LvMesh, inverted_share
from cardiac_mri_mesh_motion.ventricle.move_mesh import MESH_KEY, VERTICES_KEY, axis_of
from clinbundles.rasterizer.aha_segments import SEGMENTS, aha_segments, segment_means
from clinbundles.rasterizer.strain import (
    engineering_strain,
    faces_to_vertices,
    stretch_strain,
    surface_strain,
    triangle_areas,
)
from clinbundles.rasterizer.ventricular_function import VentricularFunction, ventricular_function
from clinbundles.rasterizer.wall_thickness import wall_thickness

MEASURES_KEY = "lv_measures"
STRAINS = ("radial", "circumferential", "longitudinal")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class LvMeasures:
    """Measures of one exam over T frames; strains are Green-Lagrange unless said otherwise.

    Attributes:
        source: of the mesh at end-diastole.
        times_ms: (T,) NaN where unknown.
        cavity_ml, myocardium_ml: (T,).
        function: ED, ES, EF, mass.
        segments: (V,) 1 to 17 of each vertex.
        strain: (T, V, 3) E_rr (by thickness; NaN but on the endocardium), E_cc, E_ll.
        thickness_mm: (T, V) at endocardial vertices, NaN elsewhere.
        segment_strain: (T, 17, 3) engineering strain of the segments' mean, endocardium and epicardium together.
        global_strain: (T, 3) engineering strain of the whole wall.
        segment_thickness_mm: (T, 17).
        inverted: (T,) share of triangles that turned over.
    """

    source: str
    times_ms: Array
    cavity_ml: Array
    myocardium_ml: Array
    function: VentricularFunction
    segments: NDArray[np.int64]
    strain: Array
    thickness_mm: Array
    segment_strain: Array
    global_strain: Array
    segment_thickness_mm: Array
    inverted: Array

    @property
    def volume_drift(self) -> float:
        """Largest relative change of the muscle's volume over the cycle."""
        return float(np.abs(self.myocardium_ml / self.myocardium_ml[0] - 1).max())

    def peak_strain(self) -> Array:
        """(17, 3) engineering: radial maximum, circumferential and longitudinal minimum over the cycle."""
        values = self.segment_strain
        return np.stack([values[..., 0].max(0), values[..., 1].min(0), values[..., 2].min(0)], axis=-1)

    def time_to_peak(self) -> NDArray[np.int64]:
        """(17, 3) frame of the peak."""
        filled = np.nan_to_num(self.segment_strain)
        return np.stack([filled[..., 0].argmax(0), filled[..., 1].argmin(0), filled[..., 2].argmin(0)], axis=-1)

    def global_peak(self) -> dict[str, float]:
        """GRS, GCS and GLS (engineering)."""
        radial, around, along = self.global_strain.T
        return {
            "global_radial_strain": float(radial.max()),
            "global_circumferential_strain": float(around.min()),
            "global_longitudinal_strain": float(along.min()),
        }


def measure_mesh(mesh: LvMesh, vertices: torch.Tensor, times_ms: NDArray) -> LvMeasures:
    """Measure a moving mesh.

    Args:
        mesh: at end-diastole.
        vertices: (T, V, 3) mm, frame 0 being end-diastole.
        times_ms: (T,).
    """
    places = vertices.double().numpy()
    axis = axis_of(mesh)
    segments = aha_segments(places[0], axis)
    walls = torch.cat([mesh.endo_faces, mesh.epi_faces])
    faces = walls.numpy()
    corners = places[0][faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    directions = axis.wall_directions(corners.mean(axis=1), normals)[:, 1:]
    in_plane = np.moveaxis(surface_strain(places, faces, directions), -1, 1)  # T 2 F
    areas = triangle_areas(places[0], faces)
    count = places.shape[1]
    inner = np.flatnonzero(mesh.surface.numpy() == 1)
    thickness = wall_thickness(places, inner, mesh.epi_faces.numpy())
    radial = stretch_strain(thickness, thickness[:1])
    strain = np.full((len(places), count, 3), np.nan)
    strain[..., 1:] = np.moveaxis(faces_to_vertices(in_plane, faces, areas, count), 1, -1)
    strain[:, inner, 0] = radial
    member = np.zeros(count)
    np.add.at(member, mesh.endo_faces.numpy().ravel(), np.repeat(triangle_areas(places[0], mesh.endo_faces.numpy()), 3))
    weights = member[inner]
    of_face = aha_segments(corners.mean(axis=1), axis)
    regional = np.stack(
        [
            segment_means(radial, segments[inner], weights),
            *np.moveaxis(segment_means(in_plane, of_face, areas), 1, 0),
        ],
        axis=-1,
    )
    whole = np.stack(
        [np.average(radial, axis=1, weights=weights), *np.moveaxis(np.average(in_plane, axis=2, weights=areas), 1, 0)],
        axis=-1,
    )
    all_thickness = np.full((len(places), count), np.nan)
    all_thickness[:, inner] = thickness
    cavity, muscle = mesh.cavity_ml(vertices), mesh.myocardium_ml(vertices)
    return LvMeasures(
        source=mesh.source,
        times_ms=np.asarray(times_ms, dtype=np.float64),
        cavity_ml=cavity,
        myocardium_ml=muscle,
        function=ventricular_function(cavity, muscle, ed_frame=0),
        segments=segments,
        strain=strain,
        thickness_mm=all_thickness,
        segment_strain=engineering_strain(regional),
        global_strain=engineering_strain(whole),
        segment_thickness_mm=segment_means(thickness, segments[inner], weights),
        inverted=inverted_share(vertices, mesh.faces).double().numpy(),
    )


class MeasureMeshd(MapTransform):
    """Measure the moving mesh of a sample of ``MoveMeshd``.

    Adds ``lv_measures``, ``results`` (a row for the table of the folder) and ``measurements`` (for reports).

    Args:
        keys: the prediction.
    """

    def __init__(self, keys: str = "pred") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Measure one sample."""
        sample = dict(data)
        times = np.asarray(torch.as_tensor(sample["times_ms"]).cpu(), dtype=float)
        measures = measure_mesh(sample[MESH_KEY], sample[VERTICES_KEY], times)
        return sample | {
            MEASURES_KEY: measures,
            "results": results_row(measures),
            "measurements": report_measurements(measures),
        }


def results_row(measures: LvMeasures) -> dict[str, Any]:
    """One exam as a row of the table of the folder."""
    function = measures.function
    row: dict[str, Any] = {
        "frames": len(measures.cavity_ml),
        "es_frame": function.es_frame,
        "edv_ml": round(function.edv_ml, 1),
        "esv_ml": round(function.esv_ml, 1),
        "stroke_volume_ml": round(function.stroke_volume_ml, 1),
        "ejection_fraction": round(function.ejection_fraction, 3),
        "mass_g": round(float(function.mass_g or 0.0), 1),
    }
    row |= {name: round(value, 3) for name, value in measures.global_peak().items()}
    return row | {
        "muscle_volume_drift": round(measures.volume_drift, 4),
        "inverted_triangles": round(float(measures.inverted.max()), 4),
        "ed_mesh": measures.source,
    }


def report_measurements(measures: LvMeasures) -> list[dict[str, Any]]:
    """Measurements with UCUM units for DICOM reports and tables."""
    function, heart = measures.function, "left ventricle"
    rows = [
        ("end-diastolic volume", function.edv_ml, "mL", heart),
        ("end-systolic volume", function.esv_ml, "mL", heart),
        ("stroke volume", function.stroke_volume_ml, "mL", heart),
        ("ejection fraction", 100 * function.ejection_fraction, "%", heart),
        ("myocardial mass", float(function.mass_g or 0.0), "g", heart),
    ]
    rows += [(name.replace("_", " "), 100 * value, "%", heart) for name, value in measures.global_peak().items()]
    thickness = measures.segment_thickness_mm
    for number, (segment, values) in enumerate(zip(SEGMENTS, measures.peak_strain(), strict=True)):
        rows += [(f"peak {name} strain", 100 * values[at], "%", segment) for at, name in enumerate(STRAINS)]
        rows += [("end-diastolic wall thickness", thickness[0, number], "mm", segment)]
    return [
        {"name": name, "value": round(float(value), 2), "unit": unit, "region": region}
        for name, value, unit, region in rows
        if np.isfinite(value)
    ]
