"""Writing of a case's results: cine, motion, report, figures."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import platform
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.transforms import SaveImaged

import clinbundles
from cardiac_mri_mcmr_reconstruction.results.cine_film import save_cine_film
from cardiac_mri_mcmr_reconstruction.results.measure_reconstruction import measure_sample
from cardiac_mri_mcmr_reconstruction.results.plausibility import RECONSTRUCTION, REPORT, UNCERTAINTY, VIEW_SHARING
from cardiac_mri_mcmr_reconstruction.results.reconstruction_figure import REFERENCE, reconstruction_figure
from cardiac_mri_mcmr_reconstruction.results.template_flow_file import CONVENTION, write_template_flow
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import UnrolledSettings
from clinbundles.data.atomic_file import atomic_path, write_json
from clinbundles.data.study_folder import file_digest
from clinbundles.kspace.save_cine import SaveCined, write_nifti_cine
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding

BUNDLE = "cardiac_mri_mcmr_reconstruction"
NOTICE = "Research use only."
NOTICE_OF_WEIGHTS = "Research use only: the motion network was trained on simulated data."
OURS = "motion-compensated"


class SaveImageReconstructiond(SaveImaged):
    """Write everything about one case into ``output_dir/STUDY``, each file whole or not at all; the report is the last.

    - ``STUDY_magnitude.nii.gz``, ``STUDY_phase.nii.gz``, ``STUDY_dicom/``: the cine, see ``SaveCined``;
    - ``STUDY_template_flow.nii.gz``: the motion, see ``write_template_flow``; not where view sharing took the place of
      an implausible reconstruction;
    - ``STUDY_uncertainty.nii.gz``: where ``CheckPlausibilityd`` was asked for it;
    - ``STUDY_reconstruction.png``, ``STUDY_cine.gif``;
    - ``STUDY_report.json``: verdict, convergence, misfits, scores against a reference, provenance, files.

    Adds ``files`` (name -> path) and ``results``, the case's row for the table of the folder. Hosts that write results
    themselves leave this step out by its name.

    Args:
        output_dir: folder of the results.
        settings: of the reconstruction, such as ``inferer.settings``.
        keys: the iterates, judged by ``CheckPlausibilityd``.
        figures: whether to draw the figure.
        film: whether to draw the film.
        dicom: whether to write DICOM.
        source_header: a DICOM file of the same examination, see ``SaveCined``.
        version: of the bundle.
        weights_file: of the network, for its hash in the report; None: the motion needed no weights.

    Raises:
        KeyError: a case that was not judged.
    """

    def __init__(
        self,
        output_dir: str | Path,
        settings: UnrolledSettings | None = None,
        keys: str = "pred",
        *,
        figures: bool = True,
        film: bool = True,
        dicom: bool = True,
        source_header: str | Path | None = None,
        version: str = "",
        weights_file: str | Path | None = None,
    ) -> None:
        super().__init__(keys=keys, output_dir=output_dir, print_log=False)
        self.output_dir = Path(output_dir).expanduser()
        self.settings = settings or UnrolledSettings()
        self.figures, self.film = figures, film
        self.version = version
        self.weights_file = weights_file
        self.notice = NOTICE if weights_file is None else NOTICE_OF_WEIGHTS
        self.save_cine = SaveCined(
            output_dir, RECONSTRUCTION, bundle=BUNDLE, version=version, notice=self.notice, dicom=dicom,
            source_header=source_header,
        )  # fmt: skip

    @torch.no_grad()
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write one case."""
        sample = dict(data)
        judged = sample[REPORT]
        study = str(sample.get("study") or sample["case"])
        folder, stem = self.output_dir / study, Path(study).name
        report_file = folder / f"{stem}_report.json"
        report_file.unlink(missing_ok=True)  # of an earlier run: it would speak of files that are replaced now
        sample = self.save_cine(sample)
        files = {name: Path(path) for name, path in sample["files"].items()}
        files |= self._vector_files(folder, stem, sample)
        cines = self._cines(sample)
        if self.figures or self.film:
            files |= self._pictures(folder, stem, sample, cines)
        scores = {
            name: float(f"{value:.5g}")
            for name, value in measure_sample(sample, str(self.keys[0]), self.settings.init).items()
            if math.isfinite(value)
        }
        sample["results"] = result_row(sample, scores)
        files["report"] = report_file
        report = {
            "case": study,
            "notice": self.notice,
            "method": "view sharing" if judged["fallback"] else OURS,
            "plausibility": judged,
            "scores": scores,
            "provenance": self._provenance(sample),
            "conventions": {
                "images": "complex = magnitude exp(i phase), signal of the k-space's own scale",
                "template_flow": CONVENTION,
            },
            "files": {name: path.relative_to(folder).as_posix() for name, path in files.items()},
        }
        write_json(report_file, report)
        sample["files"] = {name: str(path) for name, path in files.items()}
        return sample

    def _vector_files(self, folder: Path, stem: str, sample: Mapping[Hashable, Any]) -> dict[str, Path]:
        """The motion and the uncertainty; those of an earlier run are removed where there is none now."""
        affine = np.asarray(torch.as_tensor(sample["affine"]).cpu(), dtype=np.float64)
        place: dict[str, Any] = {
            "frame_ms": float(sample.get("frame_ms", math.nan)),
            "spacing_known": _spacing_known(sample),
        }
        flow = sample[self.keys[0]][-1].template_flow
        paths = {name: folder / f"{stem}_{name}.nii.gz" for name in ("template_flow", UNCERTAINTY)}
        written = {}
        if flow is not None and not sample[REPORT]["fallback"]:
            write_template_flow(paths["template_flow"], flow.detach().cpu().numpy(), affine, **place)
            written["template_flow"] = paths["template_flow"]
        if UNCERTAINTY in sample:
            write_nifti_cine(paths[UNCERTAINTY], sample[UNCERTAINTY].cpu().numpy(), affine, **place)
            written[UNCERTAINTY] = paths[UNCERTAINTY]
        for name in paths.keys() - written.keys():
            paths[name].unlink(missing_ok=True)
        return written

    def _cines(self, sample: Mapping[Hashable, Any]) -> dict[str, np.ndarray]:
        """What pictures show, by name; a reconstruction that was replaced is shown all the same."""
        last = sample[self.keys[0]][-1].images
        maps, mask, kspace = (
            torch.as_tensor(sample[name]).as_subclass(torch.Tensor).to(last.device)
            for name in ("sensitivity_maps", "mask", "kspace")
        )
        shown = {
            "zero-filled": CoilFourierEncoding(maps, mask).adjoint(kspace),
            "view sharing": sample[VIEW_SHARING],
            f"{OURS} (refused)" if sample[REPORT]["fallback"] else OURS: last,
        }
        if sample.get("reference") is not None:
            shown[REFERENCE] = torch.as_tensor(sample["reference"]).as_subclass(torch.Tensor)
        return {name: torch.nan_to_num(images.abs()).cpu().numpy() for name, images in shown.items()}

    def _pictures(
        self, folder: Path, stem: str, sample: Mapping[Hashable, Any], cines: Mapping[str, np.ndarray]
    ) -> dict[str, Path]:
        place: dict[str, Any] = {
            "roi": sample.get("roi"),
            "spacing_mm": [float(size) for size in sample.get("spacing_mm", (1.0, 1.0))],
            "frame_ms": float(sample.get("frame_ms", math.nan)),
        }
        paths = {}
        if self.figures:
            flow = sample[self.keys[0]][-1].template_flow
            drawn = None if flow is None or not torch.isfinite(flow).all() else flow.detach().cpu().numpy()
            title = f"{stem} · R = {acceleration(sample):.1f} · {sample[REPORT]['verdict']}"
            figure = reconstruction_figure(cines, drawn, title=title, **place)
            paths["figure"] = folder / f"{stem}_reconstruction.png"
            with atomic_path(paths["figure"]) as temporary:
                figure.savefig(temporary, dpi=110)
        if self.film:
            moving = {name: images for name, images in cines.items() if name != "zero-filled"}
            paths["film"] = save_cine_film(folder / f"{stem}_cine.gif", moving, **place)
        return paths

    def _provenance(self, sample: Mapping[Hashable, Any]) -> dict[str, Any]:
        mask = torch.as_tensor(sample["mask"]).cpu()
        lines = (mask if mask.ndim == 2 else mask.any(1)).bool().sum(1)
        return {
            "bundle": f"{BUNDLE} {self.version}".strip(),
            "weights_sha256": file_digest(self.weights_file) if self.weights_file is not None else None,
            "settings": dataclasses.asdict(self.settings),
            "kspace_shape": list(sample["kspace"].shape),
            "mask_sha256": mask_hash(mask),
            "lines_per_frame": [int(lines.min()), int(lines.max())],
            "acceleration": round(acceleration(sample), 3),
            "sensitivity_maps": str(sample.get("maps_method", "given")),
            "coil_energy_kept": _float_or_none(sample.get("coil_energy")),
            "noise_sd": _float_or_none(sample.get("noise_sd")),
            "spacing_mm": [round(float(size), 5) for size in sample.get("spacing_mm", ())],
            "spacing_known": _spacing_known(sample),
            "software": {
                "clinbundles": clinbundles.__version__,
                "torch": torch.__version__,
                "monai": monai.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }


def mask_hash(mask: torch.Tensor) -> str:
    """SHA-256 of which samples a mask takes, the shape included; the same for every type of number."""
    sampled = np.asarray(mask.cpu() != 0)
    return hashlib.sha256(str(sampled.shape).encode() + np.packbits(sampled).tobytes()).hexdigest()


def acceleration(sample: Mapping[Hashable, Any]) -> float:
    """The case's own acceleration where it is known, else all samples / acquired samples."""
    known = _float_or_none(sample.get("acceleration"))
    mask = torch.as_tensor(sample["mask"])
    return known if known is not None else mask.numel() / max(float((mask != 0).sum()), 1.0)


def result_row(sample: Mapping[Hashable, Any], scores: Mapping[str, float]) -> dict[str, Any]:
    """One flat row of texts and numbers; an unknown value is an empty cell."""
    judged = sample[REPORT]
    motion, held_out = judged["motion"] or {}, judged["held_out"] or {}
    last = judged["solves"][-1]
    frames, coils, rows, columns = sample["kspace"].shape
    row = {
        "verdict": judged["verdict"],
        "method": "view sharing" if judged["fallback"] else OURS,
        "acceleration": round(acceleration(sample), 2),
        "frames": frames,
        "coils": coils,
        "matrix": f"{rows} x {columns}",
        "converged": all(solve["converged"] for solve in judged["solves"]),
        "cg_residual": last["largest_relative_residual"],
        "misfit_over_noise": judged["data_misfit"]["over_noise_power"],
        "held_out_misfit_ratio": held_out.get("misfit_ratio"),
        "folding_percent": motion.get("folding_percent"),
        "log_determinant_sd": motion.get("log_determinant_sd"),
        "largest_displacement_mm": motion.get("largest_displacement_mm"),
        **scores,
        "reasons": "; ".join(judged["reasons"]),
    }
    return {name: "" if value is None else value for name, value in row.items()}


def _spacing_known(sample: Mapping[Hashable, Any]) -> bool:
    return bool(sample.get("spacing_known", True))


def _float_or_none(value: Any) -> float | None:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None
