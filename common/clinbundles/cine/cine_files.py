"""The cine planes of an exam's files, NIfTI or DICOM, before anyone knows which view each is."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from clinbundles.cine.cine_exam import CineExamError, CineView
from clinbundles.dicom import list_series, mismatches, read_series
from clinbundles.dicom.series_listing import is_dicom

NIFTI_ENDINGS = (".nii", ".nii.gz")
LABELS = (0, 1, 2, 3)
_SHEAR_DEGREES = 0.5
_FORMS_DISAGREE_MM = 1.0
_LONGEST_FRAME_MS = 300.0  # longer cannot resolve a heart beat: such a pixdim[4] is a placeholder

logger = logging.getLogger(__name__)


def exam_files(image: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The image files of a folder (and the folders below) or of a list: NIfTI by ending, DICOM by content.

    Raises:
        FileNotFoundError: no such file or folder.
        CineExamError: no image file.
    """
    given = [Path(image)] if isinstance(image, str | os.PathLike) else [Path(path) for path in image]
    files: list[Path] = []
    for path in given:
        if not path.exists():
            raise FileNotFoundError(f"{path.name}: no such file or folder")
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [file for file in inside if file.is_file() and not file.name.startswith(".") and _is_image(file)]
    if not files:
        raise CineExamError(
            f"{given[0].name if given else 'the exam'}: holds no NIfTI (.nii, .nii.gz) and no DICOM file"
        )
    return files


def _is_image(file: Path) -> bool:
    return file.name.lower().endswith(NIFTI_ENDINGS) or is_dicom(file)


def read_planes(files: Sequence[Path], series_rules: Mapping[str, str] | None = None) -> list[CineView]:
    """Every cine among the files, one view each, still without a name. Single images (localizers) are left out.

    Args:
        files: of :func:`exam_files`.
        series_rules: what a DICOM series must be, keyword -> regular expression; others are left out.

    Raises:
        CineExamError: a NIfTI file that is no cine or whose geometry is wrong.
        SeriesError: a DICOM series that is no regular image.
    """
    nifti = [file for file in files if file.name.lower().endswith(NIFTI_ENDINGS)]
    dicom = [file for file in files if file not in set(nifti)]
    views = [read_nifti_cine(file) for file in nifti]
    if dicom:
        views += _read_dicom_cines(dicom, series_rules or {})
    return views


def _read_dicom_cines(files: Sequence[Path], rules: Mapping[str, str]) -> list[CineView]:
    views = []
    for series in list_series(files):
        if not series.has_image or (rules and not series.damaged and mismatches(series, rules)):
            continue
        image = read_series(series, time=True)
        if image.shape[-1] == 1:
            logger.info("%s holds one phase and is left out", series)
            continue
        if not image.meta["patient_coordinates"]:
            raise CineExamError(f"{series}: states no position in the patient; a cine plane needs one to be a view")
        affine = np.asarray(image.affine, dtype=float)
        affines = np.repeat(affine[None], image.shape[3], axis=0)
        affines[:, :3, 3] += np.arange(image.shape[3])[:, None] * affine[:3, 2]
        views.append(
            CineView(
                "",
                image[0].numpy(),
                affines,
                np.asarray(image.meta["frame_times_ms"], dtype=float),
                (str(series),) * image.shape[3],
            )
        )
    return views


def read_nifti_cine(file: Path, *, is_label: bool = False) -> CineView:
    """A NIfTI file (I, J, K, T) with its affine in RAS mm and its times from pixdim[4].

    Raises:
        CineExamError: not 4D; an affine that is missing, singular or sheared; qform and sform that disagree.
        FileNotFoundError: no such file.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file.name}: no such file")
    try:
        image: Any = nibabel.load(file)
        values = np.asarray(image.dataobj, dtype=np.uint8 if is_label else np.float32)
    except Exception as error:
        raise CineExamError(
            f"{file.name}: cannot be read as NIfTI, is it damaged or cut off? ({type(error).__name__})"
        ) from None
    if values.ndim == 5 and values.shape[4] == 1:
        values = values[..., 0]
    if values.ndim != 4 or values.shape[3] < 2:
        raise CineExamError(
            f"{file.name}: has the dimensions {' x '.join(map(str, values.shape))}, expected 4: columns x rows x "
            "slices x phases. A cine of one plane is columns x rows x 1 x phases: is the time axis the third one here?"
        )
    affine = _checked_affine(image, values.shape, file.name)
    affines = np.repeat(affine[None], values.shape[2], axis=0)
    affines[:, :3, 3] += np.arange(values.shape[2])[:, None] * affine[:3, 2]
    times = _nifti_times(image, values.shape[3])
    return CineView("", values, affines, times, (file.name,) * values.shape[2])


def _checked_affine(image: Any, shape: Sequence[int], where: str) -> np.ndarray:
    header = image.header
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is None and qform is None:
        raise CineExamError(
            f"{where}: has no affine (neither qform nor sform is set): where the planes lie is unknown; convert the "
            "DICOM files again, for instance with dcm2niix"
        )
    if sform is not None and qform is not None:
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.asarray(shape[:3]) - 1)
        apart = (corners @ (sform - qform)[:3, :3].T) + (sform - qform)[:3, 3]
        worst = float(np.linalg.norm(apart, axis=1).max())
        if not worst <= _FORMS_DISAGREE_MM:
            raise CineExamError(
                f"{where}: its qform and sform disagree by {worst:.3g} mm (at most {_FORMS_DISAGREE_MM:g}): one of "
                "them is wrong; remove it (its code becomes 0) or convert the images again"
            )
    affine = np.asarray(image.affine, dtype=float)
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or (lengths < 1e-6).any():
        raise CineExamError(f"{where}: its affine is singular: expected three axes in mm; convert the images again")
    cosines = np.abs(np.triu((columns / lengths).T @ (columns / lengths), 1))
    angle = float(np.degrees(np.arcsin(np.clip(cosines.max(), 0, 1))))
    if angle > _SHEAR_DEGREES:
        singular = "singular" if abs(np.linalg.det(columns / lengths)) < 1e-3 else f"sheared by {angle:.1f} degrees"
        raise CineExamError(
            f"{where}: its affine is {singular} (at most {_SHEAR_DEGREES:g} degrees): expected orthogonal axes; "
            "resample it to an upright grid first"
        )
    return affine


def _nifti_times(image: Any, phases: int) -> np.ndarray:
    """(T,) ms, NaN where pixdim[4] holds no frame time."""
    step = float(image.header["pixdim"][4])
    unit = image.header.get_xyzt_units()[1]
    factor = {"sec": 1000.0, "msec": 1.0, "usec": 1e-3}.get(unit, 1.0 if step >= 5 else 1000.0)
    step *= factor
    if not 0 < step <= _LONGEST_FRAME_MS:
        return np.full(phases, np.nan)
    return np.arange(phases) * step
