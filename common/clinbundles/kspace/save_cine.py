"""Writing of a reconstructed cine: NIfTI for research, DICOM for viewers."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from monai.transforms import Transform

from clinbundles.data.atomic_file import atomic_path
from clinbundles.dicom.result_equipment import ResultEquipment
from clinbundles.kspace.cine_dicom_writer import write_dicom_cine
from clinbundles.kspace.kspace_case import KspaceError

logger = logging.getLogger(__name__)


class SaveCined(Transform):
    """Write the cine of one slice below ``OUTPUT_DIR/STUDY/``.

    - ``STUDY_magnitude.nii.gz`` and ``STUDY_phase.nii.gz`` (rad): (X, Y, 1, T) float32 with pixel size, frame time and
      place. Two real files instead of a complex one, because viewers open these: complex = magnitude exp(i phase).
    - ``STUDY_dicom/0001.dcm`` ...: the magnitude, see :func:`clinbundles.kspace.cine_dicom_writer.write_dicom_cine`.

    All files are complete or not there. Adds the paths to ``files`` of the sample.

    Args:
        output_dir: folder of the results.
        key: key of the complex cine (T, X, Y).
        bundle, version, notice: who made it.
        phase: whether the phase is written.
        dicom: whether DICOM is written; left out, with a warning, where the pixel size is not known.
        source_header: a DICOM file of the same examination for patient and study; the key ``source_header`` of the case
            wins.

    Raises:
        KspaceError: a cine that is not finite or has other axes.
    """

    def __init__(
        self,
        output_dir: str | Path,
        key: str = "pred",
        *,
        bundle: str = "",
        version: str = "",
        notice: str = "Research use only.",
        phase: bool = True,
        dicom: bool = True,
        source_header: str | Path | None = None,
    ) -> None:
        self.output_dir = Path(output_dir).expanduser()
        self.key = key
        self.equipment = ResultEquipment(bundle, version, notice)
        self.phase = phase
        self.dicom = dicom
        self.source_header = source_header

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write one case."""
        sample = dict(data)
        case = str(sample.get("study") or sample["case"])
        cine = np.asarray(sample[self.key].detach().cpu().resolve_conj().numpy())
        if cine.ndim != 3 or not np.isfinite(cine).all():
            raise KspaceError(
                f"case '{case}': {self.key} has the shape {cine.shape} and {int((~np.isfinite(cine)).sum())} values "
                "that are not finite, expected a finite cine (frames, readout, phase encoding)"
            )
        affine = np.asarray(sample["affine"], dtype=np.float64).reshape(4, 4)
        frame_ms = float(sample.get("frame_ms", math.nan))
        known = bool(sample.get("spacing_known", True))
        stem = self.output_dir / case / Path(case).name
        files = {"magnitude": Path(f"{stem}_magnitude.nii.gz")}
        write_nifti_cine(files["magnitude"], np.abs(cine), affine, frame_ms, known)
        if self.phase:
            files["phase"] = Path(f"{stem}_phase.nii.gz")
            write_nifti_cine(files["phase"], np.angle(cine), affine, frame_ms, known)
        if self.dicom and not known:
            logger.warning("case '%s': no DICOM is written, because the pixel size is not known: give spacing_mm", case)
        elif self.dicom:
            folder = Path(f"{stem}_dicom")
            for old in folder.glob("[0-9][0-9][0-9][0-9].dcm"):  # of an earlier run, perhaps with more frames
                old.unlink()
            try:
                write_dicom_cine(
                    folder,
                    np.abs(cine),
                    affine,
                    self.equipment,
                    frame_ms=frame_ms,
                    cyclic=bool(sample.get("cyclic", True)),
                    acceleration=float(sample.get("acceleration", math.nan)),
                    name=Path(case).name,
                    source_header=sample.get("source_header") or self.source_header,
                )
            except ValueError as error:
                raise KspaceError(f"case '{case}': {self.key} as DICOM: {error}") from None
            files["dicom"] = folder
        sample["files"] = {**sample.get("files", {}), **{name: str(path) for name, path in files.items()}}
        return sample


def write_nifti_cine(
    path: Path,
    cine: npt.NDArray[np.floating],
    affine: npt.NDArray[np.floating],
    frame_ms: float = math.nan,
    spacing_known: bool = True,
) -> None:
    """Write (T, X, Y) as a NIfTI file (X, Y, 1, T); pixdim[4] is the frame time in ms, 0 where it is not known."""
    image = nibabel.Nifti1Image(np.moveaxis(cine, 0, -1)[:, :, None, :].astype(np.float32), affine)
    timed = math.isfinite(frame_ms) and frame_ms > 0
    header = image.header
    header["pixdim"][4] = frame_ms if timed else 0
    header.set_xyzt_units("mm" if spacing_known else "unknown", "msec" if timed else "unknown")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)
