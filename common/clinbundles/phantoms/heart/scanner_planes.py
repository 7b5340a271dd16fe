"""Planes of a cine examination: short-axis stack and three long-axis planes, planned on the heart as a person does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.heart.heart import Heart

LONG_AXIS_DEGREES = {"lax_4ch": -12.0, "lax_2ch": -78.0, "lax_3ch": -130.0}
"""Direction of each long-axis plane about the long axis (0 = lateral, 90 = inferior).

4CH goes through septum, lateral wall and right ventricle; 2CH 66 degrees further, through the anterior and inferior
walls past the right ventricle; 3CH 118 degrees further, through the aortic root."""


@dataclass(frozen=True)
class View:
    """One view: `affine` (4, 4) RAS mm of voxel (i, j, slice), `size` (I, J, slices), `shifts` (slices, 3) RAS mm.

    `shifts` is where each slice truly lay relative to its affine (breath-hold error): it is in the picture only.
    """

    name: str
    affine: NDArray[np.float64]
    size: tuple[int, int, int]
    slab_mm: float
    shifts: NDArray[np.float64]


def plan_views(
    heart: Heart,
    rng: np.random.Generator,
    *,
    pixels: int,
    pixel_mm: float,
    slice_spacing_mm: float,
    slab_mm: float,
    lax_slab_mm: float,
    shift_mm: float,
    planning_degrees: float = 3.0,
) -> tuple[View, ...]:
    """Short-axis stack and 2CH, 3CH, 4CH planes of a heart, in this order.

    The plan is as good as a person's: the stack is tilted against the long axis by `planning_degrees` (SD about each
    axis), long-axis planes miss the axis by 2 mm and 2 degrees (SD) and stand within 10 degrees of their angle. Image
    axes are turned at random and mirrored in half the views; slices run from the base or from the apex.
    """
    length = heart.anatomy.length
    middle = np.array([0.0, 0.0, -0.5 * length])
    axis = _tilted(rng, planning_degrees)
    turn = rng.uniform(0.0, 2.0 * math.pi)
    side = _across(axis, turn)
    order = 1.0 if rng.random() < 0.5 else -1.0
    # from above the base to below the apex, the grid's phase at random
    above = rng.uniform(0.3, 1.3) * slice_spacing_mm
    slices = int(np.ceil((above + length - 2.0) / slice_spacing_mm)) + 1
    top = above if order < 0.0 else above - (slices - 1) * slice_spacing_mm
    first = middle + axis * (top - middle[2]) / axis[2] + rng.normal(0.0, 4.0, 3) * [1.0, 1.0, 0.0]
    mirrored = 1.0 if rng.random() < 0.5 else -1.0
    columns = (side, mirrored * np.cross(axis, side), order * axis)
    views = [_view(heart, "sax", columns, first, (pixels, pixels, slices), pixel_mm, slice_spacing_mm, slab_mm)]
    for name in ("lax_2ch", "lax_3ch", "lax_4ch"):
        angle = math.radians(LONG_AXIS_DEGREES[name]) + float(np.clip(rng.normal(0.0, math.radians(4.0)), -0.17, 0.17))
        tilt = math.radians(float(np.clip(rng.normal(0.0, 2.0), -5.0, 5.0)))
        outward = np.array([math.cos(angle), math.sin(angle), 0.0])
        level = np.array([-math.sin(angle), math.cos(angle), 0.0])
        normal = math.cos(tilt) * level + math.sin(tilt) * np.array([0.0, 0.0, 1.0])
        centre = middle + rng.normal(0.0, 2.0) * level + rng.normal(0.0, 5.0) * outward
        centre += np.array([0.0, 0.0, rng.normal(8.0, 5.0)])  # the atrium is in the picture as well
        turn = rng.uniform(0.0, 2.0 * math.pi)
        other = np.cross(normal, outward)
        row = math.cos(turn) * outward + math.sin(turn) * other
        mirrored = 1.0 if rng.random() < 0.5 else -1.0
        columns = (row, mirrored * np.cross(normal, row), normal)
        views.append(_view(heart, name, columns, centre, (pixels, pixels, 1), pixel_mm, lax_slab_mm, lax_slab_mm))
    # drawn last and always: the same seed is the same heart and plan whatever the shift is
    return tuple(
        View(view.name, view.affine, view.size, view.slab_mm, shift_mm * rng.normal(0.0, 1.0, (view.size[2], 3)))
        for view in views
    )


def _view(
    heart: Heart,
    name: str,
    columns: tuple[NDArray, NDArray, NDArray],
    centre: NDArray,
    size: tuple[int, int, int],
    pixel_mm: float,
    spacing_mm: float,
    slab_mm: float,
) -> View:
    """A view from directions and the middle of its first slice in the heart's axes."""
    steps = np.stack([columns[0] * pixel_mm, columns[1] * pixel_mm, columns[2] * spacing_mm], axis=1)
    origin = centre - steps @ [(size[0] - 1) / 2, (size[1] - 1) / 2, 0.0]
    affine = np.eye(4)
    affine[:3, :3] = heart.rotation @ steps
    affine[:3, 3] = heart.rotation @ origin + heart.base
    return View(name, affine, size, slab_mm, np.zeros((size[2], 3)))


def _tilted(rng: np.random.Generator, degrees: float) -> NDArray[np.float64]:
    """The long axis, off by a plan's error about both axes."""
    tilt = np.tan(np.radians(np.clip(rng.normal(0.0, degrees, 2), -2.5 * degrees, 2.5 * degrees)))
    axis = np.array([tilt[0], tilt[1], 1.0])
    return np.asarray(axis / np.linalg.norm(axis))


def _across(axis: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    start = np.cross([0.0, 1.0, 0.0], axis)
    start /= np.linalg.norm(start)
    return np.asarray(math.cos(turn) * start + math.sin(turn) * np.cross(axis, start))
