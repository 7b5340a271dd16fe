"""The DICOM files of a folder as studies: a series is one."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clinbundles.dicom.series_listing import is_dicom, leads_out, list_series

DICOM_ENDINGS = (".dcm", ".dicom", ".ima")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyFiles:
    """The files of one study.

    Attributes:
        files: sorted paths; one for anything but DICOM and exams.
        place: what the study is named after, in the user's own words: the folder that holds nothing but this series,
            else the first file. No attribute of the images goes into a name.
        is_series: whether it is a DICOM series or an exam, which a case gives as the list of its files.
    """

    files: tuple[Path, ...]
    place: Path
    is_series: bool = False


def files_inside(files: Sequence[Path], root: Path) -> list[Path]:
    """The files without links that lead out of ``root``; the log says how many were left out."""
    inside = [file for file in files if not leads_out(file, root)]
    if len(inside) < len(files):
        logger.warning("%d links lead out of %s and are left out", len(files) - len(inside), root.name)
    return inside


def studies_of(files: Sequence[Path], root: Path) -> list[StudyFiles]:
    """Group DICOM files into series; every other file stays a study of its own. Sorted by place.

    Objects that are no image (reports, presentation states, plans) and links that lead out of ``root`` are left out;
    the log says how many. A series that cannot be read stays a study, so that it is listed as failed.
    """
    inside = files_inside(files, root)
    dicom = [file for file in inside if is_dicom(file)]
    listed = list_series(dicom)
    images = [series.files for series in listed if series.has_image]
    if len(images) < len(listed):
        logger.info("%d DICOM objects are no images and are left out", len(listed) - len(images))
    singles = [StudyFiles((file,), file) for file in sorted(set(inside) - set(dicom))]
    groups = [*images, *(single.files for single in singles)]
    owners: dict[Path, set[int]] = {}  # folder -> the studies with a file in it or below
    for number, group in enumerate(groups):
        for folder in {file.parent for file in group}:
            for above in (folder, *folder.parents):
                owners.setdefault(above, set()).add(number)
    series = [StudyFiles(group, _place(group, owners, root), is_series=True) for group in images]
    return sorted([*series, *singles], key=lambda study: study.place)


def _place(group: Sequence[Path], owners: Mapping[Path, set[int]], root: Path) -> Path:
    folder = group[0].parent
    while not all(file.is_relative_to(folder) for file in group):  # a series may lie in several folders
        folder = folder.parent
    return folder if len(owners[folder]) == 1 and folder.is_relative_to(root) else group[0]


def files_digest(digests: Iterable[str]) -> str:
    """One SHA-256 for several files by theirs, whatever their order and names."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
