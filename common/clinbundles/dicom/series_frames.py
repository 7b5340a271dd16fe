"""The frames of DICOM headers, classic and enhanced alike: where each lies, when, and how its values scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clinbundles.dicom.series_error import SeriesError

# Attributes that tell frames at one position apart, in the order in which a message names them.
TRAITS = (
    *("ImageType", "FrameType", "ComplexImageComponent", "EchoTime", "EffectiveEchoTime", "EchoNumbers"),
    *("DiffusionBValue", "InversionTime", "ReferencedSegmentNumber", "StackID"),
)
# Attributes that order frames in time, best first; those with a factor are times (times factor = ms).
TIMES: dict[str, float | None] = {
    "TriggerTime": 1.0,
    "NominalCardiacTriggerDelayTime": 1.0,
    "FrameReferenceTime": 1.0,
    "TemporalPositionTimeOffset": 1000.0,
    "TemporalPositionIdentifier": None,
    "TemporalPositionIndex": None,
    "FrameAcquisitionDateTime": None,
    "AcquisitionDateTime": None,
    "AcquisitionTime": None,
    "AcquisitionNumber": None,
    "InstanceNumber": None,
}
_CENTIMETRE = 3  # PhysicalUnitsXDirection of an ultrasound region


@dataclass(frozen=True)
class Frame:
    """One plane of pixels.

    Attributes:
        file: which of the files it is in, from 0.
        number: which frame of the file, from 0.
        rows, columns: its size.
        position: (3,) centre of its first pixel in mm, patient coordinates (LPS); None if not stated.
        orientation: (2, 3) directions along a row and down a column as stated (of length 1 but for rounding); None if
            not stated.
        spacing: (row, column) distance of pixel centres in mm; None if not stated.
        slice_step: stated distance to the next slice in mm; None if not stated.
        thickness: stated thickness of the slice in mm; None if not stated.
        slope, intercept: value = slope * stored + intercept.
        times: attributes that order frames in time, by name.
        traits: attributes that tell frames at one position apart, by name.
    """

    file: int
    number: int
    rows: int
    columns: int
    position: np.ndarray | None = None
    orientation: np.ndarray | None = None
    spacing: tuple[float, float] | None = None
    slice_step: float | None = None
    thickness: float | None = None
    slope: float = 1.0
    intercept: float = 0.0
    times: dict[str, float] = field(default_factory=dict)
    traits: dict[str, str] = field(default_factory=dict)


def frames_of(header: Any, file: int, where: str) -> list[Frame]:
    """The frames of one file, in stored order.

    Args:
        header: the file's attributes (a pydicom data set; pixels are not needed).
        file: which of the series' files it is.
        where: what to call the file in messages.

    Raises:
        SeriesError: no image, a mosaic, colour, or a header that contradicts itself.
    """
    rows, columns = int(header.get("Rows", 0) or 0), int(header.get("Columns", 0) or 0)
    if not rows or not columns:
        raise SeriesError(f"{where}: holds no image (it is a {header.SOPClassUID.name})")
    if "MOSAIC" in (header.get("ImageType") or []):
        raise SeriesError(
            f"{where}: is a Siemens mosaic, in which the slices are tiles of one picture: export the series as single "
            "slices or enhanced multi-frame, or convert it to NIfTI with dcm2niix"
        )
    count = int(header.get("NumberOfFrames", 1) or 1)
    per_frame = list(header.get("PerFrameFunctionalGroupsSequence", []) or [])
    if per_frame and len(per_frame) != count:
        raise SeriesError(f"{where}: states {count} frames but describes {len(per_frame)}: the file is damaged")
    shared = list(header.get("SharedFunctionalGroupsSequence", []) or [])
    frames = []
    for number in range(count):
        groups = ([per_frame[number]] if per_frame else []) + shared[:1]
        # the top level describes a plane only if there is one: in a plain multi-frame file it is the first at best
        top = header if count == 1 or per_frame else None
        frames.append(_frame(_Attributes(header, groups, top), file, number, rows, columns, where))
    return frames


class _Attributes:
    """Looks an attribute up in the groups of a frame (one level deep), then at the top."""

    def __init__(self, header: Any, groups: list[Any], plane_header: Any) -> None:
        self.header = header
        self.plane_header = plane_header
        self.items = [item for group in groups for item in _items_of(group)]

    def plane(self, name: str) -> Any:
        """An attribute of the plane."""
        return self._find(name, self.plane_header)

    def any(self, name: str) -> Any:
        """An attribute of the frame or of all frames."""
        return self._find(name, self.header)

    def _find(self, name: str, top: Any) -> Any:
        for item in self.items:
            value = item.get(name)
            if value not in (None, ""):
                return value
        value = None if top is None else top.get(name)
        return None if value == "" else value


def _items_of(group: Any) -> Iterator[Any]:
    for element in group:
        # private groups hold copies of other coordinate systems (Philips): only the standard ones count
        if element.VR == "SQ" and not element.tag.is_private and element.value:
            yield element.value[0]


def _frame(found: _Attributes, file: int, number: int, rows: int, columns: int, where: str) -> Frame:
    position = _numbers(found.plane("ImagePositionPatient"), 3, where, "ImagePositionPatient")
    directions = _numbers(found.plane("ImageOrientationPatient"), 6, where, "ImageOrientationPatient")
    orientation = None if directions is None else _checked(directions.reshape(2, 3), where)
    slope, intercept = found.any("RescaleSlope"), found.any("RescaleIntercept")
    step, thickness = found.any("SpacingBetweenSlices"), found.any("SliceThickness")
    times = {name: found.any(name) for name in TIMES}
    frame_time = found.any("FrameTime")
    values = {name: _time(value) for name, value in times.items() if value is not None}
    if frame_time is not None and found.plane_header is None:  # a plain multi-frame cine, such as ultrasound
        values["TriggerTime"] = number * float(frame_time)
    traits = {name: found.any(name) for name in TRAITS}
    return Frame(
        file=file,
        number=number,
        rows=rows,
        columns=columns,
        position=position if orientation is not None else None,
        orientation=orientation if position is not None else None,
        spacing=_spacing(found, where),
        slice_step=abs(float(step)) if step else None,
        thickness=float(thickness) if thickness else None,
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        times={name: value for name, value in values.items() if value is not None},
        traits={name: _text(value) for name, value in traits.items() if value is not None},
    )


def _numbers(value: Any, count: int, where: str, name: str) -> np.ndarray | None:
    if value is None or value == "":
        return None
    try:
        numbers = np.asarray([float(part) for part in value])
    except (TypeError, ValueError):
        numbers = np.full(0, np.nan)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise SeriesError(f"{where}: {name} is not {count} numbers: the header is damaged")
    return numbers


def _checked(directions: np.ndarray, where: str) -> np.ndarray:
    lengths = np.linalg.norm(directions, axis=1)
    if np.any(np.abs(lengths - 1) > 1e-2) or abs(directions[0] @ directions[1]) > 1e-2:
        raise SeriesError(f"{where}: ImageOrientationPatient is not two orthogonal unit vectors: the header is damaged")
    return directions


def _spacing(found: _Attributes, where: str) -> tuple[float, float] | None:
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        numbers = _numbers(found.any(name), 2, where, name)
        if numbers is not None and (numbers > 0).all():
            return float(numbers[0]), float(numbers[1])
    for region in found.header.get("SequenceOfUltrasoundRegions", []) or []:
        units = region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")
        if units == (_CENTIMETRE, _CENTIMETRE):
            return 10 * abs(float(region.PhysicalDeltaY)), 10 * abs(float(region.PhysicalDeltaX))
    return None


def _time(value: Any) -> float | None:
    """A number that grows with time; of a date and time (YYYYMMDDHHMMSS.F) its digits, which do."""
    try:
        return float(value if not isinstance(value, str) else value.split("+")[0])
    except (TypeError, ValueError):
        return None


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str) or not hasattr(value, "__iter__") else "\\".join(map(str, value))
