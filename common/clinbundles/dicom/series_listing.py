"""Which DICOM series a folder holds, by the headers alone."""

from __future__ import annotations

import filecmp
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import UID

from clinbundles.dicom.series_error import SeriesError

DICOMDIR = "1.2.840.10008.1.3.10"
_PATIENT_GROUP = 0x0010
_LISTED = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", "SeriesNumber", "Rows")
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DicomSeries:
    """The files of one series. Nothing here tells of the patient.

    Attributes:
        uid: Series Instance UID; the file's path where a file states none.
        files: its files, sorted by path, byte-identical copies left out.
        modality: such as "MR".
        sop_class: what kind of object it is, in words, such as "Enhanced MR Image Storage".
        number: Series Number, None where there is none.
        has_image: whether its files are images (not reports, presentation states or plans).
        damaged: whether the header cannot be read.
        study_uid: Study Instance UID: series of one examination share it; empty where a file states none.
    """

    uid: str = field(repr=False)
    files: tuple[Path, ...] = field(repr=False)
    modality: str = ""
    sop_class: str = ""
    number: int | None = None
    has_image: bool = True
    damaged: bool = False
    study_uid: str = field(default="", repr=False)

    @disable_value_validation()
    def attributes(self, name: str) -> str:
        """Value of an attribute in the first file, by its keyword; several values are joined by a backslash.

        Args:
            name: keyword such as "ImageType" or "BodyPartExamined".

        Raises:
            SeriesError: no such keyword, or an attribute of the patient or another person.
        """
        tag = tag_for_keyword(name)
        if tag is None:
            raise SeriesError(f"'{name}' is no DICOM keyword; expected one such as Modality or ImageType")
        if Tag(tag).group == _PATIENT_GROUP or dictionary_VR(tag) == "PN":
            raise SeriesError(f"'{name}' tells of a person: series are not chosen by it")
        if self.damaged:
            return ""
        value: Any = pydicom.dcmread(self.files[0], stop_before_pixels=True, specific_tags=[name]).get(name, "")
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return "\\".join(str(part) for part in value)
        return "" if value is None else str(value)

    def __str__(self) -> str:
        files = f"{len(self.files)} files from {self.files[0].name}" if len(self.files) > 1 else self.files[0].name
        number = "" if self.number is None else f" {self.number}"
        kind = "unreadable" if self.damaged else self.modality or "unnamed"
        return f"{kind} series{number} ({files})"


@dataclass(frozen=True)
class SeriesScan:
    """What was found: the series, and the files that are no DICOM."""

    series: list[DicomSeries]
    skipped: list[Path]


def list_series(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[DicomSeries]:
    """All series below a folder, in a file or in a list of files, sorted by their first file.

    Files that are no DICOM, DICOMDIR, hidden files and links that lead out of the folder are left out; the log says
    how many. A file with a DICOM preamble whose header cannot be read becomes a series of its own that is ``damaged``,
    so that it comes out as an error instead of a missing slice.

    Raises:
        FileNotFoundError: no such folder or file.
    """
    scan = scan_series(paths)
    if scan.skipped:
        logger.info("%d files are no DICOM and are left out", len(scan.skipped))
    return scan.series


@disable_value_validation()  # pydicom's warnings would carry values of the header into the log
def scan_series(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> SeriesScan:
    """As :func:`list_series`, with the files that were left out."""
    members: dict[str, list[tuple[DicomSeries, str]]] = {}
    skipped: list[Path] = []
    for file in _files_of(paths):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_LISTED)
            if header.file_meta.get("MediaStorageSOPClassUID") == DICOMDIR:
                skipped.append(file)
                continue
            one, instance = _series_of(file, header), str(header.get("SOPInstanceUID", ""))
        except InvalidDicomError:
            skipped.append(file)
            continue
        except Exception:  # pydicom raises a dozen kinds for broken headers
            one, instance = DicomSeries(str(file), (file,), damaged=True), ""
        members.setdefault(one.uid, []).append((one, instance))
    found = [_joined(files) for files in members.values()]
    return SeriesScan(sorted(found, key=lambda series: series.files[0]), skipped)


def is_dicom(file: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    with file.open("rb") as content:
        return content.read(132)[128:] == b"DICM"


def leads_out(file: Path, folder: Path) -> bool:
    """Whether a file below ``folder`` is a link to somewhere else: such files are never read."""
    return not file.resolve().is_relative_to(folder.resolve())


def _files_of(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            files += _files_below(path)
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"{path.name}: no such file or folder")
    return sorted(set(files))


def _files_below(root: Path) -> list[Path]:
    found: list[Path] = []
    outside = 0
    for folder, folders, names in os.walk(root):  # does not follow links to folders
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(folder) / name for name in names if not name.startswith(".")):
            if leads_out(path, root):
                outside += 1
            elif path.is_file():
                found.append(path)
    if outside:
        logger.warning("%d links lead out of the folder %s and are left out", outside, root.name)
    return found


def _series_of(file: Path, header: Any) -> DicomSeries:
    """The series as one of its files tells of it."""
    if not header.get("SOPClassUID"):
        return DicomSeries(str(file), (file,), damaged=True)
    kind = UID(str(header.SOPClassUID)).name
    number = header.get("SeriesNumber")
    return DicomSeries(
        str(header.get("SeriesInstanceUID", "") or file),
        (file,),
        modality=str(header.get("Modality", "") or ""),
        sop_class=kind,
        number=None if number in (None, "") else int(number),
        has_image=bool(header.get("Rows")) or "Image Storage" in kind,  # an image cut off before Rows is still one
        study_uid=str(header.get("StudyInstanceUID", "") or ""),
    )


def _joined(members: list[tuple[DicomSeries, str]]) -> DicomSeries:
    """One series of all its files, without byte-identical copies."""
    kept: dict[str, list[Path]] = {}
    copies = 0
    for one, instance in members:
        twins = kept.setdefault(instance, [])
        # equal UIDs alone are no copies: careless anonymisers make them
        if any(filecmp.cmp(one.files[0], twin, shallow=False) for twin in twins):
            copies += 1
        else:
            twins.append(one.files[0])
    if copies:
        logger.info("%d files are copies of others in their series and are left out", copies)
    files = tuple(sorted(file for twins in kept.values() for file in twins))
    return replace(members[0][0], files=files, has_image=any(one.has_image for one, _ in members))
