"""Writing of a study's results: masks, probability, biomarkers and picture, with the geometry of the input."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data import MetaTensor
from monai.transforms import SaveImaged
from PIL import Image

from clinbundles.data.atomic_file import atomic_path, write_json
from clinbundles.dicom import SeriesError, read_dicom_description, write_segmentation
from retinal_octa_vessel_segmentation.enface.load_image_enface import pixel_size_mm
from retinal_octa_vessel_segmentation.enface.overlay_figure import CAPTION, overlay_figure, save_overlay_figure
from retinal_octa_vessel_segmentation.enface.vessel_label_map import LARGER_VESSEL
from retinal_octa_vessel_segmentation.measurement.biomarkers import Biomarkers
from retinal_octa_vessel_segmentation.measurement.measure_vessels import BIOMARKERS_KEY, QUALITY_KEY, RESULTS_KEY

MM_PER_INCH = 25.4
_CENTIMETRE = 3  # TIFF 6.0, tag 296 ResolutionUnit


def write_mask_png(path: Path, mask: np.ndarray, pixel_mm: tuple[float, float]) -> None:
    """Write a boolean (H, W) mask as 8-bit PNG with 0 and 255; the pixel size goes into the file."""
    picture = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", dpi=(MM_PER_INCH / pixel_mm[1], MM_PER_INCH / pixel_mm[0]))


def write_float_tiff(path: Path, values: np.ndarray, pixel_mm: tuple[float, float]) -> None:
    """Write (H, W) float32 values as TIFF; the pixel size goes into the file."""
    picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    with atomic_path(path) as temporary:
        picture.save(
            temporary,
            format="TIFF",
            compression="tiff_adobe_deflate",
            resolution_unit=_CENTIMETRE,
            x_resolution=10 / pixel_mm[1],
            y_resolution=10 / pixel_mm[0],
        )


def write_nifti(path: Path, values: np.ndarray, file_affine: np.ndarray, stored_axes: int) -> None:
    """Write an (H, W) raster as NIfTI on the grid of the NIfTI file it came from."""
    array = values.T if stored_axes == 2 else values.T[..., None]
    image = nibabel.Nifti1Image(array, file_affine[:, [1, 0, 2, 3]], dtype=values.dtype)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


def write_biomarker_csv(path: Path, biomarkers: Biomarkers) -> None:
    """Write one line per biomarker: region, radius class, name, value, unit, note."""
    rows = biomarkers.rows()
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


class SaveImageVesselResultsd(SaveImaged):
    """Write everything about one study into ``output_dir/STUDY``, each file whole or not at all.

    ``STUDY_vessels.png`` and ``STUDY_larger_vessels.png`` (masks, 0 and 255), ``STUDY_labels.png`` (0 background, 1
    capillary, 2 larger vessel), ``STUDY_faz.png``, ``STUDY_probability.tiff`` (any vessel, float32),
    ``STUDY_biomarkers.csv`` and ``.json`` (with units), ``STUDY_overlay.png``. A NIfTI input also gets
    ``STUDY_labels.nii.gz``, ``STUDY_probability.nii.gz`` and ``STUDY_faz.nii.gz`` on its own grid, and so does the
    projection of a DICOM volume. A DICOM image gets ``STUDY_segmentation.dcm``, a DICOM segmentation of capillaries and
    larger vessels that refers to it; where that is not possible (the image has no UIDs), a note says so. Hosts that
    write results themselves leave this step out by its name and class.

    Args:
        output_dir: folder of the results.
        label_key: label map (1, H, W); its entry in the sample must have been measured by ``MeasureVesselsd``.
        probability_key: probabilities (2, H, W).
        image_key: checked image (1, H, W) in [0, 1].
        overlay: whether to draw the figure (a third of a second per image).
        dicom_description: the bundle's ``configs/dicom.yaml``; None writes no DICOM.
        version: of the bundle, as the DICOM segmentation states it.

    Raises:
        KeyError: a sample that was not measured.
    """

    def __init__(
        self,
        output_dir: str | Path,
        label_key: str = "pred",
        probability_key: str = "probability",
        image_key: str = "enface",
        overlay: bool = True,
        dicom_description: str | Path | None = None,
        version: str = "",
    ) -> None:
        super().__init__(keys=label_key, output_dir=output_dir, print_log=False)
        self.output_dir = Path(output_dir).expanduser()
        self.label_key = label_key
        self.probability_key = probability_key
        self.image_key = image_key
        self.overlay = overlay
        self.dicom_description = dicom_description
        self.version = version

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write one sample; adds ``files`` (name -> path)."""
        sample = dict(data)
        image = sample[self.image_key]
        study = str(sample.get("study") or image.meta["study"])
        folder = self.output_dir / study
        stem = Path(study).name
        self._refuse_input(image, folder)
        pixel_mm = pixel_size_mm(image)
        labels = np.asarray(sample[self.label_key].detach().cpu())[0]
        probability = np.asarray(sample[self.probability_key].detach().cpu())[0]
        biomarkers: Biomarkers = sample[BIOMARKERS_KEY]
        files = {
            name: folder / f"{stem}_{name}.png" for name in ("vessels", "larger_vessels", "labels", "faz", "overlay")
        }
        files["probability"] = folder / f"{stem}_probability.tiff"
        files["biomarkers_csv"] = folder / f"{stem}_biomarkers.csv"
        files["biomarkers_json"] = folder / f"{stem}_biomarkers.json"
        write_mask_png(files["vessels"], labels > 0, pixel_mm)
        write_mask_png(files["larger_vessels"], labels == LARGER_VESSEL, pixel_mm)
        write_mask_png(files["faz"], biomarkers.faz_mask, pixel_mm)
        with atomic_path(files["labels"]) as temporary:
            dpi = (MM_PER_INCH / pixel_mm[1], MM_PER_INCH / pixel_mm[0])
            Image.fromarray(labels.astype(np.uint8)).save(temporary, format="PNG", dpi=dpi)
        write_float_tiff(files["probability"], probability, pixel_mm)
        notes = [note for note in str(image.meta.get("notes", "")).splitlines() if note]
        file_format = image.meta.get("file_format")
        if file_format in ("nifti", "dicom_volume"):
            files.update(self._write_nifti(folder, stem, image, labels, probability, biomarkers))
        if file_format == "dicom" and self.dicom_description is not None:
            try:
                files["segmentation"] = self._write_dicom(folder / f"{stem}_segmentation.dcm", image, labels)
            except SeriesError as error:  # the other results are as good without it
                notes.append(f"no DICOM segmentation: {error}")
        if self.overlay:
            self._write_overlay(files["overlay"], stem, image, labels, sample)
        else:
            del files["overlay"]
        write_biomarker_csv(files["biomarkers_csv"], biomarkers)
        write_json(files["biomarkers_json"], self._report(stem, notes, sample, files))
        sample["files"] = {name: str(path) for name, path in files.items()}
        return sample

    @staticmethod
    def _refuse_input(image: MetaTensor, folder: Path) -> None:
        source = Path(str(image.meta.get("filename_or_obj", "")))
        if source.is_file() and source.resolve().parent == folder.resolve():
            raise ValueError(
                f"the results would go into the folder of the input {source.name}: choose another output_dir"
            )

    @staticmethod
    def _write_nifti(
        folder: Path,
        stem: str,
        image: MetaTensor,
        labels: np.ndarray,
        probability: np.ndarray,
        biomarkers: Biomarkers,
    ) -> dict[str, Path]:
        affine = np.asarray(image.meta["file_affine"], dtype=float)
        axes = int(image.meta["stored_axes"])
        volumes: dict[str, np.ndarray] = {
            "labels": labels.astype(np.uint8),
            "probability": probability.astype(np.float32),
            "faz": biomarkers.faz_mask.astype(np.uint8),
        }
        files = {}
        for name, values in volumes.items():
            files[f"{name}_nifti"] = folder / f"{stem}_{name}.nii.gz"
            write_nifti(files[f"{name}_nifti"], values, affine, axes)
        return files

    def _write_dicom(self, path: Path, image: MetaTensor, labels: np.ndarray) -> Path:
        about = read_dicom_description(str(self.dicom_description))
        source = str(image.meta["filename_or_obj"])
        # rows and columns of the raster are DICOM's; the grid of a series counts columns first
        return write_segmentation(
            path, labels.T[..., None], [source], about.segments, about.algorithm(self.version), "Retinal vessels"
        )

    def _write_overlay(
        self, path: Path, stem: str, image: MetaTensor, labels: np.ndarray, sample: Mapping[Hashable, Any]
    ) -> None:
        quality, biomarkers = sample[QUALITY_KEY], sample[BIOMARKERS_KEY]
        remarks = "Doubtful image: " + "; ".join(quality.reasons) if quality.doubtful else ""
        array = np.asarray(image.detach().cpu())[0]
        figure = overlay_figure(
            array, labels, biomarkers.faz_mask, biomarkers.grid, pixel_size_mm(image), stem, remarks
        )
        with atomic_path(path) as temporary:
            save_overlay_figure(figure, temporary)

    @staticmethod
    def _report(
        stem: str, notes: list[str], sample: Mapping[Hashable, Any], files: Mapping[str, Path]
    ) -> dict[str, Any]:
        row = sample[RESULTS_KEY]
        about = ("file", "eye", "layer", "fov_height_mm", "fov_width_mm", "pixel_height_mm", "pixel_width_mm")
        quality = sample[QUALITY_KEY]
        return {
            "study": stem,
            "caution": CAPTION,
            "image": {key: row[key] for key in about},
            "quality": {
                "doubtful": quality.doubtful,
                "reasons": list(quality.reasons),
                "score": float(quality.score),
                "numbers": {name: float(value) for name, value in quality.numbers.items()},
            },
            "notes": notes,
            "files": {name: path.name for name, path in files.items()},
            "biomarkers": sample[BIOMARKERS_KEY].rows(),
        }
