"""What a bundle says of itself to DICOM, in configs/dicom.yaml: the series it takes, the segments it writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinbundles.data.strict_yaml import read_yaml

LONGEST_LABEL = 64  # characters that DICOM allows (LO)
STUDIES = ("series", "exam", "raw")


@dataclass(frozen=True)
class CodedTerm:
    """A concept of a coding scheme, such as SCT 20982000 "Capillary"."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Segment:
    """One label of a label map as DICOM names it.

    Attributes:
        label: name of the label.
        category: what kind of thing it is (CID 7150), such as Tissue.
        type: the thing itself (CID 7151 or 7166), such as Capillary.
        region: where in the body, None if nothing is said.
    """

    label: str
    category: CodedTerm
    type: CodedTerm
    region: CodedTerm | None = None


@dataclass(frozen=True)
class Algorithm:
    """What made a result.

    Attributes:
        name: display name.
        version: of the bundle.
        family: kind of algorithm (CID 7162), such as DCM 123110 Artificial Intelligence.
    """

    name: str
    version: str
    family: CodedTerm


@dataclass(frozen=True)
class DicomDescription:
    """Content of a bundle's ``configs/dicom.yaml``.

    Attributes:
        series: rules of :func:`clinbundles.dicom.select_series`, {} takes every series.
        segments: foreground labels by number, {} if the bundle gives no label map.
        algorithm_name, algorithm_family: of :class:`Algorithm`, None without segments.
        study: what one study of the bundle is: "series"; "exam" for all series of an examination that fit; "raw" for
            raw data of a scanner, such as k-space, which are no DICOM images.
    """

    series: dict[str, str] = field(default_factory=dict)
    segments: dict[int, Segment] = field(default_factory=dict)
    algorithm_name: str | None = None
    algorithm_family: CodedTerm | None = None
    study: str = "series"

    def algorithm(self, version: str) -> Algorithm:
        """The algorithm in one version.

        Raises:
            ValueError: the description names none.
        """
        if self.algorithm_name is None or self.algorithm_family is None:
            raise ValueError("dicom.yaml names no algorithm (name, family), which a DICOM segmentation needs")
        return Algorithm(self.algorithm_name, version, self.algorithm_family)


def read_dicom_description(path: str | os.PathLike[str]) -> DicomDescription:
    """Read ``configs/dicom.yaml``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an entry that is not understood; says which and what is expected.
    """
    path = Path(path)
    content = read_yaml(path) or {}
    _refuse_other_keys(content, ("study", "series", "segments", "algorithm"), f"{path.name}")
    study = content.get("study", STUDIES[0])
    if study not in STUDIES:
        raise ValueError(f"{path.name}: study is {study!r}, expected {' or '.join(STUDIES)}")
    segments = {
        _number(number, path.name): _segment(entry, f"{path.name}, segment {number}")
        for number, entry in (content.get("segments") or {}).items()
    }
    algorithm = content.get("algorithm") or {}
    _refuse_other_keys(algorithm, ("name", "family"), f"{path.name}, algorithm")
    if segments and set(algorithm) != {"name", "family"}:
        raise ValueError(f"{path.name}: segments need an algorithm with name and family")
    return DicomDescription(
        series={str(name): str(rule) for name, rule in (content.get("series") or {}).items()},
        segments=dict(sorted(segments.items())),
        algorithm_name=None if "name" not in algorithm else _short(algorithm["name"], f"{path.name}, algorithm"),
        algorithm_family=None if "family" not in algorithm else _term(algorithm["family"], f"{path.name}, family"),
        study=study,
    )


def _refuse_other_keys(content: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(content, Mapping) or set(content) - set(known):
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else repr(content)
        raise ValueError(f"{where}: expected {', '.join(known)}; found {found}")


def _number(value: Any, where: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{where}: segments are the numbers of foreground labels (1, 2, ...), found {value!r}")
    return value


def _short(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_LABEL:
        raise ValueError(f"{where}: expected a name of at most {LONGEST_LABEL} characters, found {value!r}")
    return value


def _segment(entry: Any, where: str) -> Segment:
    _refuse_other_keys(entry, ("label", "category", "type", "region"), where)
    missing = [key for key in ("label", "category", "type") if key not in entry]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} is missing")
    return Segment(
        _short(entry["label"], where),
        _term(entry["category"], f"{where}, category"),
        _term(entry["type"], f"{where}, type"),
        _term(entry["region"], f"{where}, region") if "region" in entry else None,
    )


def _term(value: Any, where: str) -> CodedTerm:
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(part, str) and part for part in value):
        raise ValueError(f'{where}: expected [scheme, "code", meaning], all texts, found {value!r}')
    return CodedTerm(*value)
