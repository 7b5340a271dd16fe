"""The files of a folder as exams: all images of one examination are one study."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from clinbundles.data.dicom_studies import StudyFiles, files_inside
from clinbundles.dicom.series_listing import DicomSeries, is_dicom, list_series

logger = logging.getLogger(__name__)


def exams_of(files: Sequence[Path], root: Path) -> list[StudyFiles]:
    """Group DICOM files by Study Instance UID, and all other files by the folder they lie in. Sorted by place.

    An exam is named after its folder: the one that holds nothing but this exam, whatever folders below it have a
    series each; files beside other exams are named after the first of them. DICOM objects that are no image and links
    that lead out of ``root`` are left out; the log says how many. A DICOM file that cannot be read belongs to the exam
    beside which it lies, so that this exam fails by name instead of being done without it.
    """
    inside = files_inside(files, root)
    dicom = [file for file in inside if is_dicom(file)]
    groups = _dicom_exams(list_series(dicom))
    of_folders: dict[Path, list[Path]] = {}
    for file in sorted(set(inside) - set(dicom)):
        of_folders.setdefault(file.parent, []).append(file)
    used = {file.parent for group in groups for file in group}
    alone = not groups and len(of_folders) == 1
    exams = []
    for folder, members in of_folders.items():
        own = folder not in used and (folder != root or alone)
        exams.append(StudyFiles(tuple(members), folder if own else members[0], is_series=True))
    for group in groups:
        others = [path for other in (*groups, *of_folders.values()) if other is not group for path in other]
        exams.append(StudyFiles(tuple(group), _place(group, others, root), is_series=True))
    return sorted(exams, key=lambda exam: exam.place)


def exam_images(files: Iterable[str | os.PathLike[str]]) -> list[str | list[str]]:
    """The images of an exam, sorted by their first file: a path each, or the paths of a DICOM series.

    Args:
        files: all files of the exam, as ``case["image"]`` of a :class:`clinbundles.data.study_folder.StudyFolder` with
            ``exams`` has them.
    """
    paths = [Path(file) for file in files]
    dicom = [path for path in paths if is_dicom(path)]
    images: list[list[str]] = [[str(path)] for path in paths if path not in set(dicom)]
    images += [[str(file) for file in series.files] for series in list_series(dicom) if series.has_image]
    single = {str(path) for path in paths} - {str(path) for path in dicom}
    return [image[0] if image[0] in single else image for image in sorted(images)]


def _dicom_exams(listed: Sequence[DicomSeries]) -> list[list[Path]]:
    images = [series for series in listed if series.has_image]
    if len(images) < len(listed):
        logger.info("%d DICOM objects are no images and are left out", len(listed) - len(images))
    exams: dict[str, list[Path]] = {}
    for series in images:
        if not series.damaged:  # a header without the UID: what lies in one folder belongs together
            exams.setdefault(series.study_uid or str(series.files[0].parent), []).extend(series.files)
    for series in images:
        if series.damaged:
            beside = [exam for exam in exams.values() if any(file.parent == series.files[0].parent for file in exam)]
            target = beside[0] if len(beside) == 1 else exams.setdefault(series.uid, [])
            target.extend(series.files)
    return [sorted(exam) for exam in exams.values()]


def _place(group: Sequence[Path], others: Sequence[Path], root: Path) -> Path:
    folder = group[0].parent
    while not all(file.is_relative_to(folder) for file in group):
        folder = folder.parent
    alone = folder.is_relative_to(root) and not any(file.is_relative_to(folder) for file in others)
    return folder if alone else group[0]
