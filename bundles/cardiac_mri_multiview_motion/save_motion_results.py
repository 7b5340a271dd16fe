"""Writing of an exam's results: fields, labels, strain, volumes, report, figures."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from matplotlib.figure import Figure
from monai.transforms import SaveImaged

from cardiac_mri_multiview_motion.contour_figure import contour_figure, plane_names
from cardiac_mri_multiview_motion.measurement.measure_motion import MEASURES_KEY, MotionMeasures
from cardiac_mri_multiview_motion.measurement.ventricle import CAVITY, MYOCARDIUM
from clinbundles.cine import LAX_VIEWS
from clinbundles.data.atomic_file import atomic_path, write_json
from clinbundles.motion.displacement_field import DisplacementField
from clinbundles.motion.displacement_file import write_displacement
from clinbundles.rasterizer.aha_segments import SEGMENTS
from clinbundles.rasterizer.ventricle_measures import STRAINS, peak_strain_figure
from clinbundles.rasterizer.ventricular_function import volume_curve_figure


class SaveImageMotionResultsd(SaveImaged):
    """Write everything about one exam into ``output_dir/STUDY``, each file whole or not at all.

    - ``STUDY_displacement.nii.gz``: field of every frame (I, J, K, T, 3), mm along RAS, domain t: the muscle that is
      at x at t was at x + displacement at end-diastole;
    - ``STUDY_sax_labels.nii.gz``: label of every frame (I, J, S, T) on the grid of the short-axis stack, sorted from
      base to apex: 0 background, 1 LV cavity, 2 LV myocardium, 3 RV cavity;
    - ``STUDY_strain.csv``: engineering strain of 17 segments and of the whole wall at every frame;
    - ``STUDY_volumes.csv``: volume of the tissues at every frame, mL;
    - ``STUDY_report.json``: all measures with units;
    - ``STUDY_contours.png``, ``STUDY_bulls_eye.png``, ``STUDY_volume_curve.png``.

    Args:
        output_dir: folder of the results.
        keys: the fields (T, 3, I, J, K), measured by ``MeasureMotiond``.
        figures: whether to draw the figures.
        views: long-axis views in the order of the network.

    Raises:
        KeyError: a sample that was not measured.
    """

    def __init__(
        self,
        output_dir: str | Path,
        keys: str = "pred",
        figures: bool = True,
        views: Sequence[str] = LAX_VIEWS,
    ) -> None:
        super().__init__(keys=keys, output_dir=output_dir, print_log=False)
        self.output_dir = Path(output_dir).expanduser()
        self.figures = figures
        self.views = tuple(views)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write one sample; adds ``files`` (name -> path)."""
        sample = dict(data)
        measures: MotionMeasures = sample[MEASURES_KEY]
        study = str(sample["study"])
        folder, stem = self.output_dir / study, Path(study).name
        names = {
            "displacement": "displacement.nii.gz",
            "sax_labels": "sax_labels.nii.gz",
            "strain": "strain.csv",
            "volumes": "volumes.csv",
            "report": "report.json",
        }
        files = {name: folder / f"{stem}_{ending}" for name, ending in names.items()}
        frame_to_world = np.asarray(torch.as_tensor(sample["frame_to_world"]).cpu(), dtype=np.float64)
        fields = torch.as_tensor(sample[self.keys[0]]).as_subclass(torch.Tensor)
        write_displacement(
            files["displacement"], DisplacementField(fields, "t"), frame_to_world, _frame_time_s(measures.times_ms)
        )
        self._write_labels(files["sax_labels"], sample, frame_to_world, measures)
        _write_strain(files["strain"], measures)
        _write_volumes(files["volumes"], measures)
        if self.figures:
            files |= self._write_figures(folder, stem, sample, measures)
        write_json(files["report"], _report(study, sample, measures, self.views, files))
        sample["files"] = {name: str(path) for name, path in files.items()}
        return sample

    @staticmethod
    def _write_labels(
        path: Path, sample: Mapping[Hashable, Any], frame_to_world: np.ndarray, measures: MotionMeasures
    ) -> None:
        labels = np.asarray(sample["sax_label"], dtype=np.uint8).transpose(2, 3, 1, 0)  # T K I J -> I J K T
        affine = _stack_affine(np.asarray(sample["native"]["sax"]["pose"], dtype=np.float64), frame_to_world)
        image = nibabel.Nifti1Image(labels, affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((*image.header.get_zooms()[:3], _frame_time_s(measures.times_ms)))
        image.set_qform(affine, code=1)
        image.set_sform(affine, code=1)
        with atomic_path(path) as temporary:
            nibabel.save(image, temporary)

    def _write_figures(
        self, folder: Path, stem: str, sample: Mapping[Hashable, Any], measures: MotionMeasures
    ) -> dict[str, Path]:
        poses = torch.as_tensor(sample["planes_pose"])
        present = np.asarray(poses.abs().sum(dim=(1, 2)) > 0)
        figures: dict[str, Figure] = {
            "contours": contour_figure(
                np.asarray(sample["planes"], dtype=np.float32),
                np.asarray(sample["planes_carried"]),
                plane_names(self.views, present),
                {"end-diastole": 0, "end-systole": measures.function.es_frame},
                stem,
            ),
            "bulls_eye": peak_strain_figure(measures),
            "volume_curve": volume_curve_figure(
                measures.volumes_ml[:, CAVITY], measures.times_ms, measures.volumes_ml[:, MYOCARDIUM], stem
            ),
        }
        files = {name: folder / f"{stem}_{name}.png" for name in figures}
        for name, figure in figures.items():
            with atomic_path(files[name]) as temporary:
                figure.savefig(temporary, dpi=110)
        return files


def _frame_time_s(times_ms: np.ndarray) -> float:
    steps = np.diff(times_ms)
    return float(np.median(steps) / 1000) if len(steps) and np.isfinite(steps).all() else 0.0


def _stack_affine(poses: np.ndarray, frame_to_world: np.ndarray) -> np.ndarray:
    """(4, 4) voxel index -> RAS mm of the stack: the first slice's plane, the mean step between slices."""
    square = np.tile(np.eye(4), (len(poses), 1, 1))
    square[:, :3] = poses
    planes = frame_to_world @ np.linalg.inv(square)  # (i, j, n) -> RAS
    affine = planes[0].copy()
    if len(planes) > 1:
        affine[:3, 2] = (planes[-1][:3, 3] - planes[0][:3, 3]) / (len(planes) - 1)
    return affine


def _write_strain(path: Path, measures: MotionMeasures) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "time_ms", "segment", "name", *STRAINS])
        for frame, (time, values) in enumerate(zip(measures.time_cells(), measures.segment_strain, strict=True)):
            whole = [f"{value:.4f}" for value in measures.global_strain[frame]]
            writer.writerow([frame, time, 0, "whole wall", *whole])
            for segment, row in enumerate(values, start=1):
                cells = ["" if np.isnan(value) else f"{value:.4f}" for value in row]
                writer.writerow([frame, time, segment, SEGMENTS[segment - 1], *cells])


