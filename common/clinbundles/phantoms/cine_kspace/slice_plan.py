"""The imaged slice and its field of view: planned on the heart, phase encoding along the narrow side of the body."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.heart.heart import Heart
from clinbundles.phantoms.heart.scanner_planes import plan_views

LEVELS = (0.27, 0.68)
"""Range of a short-axis slice's level at end-diastole: depth below the base over the length of the ventricle.

The base descends by 0.16 of the length on average, so the uppermost slices still show muscle at end-systole."""

HEART_MARGIN_MM = 80.0
"""The middle of the slice's heart stays at least this far from the ends of the phase direction."""

EDGE_MM = 12.0
"""Width of the flank of the saturation bands at both ends of the phase direction, mm."""


@dataclass(frozen=True)
class SlicePlan:
    """One slice of the reconstruction grid (X, Y): X is readout, Y phase encoding.

    Attributes:
        view: "sax", "lax_2ch", "lax_3ch" or "lax_4ch".
        affine: (4, 4) RAS mm of the centre of pixel (x, y, 0).
        size: X, Y.
        slab_mm: thickness.
        level: of a short-axis slice, see `LEVELS`; NaN for a long-axis plane.
    """

    view: str
    affine: NDArray[np.float64]
    size: tuple[int, int]
    slab_mm: float
    level: float

    @property
    def spacing_mm(self) -> float:
        """Distance of pixels, mm (the same along X and Y)."""
        return float(np.linalg.norm(self.affine[:3, 0]))

    def centres(self) -> NDArray[np.float64]:
        """World position (X * Y, 3) of the pixels' centres, row by row, RAS mm."""
        x, y = np.meshgrid(*[np.arange(n) for n in self.size], indexing="ij")
        grid = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
        return np.asarray(grid @ self.affine[:3, :3].T + self.affine[:3, 3])

    def in_pixels(self, displacement: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacement (..., 3) mm RAS, projected onto the slice, as (..., 2) pixels (row, column)."""
        return np.asarray(displacement @ self.affine[:3, :2] / self.spacing_mm**2)


def plan_slice(
    heart: Heart,
    rng: np.random.Generator,
    *,
    matrix: int,
    spacing_mm: float,
    slab_mm: float,
    long_axis_share: float,
) -> SlicePlan:
    """A slice as a person plans it: tilts and offsets of `plan_views`, field of view turned to the body.

    Phase encoding runs along the narrow side of the body's section, off by 8 degrees (SD); the field of view is
    centred on the heart along the readout. Along the phase direction it is moved so that the body fits, as far as the
    heart stays well inside; what is left outside, saturation bands remove.
    """
    long_axis = rng.random() < long_axis_share
    chosen = int(rng.integers(1, 4))
    level = float(rng.uniform(*LEVELS))
    turn, jitter = rng.normal(0.0, math.radians(8.0)), rng.normal(0.0, 8.0)
    mirrors = rng.choice([-1.0, 1.0], 2)
    views = plan_views(
        heart, rng, pixels=3, pixel_mm=spacing_mm, slice_spacing_mm=10.0, slab_mm=slab_mm, lax_slab_mm=slab_mm,
        shift_mm=0.0,
    )  # fmt: skip
    view = views[chosen if long_axis else 0]
    normal = view.affine[:3, 2] / np.linalg.norm(view.affine[:3, 2])
    centre = view.affine[:3, :3] @ [1.0, 1.0, 0.0] + view.affine[:3, 3]
    if not long_axis:
        axis = heart.rotation[:, 2]
        wanted = -level * heart.anatomy.length
        centre = centre + normal * (wanted - (centre - heart.base) @ axis) / (normal @ axis)
    narrow, wide, middle, half_width = _body_section(heart, centre, normal)
    phase = math.cos(turn) * narrow + math.sin(turn) * wide
    read = math.cos(turn) * wide - math.sin(turn) * narrow
    slack = max(0.0, 0.5 * matrix * spacing_mm - EDGE_MM - half_width)
    aside = float((middle - centre) @ narrow)
    most = max(0.0, 0.5 * matrix * spacing_mm - HEART_MARGIN_MM)
    centre = centre + jitter * read + float(np.clip(aside - np.clip(aside, -slack, slack), -most, most)) * phase
    steps = spacing_mm * np.stack([mirrors[0] * read, mirrors[1] * phase], axis=1)
    affine = np.eye(4)
    affine[:3, :2] = steps
    affine[:3, 2] = slab_mm * np.cross(steps[:, 0], steps[:, 1]) / spacing_mm**2
    affine[:3, 3] = centre - steps @ [matrix // 2, matrix // 2]
    return SlicePlan(
        view=view.name,
        affine=affine,
        size=(matrix, matrix),
        slab_mm=slab_mm,
        level=math.nan if long_axis else level,
    )


def chest_origin(heart: Heart) -> NDArray[np.float64]:
    """World position (3,) that the chest's positions count from: the middle of the long axis at end-diastole."""
    return heart.base - 0.5 * heart.anatomy.length * heart.rotation[:, 2]


def _body_section(
    heart: Heart, centre: NDArray[np.float64], normal: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """Unit vectors along the narrow and the wide side of the body's section, its centre, half its narrow width, mm.

    The body is an elliptic cylinder along the patient's axis, so its section is an ellipse |M p| = 1.
    """
    around = heart.surroundings
    first = np.cross(normal, [0.0, 0.0, 1.0])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    half = np.array([around.chest_half_width, around.chest_half_depth])
    to_circle = np.stack([first, second], axis=1)[:2] / half[:, None]
    offset = (chest_origin(heart) - centre)[:2] + [around.midline, around.chest_middle]
    middle = centre + np.stack([first, second], axis=1) @ np.linalg.solve(to_circle, offset / half)
    _, stretch, axes = np.linalg.svd(to_circle)
    narrow, wide = (axes[n, 0] * first + axes[n, 1] * second for n in (0, 1))
    return narrow, wide, middle, float(1.0 / stretch[0])
