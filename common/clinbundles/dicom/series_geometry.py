"""From the frames of a series to one regular grid in patient coordinates, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clinbundles.dicom.series_error import SeriesError
from clinbundles.dicom.series_frames import TIMES, Frame

DIRECTION_TOLERANCE = 1e-3  # largest difference of a direction cosine: 0.06 degrees
SPACING_TOLERANCE = 1e-3  # relative difference of pixel spacings
TILT_TOLERANCE_DEGREES = 0.5  # smaller shears are exact in the affine
STEP_TOLERANCE = 0.2  # part of the slice distance by which a slice may miss its place: 0.1 mm in 0.6 is rounding
SAME_POSITION_MM = 1e-3
_LISTED = 5  # entries of a list in a message
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class SeriesGrid:
    """A regular grid and the frames on it.

    Attributes:
        frames: (slices, times) frames as nested lists, slices along the normal of the planes.
        affine: 4x4, voxel (column, row, slice) to RAS mm.
        patient_coordinates: whether the files state where the grid lies in the patient.
        spacing_known: whether the files state the size of a pixel; 1 mm is assumed where not.
        times_ms: (times,) time of each point in time in the first slice, NaN where the files state an order only.
    """

    frames: list[list[Frame]]
    affine: np.ndarray
    patient_coordinates: bool
    spacing_known: bool
    times_ms: np.ndarray


def series_grid(frames: Sequence[Frame], where: str, time: bool = False) -> SeriesGrid:
    """Arrange the frames of a series, whatever their order, on one grid.

    Slices are sorted along the normal (row direction x column direction), as ITK does. The step between slices is the
    measured one, from the first to the last position.

    Args:
        frames: all frames.
        where: what to call the series in messages.
        time: whether several frames at one position are points in time; False refuses them.

    Raises:
        SeriesError: frames of different size, spacing or orientation; slices that are tilted against their stack,
            missing, unevenly spaced or at one position; no position; says how many, which and where.
    """
    _check_equal(frames, where)
    placed = [frame for frame in frames if frame.position is not None]
    if placed and len(placed) < len(frames):
        raise SeriesError(
            f"{where}: {len(frames) - len(placed)} of {len(frames)} frames state no position and direction"
        )
    if not placed:
        return _grid_without_positions(frames, where, time)
    orientation = _common_orientation(frames, where)
    normal = np.cross(orientation[0], orientation[1])
    groups = _by_position(frames, normal, where)
    if time:
        slices, times = _in_time(groups, normal, where)
    else:
        _refuse_shared_positions(groups, normal, where)
        slices, times = groups, np.zeros(1)
    origins = np.asarray([group[0].position for group in slices])
    step = _slice_step(origins, normal, where) if len(slices) > 1 else normal * _stated_step(frames[0])
    spacing = frames[0].spacing
    rows_mm, columns_mm = spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = orientation[0] * columns_mm
    affine[:3, 1] = orientation[1] * rows_mm
    affine[:3, 2] = step
    affine[:3, 3] = origins[0]
    return SeriesGrid(slices, _LPS_TO_RAS @ affine, True, spacing is not None, times)


def _check_equal(frames: Sequence[Frame], where: str) -> None:
    sizes = {(frame.rows, frame.columns) for frame in frames}
    if len(sizes) > 1:
        found = _counted([f"{frame.rows} x {frame.columns} pixels" for frame in frames])
        raise SeriesError(f"{where}: frames of different size: {found}; expected one size")
    first = frames[0].spacing
    if not all(_equal_spacing(frame.spacing, first) for frame in frames):
        found = _counted(
            [
                "no spacing" if frame.spacing is None else f"{frame.spacing[0]:.4g} x {frame.spacing[1]:.4g} mm"
                for frame in frames
            ]
        )
        raise SeriesError(f"{where}: frames of different pixel spacing: {found}; expected one spacing")


def _equal_spacing(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.allclose(one, other, rtol=SPACING_TOLERANCE, atol=0)


def _counted(descriptions: Sequence[str]) -> str:
    names = list(dict.fromkeys(descriptions))
    listed = [f"{name} ({descriptions.count(name)} frames)" for name in names[:_LISTED]]
    return ", ".join(listed) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _stated_step(frame: Frame) -> float:
    return frame.slice_step or frame.thickness or 1.0


def _common_orientation(frames: Sequence[Frame], where: str) -> np.ndarray:
    kinds: list[np.ndarray] = []
    members: list[int] = []
    for frame in frames:
        directions = np.asarray(frame.orientation)
        for number, kind in enumerate(kinds):
            if np.abs(directions - kind).max() <= DIRECTION_TOLERANCE:
                members[number] += 1
                break
        else:
            kinds.append(directions)
            members.append(1)
    if len(kinds) > 1:
        listed = [f"{_plane(kind)} ({count} frames)" for kind, count in zip(kinds, members, strict=True)][:_LISTED]
        more = f" and {len(kinds) - _LISTED} more" if len(kinds) > _LISTED else ""
        raise SeriesError(
            f"{where}: mixed orientations: {len(kinds)} directions of planes, {', '.join(listed)}{more}; expected "
            "parallel planes: a localiser or several stacks in one series? Give one stack"
        )
    return kinds[0] / np.linalg.norm(kinds[0], axis=1, keepdims=True)


def _plane(orientation: np.ndarray) -> str:
    normal = np.cross(orientation[0], orientation[1])
    axis = int(np.argmax(np.abs(normal)))
    name = ("sagittal", "coronal", "axial")[axis]
    angle = np.degrees(np.arccos(min(1.0, abs(float(normal[axis])))))
    return name if angle < 0.5 else f"{name} tilted by {angle:.1f} degrees"


def _by_position(frames: Sequence[Frame], normal: np.ndarray, where: str) -> list[list[Frame]]:
    ordered = sorted(frames, key=lambda frame: float(np.asarray(frame.position) @ normal))
    groups: list[list[Frame]] = []
    for frame in ordered:
        here = float(np.asarray(frame.position) @ normal)
        if groups and here - float(np.asarray(groups[-1][0].position) @ normal) <= SAME_POSITION_MM:
            groups[-1].append(frame)
        else:
            groups.append([frame])
    for group in groups:
        apart = max(float(np.linalg.norm(np.asarray(f.position) - np.asarray(group[0].position))) for f in group)
        if apart > 10 * SAME_POSITION_MM:
            raise SeriesError(
                f"{where}: {len(group)} frames lie side by side in one plane, up to {apart:.4g} mm apart; expected one "
                "stack of planes"
            )
    return groups


def _refuse_shared_positions(groups: list[list[Frame]], normal: np.ndarray, where: str) -> None:
    shared = [group for group in groups if len(group) > 1]
    if not shared:
        return
    most = max(len(group) for group in shared)
    place = float(np.asarray(shared[0][0].position) @ normal)
    raise SeriesError(
        f"{where}: several frames at one position: {len(shared)} of {len(groups)} positions hold up to {most} frames "
        f"(the first at {place:.4g} mm along the normal){_difference(shared[0])}; expected one frame at each"
    )


def _difference(group: Sequence[Frame]) -> str:
    """What tells the frames of one position apart, as the end of a sentence."""
    traits = {name: {frame.traits.get(name) for frame in group} for name in group[0].traits}
    differing = [name for name, values in traits.items() if len(values) > 1]
    if differing:
        return f"; they differ in {', '.join(differing)}: give one of the images"
    ordering = _time_attribute([list(group)])
    if ordering == "InstanceNumber":
        return "; they differ in InstanceNumber alone: a dynamic series, or the same slices reconstructed twice?"
    if ordering is not None:
        return f"; they differ in {ordering}: a cine or dynamic series? It must be read with its time axis"
    return "; nothing in their headers tells them apart: the same slices twice?"


def _time_attribute(groups: Sequence[Sequence[Frame]]) -> str | None:
    """The best attribute that every frame has and that differs between all frames of a position."""
    for name in TIMES:
        if all(name in frame.times for group in groups for frame in group) and all(
            len({frame.times[name] for frame in group}) == len(group) for group in groups
        ):
            return name
    return None


def _in_time(groups: list[list[Frame]], normal: np.ndarray, where: str) -> tuple[list[list[Frame]], np.ndarray]:
    counts = [len(group) for group in groups]
    if len(set(counts)) > 1:
        usual = max(set(counts), key=counts.count)
        odd = [
            f"{len(group)} at {float(np.asarray(group[0].position) @ normal):.4g} mm"
            for group in groups
            if len(group) != usual
        ]
        raise SeriesError(
            f"{where}: {usual} frames at most positions but {', '.join(odd[:_LISTED])}: points in time are missing or "
            "belong to another image"
        )
    if counts[0] == 1:
        return groups, np.full(1, np.nan)
    name = _time_attribute(groups)
    if name is None:
        raise SeriesError(
            f"{where}: {counts[0]} frames at one position that no time tells apart{_difference(groups[0])}; looked for "
            f"{', '.join(TIMES)}"
        )
    ordered = [sorted(group, key=lambda frame: frame.times[name]) for group in groups]
    factor = TIMES[name]
    times = np.asarray([frame.times[name] for frame in ordered[0]])
    return ordered, times * factor if factor is not None else np.full(len(times), np.nan)


def _slice_step(origins: np.ndarray, normal: np.ndarray, where: str) -> np.ndarray:
    """(3,) vector from one slice to the next in mm."""
    depth = origins @ normal
    across = origins[-1] - origins[0]
    step = across / (len(origins) - 1)
    gaps = np.sort(np.diff(depth))
    usual = float(gaps[(len(gaps) - 1) // 2])  # the smaller median: missing slices make gaps larger
    expected = origins[0] + np.arange(len(origins))[:, None] * step
    along = np.abs((origins - expected) @ normal).max()
    if along > STEP_TOLERANCE * usual:
        raise SeriesError(_gaps(depth, usual, where))
    sideways = across - (across @ normal) * normal
    angle = float(np.degrees(np.arctan2(np.linalg.norm(sideways), across @ normal)))
    if angle > TILT_TOLERANCE_DEGREES:
        raise SeriesError(
            f"{where}: the planes are tilted by {angle:.1f} degrees against the direction in which they are stacked "
            f"(gantry tilt; at most {TILT_TOLERANCE_DEGREES:g} are read): the volume would be sheared. Resample it to "
            "an upright grid first, as dcm2niix does"
        )
    beside = float(np.linalg.norm(origins - expected, axis=1).max())
    if beside > max(STEP_TOLERANCE * usual, 10 * SAME_POSITION_MM):
        raise SeriesError(
            f"{where}: slices lie up to {beside:.4g} mm beside the line of their stack: expected planes above each "
            "other"
        )
    return step


def _gaps(depth: np.ndarray, usual: float, where: str) -> str:
    gaps = np.diff(depth)
    tolerance = STEP_TOLERANCE * usual
    wide = [number for number, gap in enumerate(gaps) if abs(gap - usual) > tolerance]
    listed = []
    missing = 0
    whole = bool(wide)
    for number in wide:
        count = round(gaps[number] / usual) - 1
        if count >= 1 and abs(gaps[number] - (count + 1) * usual) <= tolerance * (count + 1):
            missing += count
            listed.append(f"{count} between {depth[number]:.2f} and {depth[number + 1]:.2f} mm")
        else:
            whole = False
            listed.append(f"{gaps[number]:.4g} mm between {depth[number]:.2f} and {depth[number + 1]:.2f} mm")
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    places = ", ".join(listed[:_LISTED]) + more
    rule = f"slices are {usual:.4g} mm apart, tolerance {tolerance:.2g} mm"
    if whole:
        return f"{where}: {missing} missing slices: {places} along the normal ({rule}): import the series again"
    if not listed:
        return f"{where}: distances drift from {gaps.min():.4g} to {gaps.max():.4g} mm; expected one ({rule})"
    return f"{where}: uneven slice distances: {places} along the normal ({rule}); expected a regular stack"


def _grid_without_positions(frames: Sequence[Frame], where: str, time: bool) -> SeriesGrid:
    """Frames that state no place in the patient: a plane, a cine of it, or a stack with a stated distance."""
    spacing = frames[0].spacing
    rows_mm, columns_mm = spacing or (1.0, 1.0)
    affine = _LPS_TO_RAS @ np.diag([columns_mm, rows_mm, _stated_step(frames[0]), 1.0])
    if time:
        slices, times = _in_time([list(frames)], np.zeros(3), where)
    elif len(frames) == 1 or (frames[0].file == frames[-1].file and frames[0].slice_step is not None):
        slices, times = [[frame] for frame in frames], np.zeros(1)
    else:
        raise SeriesError(_no_position(frames, where))
    return SeriesGrid(slices, affine, False, spacing is not None, times)


def _no_position(frames: Sequence[Frame], where: str) -> str:
    ordering = _time_attribute([frames])
    hint = f"; they differ in {ordering}: a cine? It must be read with its time axis" if ordering else ""
    return (
        f"{where}: {len(frames)} frames without a position (no ImagePositionPatient){hint}; expected a position of "
        "each, or one file with SpacingBetweenSlices"
    )