def _write_volumes(path: Path, measures: MotionMeasures) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "time_ms", "lv_cavity_ml", "lv_myocardium_ml", "rv_cavity_ml"])
        for frame, (time, values) in enumerate(zip(measures.time_cells(), measures.volumes_ml, strict=True)):
            writer.writerow([frame, time, *(f"{value:.2f}" for value in values[1:])])


def _report(
    study: str,
    sample: Mapping[Hashable, Any],
    measures: MotionMeasures,
    views: Sequence[str],
    files: Mapping[str, Path],
) -> dict[str, Any]:
    peak, when = measures.peak_strain(), measures.time_to_peak()
    present = torch.as_tensor(sample["lax_pose"]).abs().sum(dim=(1, 2)) > 0
    segments = [
        {
            "segment": number,
            "name": name,
            **{
                part: None
                if np.isnan(peak[number - 1, index])
                else {"peak_strain": round(float(peak[number - 1, index]), 4), "frame": int(when[number - 1, index])}
                for index, part in enumerate(STRAINS)
            },
        }
        for number, name in enumerate(SEGMENTS, start=1)
    ]
    return {
        "study": study,
        "notice": "Research use only. Trained on simulated hearts. Twist is hardly visible in cine images.",
        "domain": "t: the muscle at x at time t was at x + displacement at end-diastole",
        "units": {"displacement": "mm, RAS", "volumes": "mL", "strain": "engineering, 1 = 100 %"},
        "views": [name for name, there in zip(views, present.tolist(), strict=True) if there],
        "frame_to_world": np.asarray(torch.as_tensor(sample["frame_to_world"]).cpu(), dtype=float).round(6).tolist(),
        "label_at_end_diastole": measures.label_source,
        "results": sample["results"],
        "volumes_ml": {
            name: [round(float(value), 2) for value in measures.volumes_ml[:, tissue]]
            for tissue, name in ((1, "lv_cavity"), (2, "lv_myocardium"), (3, "rv_cavity"))
        },
        "segments": segments,
        "files": {name: path.name for name, path in files.items()},
    }
