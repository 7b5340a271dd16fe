"""Writing of an exam's results: moving meshes, tables, report, figures."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import SaveImaged
from numpy.typing import NDArray

from cardiac_mri_mesh_motion.ventricle.lv_mesh import LvMesh
from cardiac_mri_mesh_motion.ventricle.measure_mesh import MEASURES_KEY, LvMeasures
from cardiac_mri_mesh_motion.ventricle.move_mesh import MESH_KEY, TRACKED_KEY, VERTICES_KEY
from clinbundles.cine.contour_figure import cine_contact_sheet, save_cine_film
from clinbundles.data.atomic_file import atomic_path, write_json
from clinbundles.rasterizer.aha_segments import SEGMENTS
from clinbundles.rasterizer.mesh_file import write_mesh
from clinbundles.rasterizer.mesh_series import write_mesh_series
from clinbundles.rasterizer.surface_mesh import SurfaceMesh
from clinbundles.rasterizer.ventricle_measures import STRAINS, peak_strain_figure
from clinbundles.rasterizer.ventricular_function import volume_curve_figure

CAUTION = "Research use only: the network was trained on simulated data. Twist is hardly visible in cine MRI."


class SaveImageMeshMotiond(SaveImaged):
    """Write everything about one exam into ``output_dir/STUDY``, each file whole or not at all.

    ``mesh/STUDY_000.vtp`` ... and ``mesh/STUDY.pvd`` (vertex arrays displacement (mm), E_rr, E_cc, E_ll
    (Green-Lagrange), thickness_mm, segment, surface), ``STUDY_ed_mesh.vtp``, ``tracked/NAME_000.vtp`` ...,
    ``STUDY_volumes.csv`` (per frame), ``STUDY_segments.csv`` (17 segments), ``STUDY_report.json``,
    ``STUDY_volume_curve.png``, ``STUDY_bulls_eye.png``, ``STUDY_contours.png`` and ``STUDY_contours.gif``. Hosts that
    write results themselves leave this step out by its name.

    Args:
        output_dir: folder of the results.
        space: coordinates of the mesh files, "LPS" (3D Slicer) or "RAS"; declared in each of them.
        figures: whether to draw the figures.
        film: whether to draw the film (some seconds).
        version: of the bundle, for the report.
    """

    def __init__(
        self,
        output_dir: str | Path,
        space: str = "LPS",
        figures: bool = True,
        film: bool = True,
        version: str = "",
    ) -> None:
        super().__init__(keys="pred", output_dir=output_dir, print_log=False)
        self.output_dir = Path(output_dir).expanduser()
        self.space = space
        self.figures = figures
        self.film = film
        self.version = version

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write one sample; adds ``files`` (name -> path)."""
        sample = dict(data)
        study = str(sample.get("study", "exam"))
        folder, stem = self.output_dir / study, Path(study).name
        mesh: LvMesh = sample[MESH_KEY]
        measures: LvMeasures = sample[MEASURES_KEY]
        to_world = np.asarray(torch.as_tensor(sample["frame_to_world"]).cpu(), dtype=float)
        vertices = sample[VERTICES_KEY].numpy()
        times = measures.times_ms if np.isfinite(measures.times_ms).all() else np.arange(len(vertices), dtype=float)
        files = self._meshes(folder, stem, mesh, measures, vertices, to_world, times)
        for name, (points, faces) in sample.get(TRACKED_KEY, {}).items():
            moved = in_world(points.numpy(), to_world)
            index = write_mesh_series(folder / "tracked", name, moved, faces.numpy(), times, space=self.space)
            files[f"tracked_{name}"] = index
        files["volumes"] = folder / f"{stem}_volumes.csv"
        files["segments"] = folder / f"{stem}_segments.csv"
        write_volumes(files["volumes"], measures)
        write_segments(files["segments"], measures)
        if self.figures:
            files |= self._figures(folder, stem, sample, mesh, measures, vertices)
        files["report"] = folder / f"{stem}_report.json"
        write_json(files["report"], self._report(stem, sample, measures, files, folder))
        sample["files"] = {name: str(path) for name, path in files.items()}
        return sample

    def _meshes(
        self,
        folder: Path,
        stem: str,
        mesh: LvMesh,
        measures: LvMeasures,
        vertices: NDArray,
        to_world: NDArray,
        times: NDArray,
    ) -> dict[str, Path]:
        world = in_world(vertices, to_world).astype(np.float32)
        faces = mesh.faces.numpy()
        data = {
            "displacement": world - world[:1],
            "E_rr": measures.strain[..., 0].astype(np.float32),
            "E_cc": measures.strain[..., 1].astype(np.float32),
            "E_ll": measures.strain[..., 2].astype(np.float32),
            "thickness_mm": measures.thickness_mm.astype(np.float32),
            "segment": measures.segments.astype(np.uint8),
            "surface": mesh.surface.numpy().astype(np.uint8),
        }
        about = {"domain": "ed", "strain": "Green-Lagrange, against end-diastole", "caution": CAUTION}
        index = write_mesh_series(folder / "mesh", stem, world, faces, times, data, self.space, about)
        at_ed = folder / f"{stem}_ed_mesh.vtp"
        marks = {"surface": data["surface"], "segment": data["segment"]}
        write_mesh(at_ed, SurfaceMesh(world[0], faces, marks), self.space, {"source": measures.source})
        return {"mesh_series": index, "ed_mesh": at_ed}

    def _figures(
        self,
        folder: Path,
        stem: str,
        sample: Mapping[Hashable, Any],
        mesh: LvMesh,
        measures: LvMeasures,
        vertices: NDArray,
    ) -> dict[str, Path]:
        made = {
            "volume_curve": volume_curve_figure(measures.cavity_ml, measures.times_ms, measures.myocardium_ml, stem),
            "bulls_eye": peak_strain_figure(measures),
        }
        native = sample.get("native")
        drawn = {"left ventricle": (vertices, mesh.faces.numpy())}
        if native is not None:
            phases = sorted({0, measures.function.es_frame})
            made["contours"] = cine_contact_sheet(native, drawn, phases, title=stem)
        paths = {}
        for name, figure in made.items():
            paths[name] = folder / f"{stem}_{name}.png"
            with atomic_path(paths[name]) as temporary:
                figure.savefig(temporary, dpi=110)
        if native is not None and self.film:
            paths["film"] = save_cine_film(folder / f"{stem}_contours.gif", native, drawn)
        return paths

    def _report(
        self,
        stem: str,
        sample: Mapping[Hashable, Any],
        measures: LvMeasures,
        files: Mapping[str, Path],
        folder: Path,
    ) -> dict[str, Any]:
        image = sample["image"]
        return {
            "study": stem,
            "caution": CAUTION,
            "bundle": f"cardiac_mri_mesh_motion {self.version}".strip(),
            "views": str(getattr(image, "meta", {}).get("views_found", "")),
            "mesh_space": self.space,
            "displacement_domain": "ed: p_t = p_ED + Phi(p_ED)",
            "results": sample["results"],
            "cavity_ml": [round(float(value), 2) for value in measures.cavity_ml],
            "myocardium_ml": [round(float(value), 2) for value in measures.myocardium_ml],
            "times_ms": [round(float(t), 1) if np.isfinite(t) else None for t in measures.times_ms],
            "measurements": sample["measurements"],
            "files": {name: path.relative_to(folder).as_posix() for name, path in files.items()},
        }


