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
from clinbundles.rasterizer.aha_segments import aha_segments, segment_means
from clinbundles.rasterizer.strain import (
    engineering_strain,
    faces_to_vertices,
    stretch_strain,
    surface_strain,
    triangle_areas,
)
from clinbundles.rasterizer.ventricle_measures import VentricleMeasures, report_measurements, results_row
from clinbundles.rasterizer.ventricular_function import ventricular_function
from clinbundles.rasterizer.wall_thickness import wall_thickness

MEASURES_KEY = "lv_measures"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class LvMeasures(VentricleMeasures):
    """Measures of one exam over T frames; segments' strain is that of endocardium and epicardium together.

    Attributes:
        source: of the mesh at end-diastole.
        cavity_ml, myocardium_ml: (T,).
        segments: (V,) 1 to 17 of each vertex.
        strain: (T, V, 3) Green-Lagrange E_rr (by thickness; NaN but on the endocardium), E_cc, E_ll.
        thickness_mm: (T, V) at endocardial vertices, NaN elsewhere.
        segment_thickness_mm: (T, 17).
        inverted: (T,) share of triangles that turned over.
    """

    source: str
    cavity_ml: Array
    myocardium_ml: Array
    segments: NDArray[np.int64]
    strain: Array
    thickness_mm: Array
    segment_thickness_mm: Array
    inverted: Array

    @property
    def volume_drift(self) -> float:
        """Largest relative change of the muscle's volume over the cycle."""
        return float(np.abs(self.myocardium_ml / self.myocardium_ml[0] - 1).max())


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
            "results": results_row(measures)
            | {
                "muscle_volume_drift": round(measures.volume_drift, 4),
                "inverted_triangles": round(float(measures.inverted.max()), 4),
                "ed_mesh": measures.source,
            },
            "measurements": report_measurements(
                measures, {"end-diastolic wall thickness": (measures.segment_thickness_mm[0], "mm")}
            ),
        }
