"""Which planes of an exam are short axis and which long-axis view is which, by their geometry alone.

Descriptions of series are typed by hand and wrong often enough; positions are not.

1. Short axis: the largest set of parallel planes at different positions, at least 4.
2. A long-axis plane stands nearly upright on the short axis: its normal lies within 30 degrees of the short-axis plane.
3. It cuts the short axis in a line. The angle of that line in the exam frame, from x (lateral) towards y (inferior),
   modulo 180 degrees, tells the view: usually 4CH -18, 3CH 41, 2CH 102 degrees. Hearts are rolled about their axis by
   30 degrees to either side (the measured exam: -38, 21, 84). Half the roll is taken from the direction in which the
   right ventricle moves beside the left one, 20 degrees beyond the 4CH plane. The planes are named together: as many
   names as possible, each within 45 degrees of its expected angle, with the least deviation in all.
4. Views of the left ventricle pass within 25 mm of the rough centre that the moving edges of the short axis give (of
   the likeliest three, that one which suits the planes), and of planes that claim one name those are taken that meet
   best in one point. Planes of the right ventricle (RV 2CH, RVOT) lose by this.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clinbundles.cine.cine_exam import LAX_VIEWS, CineExamError, CineView
from clinbundles.cine.exam_frame import APEX_TO_BASE

PARALLEL_DEGREES = 3.0
UPRIGHT_DEGREES = 30.0
SAME_POSITION_MM = 0.5
FEWEST_SLICES = 4
VIEW_ANGLES = {"lax_2ch": 102.0, "lax_3ch": 41.0, "lax_4ch": -18.0}
FARTHEST_DEGREES = 45.0
THROUGH_LV_MM = 25.0
RV_BEYOND_4CH_DEGREES = 20.0
_UNLIKELY_MM = 30.0  # a centre without votes counts as much as this distance
_ANGLE_WEIGHT_MM = 0.3  # a degree off the usual angle counts as much as this distance from the common point

logger = logging.getLogger(__name__)


def short_axis_planes(views: Sequence[CineView]) -> list[tuple[int, int]]:
    """The (view, slice) numbers of the short-axis stack, sorted by position along its normal from base to apex.

    Raises:
        CineExamError: no 4 parallel planes at different positions; two different images at one position.
    """
    planes = [(v, k) for v, view in enumerate(views) for k in range(len(view.affines))]
    if not planes:
        raise CineExamError("no cine plane is given, expected a short-axis stack")
    normals = np.array([views[v].normals[k] for v, k in planes])
    centres = np.array([views[v].centres[k] for v, k in planes])
    parallel = np.abs(normals @ normals.T) > np.cos(np.radians(PARALLEL_DEGREES))
    best: tuple[int, float] = (0, 0.0)
    chosen = np.zeros(len(planes), dtype=bool)
    for row, normal in zip(parallel, normals, strict=True):
        positions = _positions(centres[row] @ normal)
        score = (len(positions), float(abs(normal @ APEX_TO_BASE)))
        if score > best:
            best, chosen = score, row
    if best[0] < FEWEST_SLICES:
        raise CineExamError(
            f"found {len(planes)} cine planes, of which at most {best[0]} are parallel and at different positions; a "
            f"short-axis stack has at least {FEWEST_SLICES} slices: give all series of the exam"
        )
    members = [number for number in range(len(planes)) if chosen[number]]
    axis = normals[members[0]]
    axis = axis if axis @ APEX_TO_BASE >= 0 else -axis
    depth = {number: float(centres[number] @ axis) for number in members}
    members.sort(key=lambda number: -depth[number])
    kept: list[int] = []
    for number in members:
        if kept and depth[kept[-1]] - depth[number] < SAME_POSITION_MM:
            _refuse_different(views, planes[kept[-1]], planes[number])
            continue
        kept.append(number)
    return [planes[number] for number in kept]


def _positions(depth: np.ndarray) -> np.ndarray:
    ordered = np.sort(depth)
    return ordered[np.r_[True, np.diff(ordered) >= SAME_POSITION_MM]]


def _refuse_different(views: Sequence[CineView], one: tuple[int, int], other: tuple[int, int]) -> None:
    first, second = (views[v].image[:, :, k] for v, k in (one, other))
    names = [views[v].where[k] for v, k in (one, other)]
    if first.shape == second.shape and np.array_equal(first, second):
        logger.warning("%s is the same slice as %s and is left out", names[1], names[0])
        return
    raise CineExamError(
        f"{names[0]} and {names[1]} are two different short-axis slices at one position (within {SAME_POSITION_MM:g} "
        "mm): a repeated breath-hold? Leave one of them out"
    )


def plane_angle(normal: np.ndarray, axes: np.ndarray) -> float:
    """Direction of a plane's cut with the short axis, degrees in [-90, 90) from x (lateral) towards y (inferior).

    Args:
        normal: (3,) of the plane, RAS.
        axes: (3, 3) columns x, y, z of the exam frame.
    """
    across = np.cross(normal, axes[:, 2])
    degrees = float(np.degrees(np.arctan2(across @ axes[:, 1], across @ axes[:, 0])))
    return (degrees + 90) % 180 - 90


def is_upright(normal: np.ndarray, axes: np.ndarray) -> bool:
    """Whether a plane stands nearly perpendicular on the short axis."""
    return abs(float(normal @ axes[:, 2])) < np.sin(np.radians(UPRIGHT_DEGREES))


def _turn(one: float, other: float) -> float:
    return (one - other + 90) % 180 - 90


@dataclass(frozen=True)
class RoughCentre:
    """A place where the left ventricle may be.

    Attributes:
        point: (3,) RAS mm.
        likelihood: relative to the likeliest, in (0, 1].
        rv_degrees: direction of the right ventricle from there, in the exam frame.
    """

    point: np.ndarray
    likelihood: float
    rv_degrees: float

    def expected_angles(self) -> dict[str, float]:
        """Of the views, by the roll of the heart."""
        roll = _turn(self.rv_degrees - RV_BEYOND_4CH_DEGREES, VIEW_ANGLES["lax_4ch"]) / 2
        return {name: usual + roll for name, usual in VIEW_ANGLES.items()}


def long_axis_views(
    planes: Sequence[tuple[np.ndarray, np.ndarray]], axes: np.ndarray, centres: Sequence[RoughCentre]
) -> tuple[dict[str, int], np.ndarray]:
    """Names of the long-axis planes: view name to the number of its plane; and the rough LV centre that suits them.

    Args:
        planes: (normal (3,), any point (3,)) of every plane that is not short axis, RAS mm.
        axes: (3, 3) columns of the exam frame.
        centres: where the LV may be, the likeliest first.
    """
    best: tuple[int, float] = (0, 0.0)
    found: tuple[dict[str, int], np.ndarray] = ({}, centres[0].point)
    for centre in centres:
        for named in _choices(planes, axes, centre):
            expected = centre.expected_angles()
            turns = [abs(_turn(plane_angle(planes[n][0], axes), expected[name])) for name, n in named.items()]
            cost = _misfit([planes[number] for number in named.values()], axes, centre.point)
            cost += _ANGLE_WEIGHT_MM * float(np.mean(turns)) + _UNLIKELY_MM * (1 - centre.likelihood)
            score = (len(named), -cost)
            if not found[0] or score > best:
                best, found = score, (named, centre.point)
    return found


def likeliest_centre(planes: Sequence[tuple[np.ndarray, np.ndarray]], centres: Sequence[RoughCentre]) -> np.ndarray:
    """(3,) of the places where the LV may be, the one that suits planes whose views are known."""

    def cost(centre: RoughCentre) -> float:
        gaps = [float((centre.point - point) @ normal) for normal, point in planes]
        return _UNLIKELY_MM * (1 - centre.likelihood) + float(np.sqrt(np.mean(np.square(gaps)))) if gaps else 0.0

    return min(centres, key=cost).point


def _choices(
    planes: Sequence[tuple[np.ndarray, np.ndarray]], axes: np.ndarray, centre: RoughCentre
) -> Iterator[dict[str, int]]:
    """All ways to name planes that may be views of the LV."""
    expected = centre.expected_angles()
    options: dict[str, list[int | None]] = {name: [None] for name in LAX_VIEWS}
    for number, (normal, point) in enumerate(planes):
        if not is_upright(normal, axes) or abs(float((centre.point - point) @ normal)) > THROUGH_LV_MM:
            continue
        degrees = plane_angle(normal, axes)
        for name, usual in expected.items():
            if abs(_turn(degrees, usual)) < FARTHEST_DEGREES:
                options[name].append(number)
    for choice in itertools.product(*options.values()):
        named = {name: number for name, number in zip(options, choice, strict=True) if number is not None}
        if named and len(set(named.values())) == len(named):
            yield named


def _misfit(planes: Sequence[tuple[np.ndarray, np.ndarray]], axes: np.ndarray, rough_centre: np.ndarray) -> float:
    """RMS distance in mm of the planes from the point where they meet best, and of that point from the rough centre."""
    centre = meeting_point(planes, axes, rough_centre)
    gaps = [float((centre - point) @ normal) for normal, point in planes]
    return float(np.sqrt(np.mean(np.square(gaps)))) + 0.5 * float(np.linalg.norm(centre - rough_centre))


def meeting_point(
    planes: Sequence[tuple[np.ndarray, np.ndarray]],
    axes: np.ndarray,
    rough_centre: np.ndarray,
    prior_weight: float = 0.5,
) -> np.ndarray:
    """(3,) the point at the height of ``rough_centre`` where planes meet best (least squares), RAS mm.

    Args:
        planes: (normal (3,), point (3,)) of every plane.
        axes: (3, 3) columns of the exam frame.
        rough_centre: (3,) RAS mm; decides along directions that the planes leave open.
        prior_weight: weight of ``rough_centre`` against a plane.
    """
    rows, values = [np.sqrt(prior_weight) * np.eye(2)], [np.zeros(2)]
    for normal, point in planes:
        rows.append((normal @ axes[:, :2])[None])
        values.append(np.array([(point - rough_centre) @ normal]))
    shift = np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=None)[0]
    return rough_centre + axes[:, :2] @ shift