def in_world(points: NDArray, frame_to_world: NDArray) -> NDArray[np.float64]:
    """Points (..., 3) of the exam frame in RAS mm."""
    return np.asarray(points, float) @ frame_to_world[:3, :3].T + frame_to_world[:3, 3]


def write_volumes(path: Path, measures: LvMeasures) -> None:
    """One line per frame: time, volumes, global strain (engineering, %)."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "time_ms", "cavity_ml", "myocardium_ml", *(f"{name}_strain_%" for name in STRAINS)])
        for frame, (time, cavity, muscle, strain) in enumerate(
            zip(measures.time_cells(), measures.cavity_ml, measures.myocardium_ml, measures.global_strain, strict=True)
        ):
            writer.writerow([frame, time, f"{cavity:.2f}", f"{muscle:.2f}", *(f"{100 * one:.2f}" for one in strain)])


def write_segments(path: Path, measures: LvMeasures) -> None:
    """One line per segment: peak strains (engineering, %), their frames, wall thickness at ED and ES."""
    peaks, frames = 100 * measures.peak_strain(), measures.time_to_peak()
    thickness = measures.segment_thickness_mm
    es = measures.function.es_frame
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        head = [part for name in STRAINS for part in (f"peak_{name}_strain_%", f"frame_of_{name}_peak")]
        writer.writerow(["segment", "name", *head, "thickness_ed_mm", "thickness_es_mm"])
        for number, name in enumerate(SEGMENTS):
            values = [
                part
                for at in range(3)
                for part in (
                    _number(peaks[number, at]),
                    int(frames[number, at]) if np.isfinite(peaks[number, at]) else "",
                )
            ]
            walls = [_number(thickness[0, number]), _number(thickness[es, number])]
            writer.writerow([number + 1, name, *values, *walls])


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else ""
