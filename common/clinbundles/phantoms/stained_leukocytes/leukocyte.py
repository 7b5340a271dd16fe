"""One white blood cell: where it lies, how large it is, which nucleus it has."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.stained_leukocytes.leukocyte_class import LeukocyteClass
from clinbundles.phantoms.stained_leukocytes.nucleus import Nucleus, draw_nucleus


@dataclass(frozen=True)
class Leukocyte:
    """A cell and its pose. Every range but that of the nucleus' shape is the same for all classes.

    Attributes:
        label: class.
        centre: x, y, um from the image's centre.
        radius_um: of the circle of the cell's area.
        ratio: of the cell's axes.
        nucleus: shape.
        nucleus_area_um2: area that the nucleus covers.
        angle: of the cell's first axis, radians.
        mirrored: whether the cell is mirrored at its first axis.
    """

    label: LeukocyteClass
    centre: tuple[float, float]
    radius_um: float
    ratio: float
    nucleus: Nucleus
    nucleus_area_um2: float
    angle: float
    mirrored: bool

    def in_axes_of_cell(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points of the image (um) in the axes of the cell."""
        along, across = math.cos(self.angle), math.sin(self.angle)
        dx, dy = x - self.centre[0], y - self.centre[1]
        u, v = along * dx + across * dy, along * dy - across * dx
        return u, -v if self.mirrored else v


def draw_leukocyte(
    label: LeukocyteClass, shape_rng: np.random.Generator, pose_rng: np.random.Generator, *, aligned: bool = False
) -> Leukocyte:
    """A cell of a class.

    Args:
        label: class.
        shape_rng: of everything but orientation and mirroring.
        pose_rng: of orientation (uniform on the circle) and mirroring (every second cell).
        aligned: whether orientation and mirroring are the same for all cells; the rest of the cell does not change.
    """
    centre = shape_rng.uniform(-3.0, 3.0, 2)
    radius = float(shape_rng.uniform(5.5, 7.5))
    ratio = float(shape_rng.uniform(0.9, 1.1))
    area = float(shape_rng.uniform(0.22, 0.45)) * math.pi * radius**2
    angle, mirrored = float(pose_rng.uniform(0.0, 2 * math.pi)), bool(pose_rng.random() < 0.5)
    return Leukocyte(
        label=label,
        centre=(float(centre[0]), float(centre[1])),
        radius_um=radius,
        ratio=ratio,
        nucleus=draw_nucleus(label, radius, shape_rng),
        nucleus_area_um2=area,
        angle=0.0 if aligned else angle,
        mirrored=mirrored and not aligned,
    )
