"""A cine exam: a short-axis stack and long-axis planes of one heart over one cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LAX_VIEWS = ("lax_2ch", "lax_3ch", "lax_4ch")


class CineExamError(ValueError):
    """An exam that cannot be used; says in which file or series, what was found, what was expected and what to do."""


@dataclass(frozen=True)
class CineView:
    """One view: a stack of parallel slices (short axis) or one plane (long axis), with all phases.

    Attributes:
        name: "sax", "lax_2ch", "lax_3ch" or "lax_4ch"; "" where it is not known.
        image: (I, J, K, T) float32, i and j in the plane, k slices, t phases.
        affines: (K, 4, 4) of every slice: (i, j, steps along the normal) to RAS mm. The slices of a stack need not be
            equally spaced nor exactly above each other, so each has its own.
        times_ms: (T,) time after the R wave; NaN where the files state none.
        where: (K,) the file or series of every slice, for messages.
        label: (I, J, K, T) uint8 on the same grid, 0 background, 1 LV cavity, 2 LV myocardium, 3 RV cavity; or None.
    """

    name: str
    image: np.ndarray
    affines: np.ndarray
    times_ms: np.ndarray
    where: tuple[str, ...]
    label: np.ndarray | None = None

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel index to RAS mm of the whole stack, the mean step between slices as third column."""
        affine = self.affines[0].copy()
        if len(self.affines) > 1:
            affine[:3, 2] = (self.affines[-1][:3, 3] - self.affines[0][:3, 3]) / (len(self.affines) - 1)
        return affine

    @property
    def normals(self) -> np.ndarray:
        """(K, 3) unit normals of the slices, RAS."""
        normals = np.cross(self.affines[:, :3, 0], self.affines[:, :3, 1])
        return normals / np.linalg.norm(normals, axis=1, keepdims=True)

    @property
    def centres(self) -> np.ndarray:
        """(K, 3) middle of every slice, RAS mm."""
        middle = np.array([(self.image.shape[0] - 1) / 2, (self.image.shape[1] - 1) / 2, 0, 1])
        return (self.affines @ middle)[:, :3]

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Distance of neighbouring pixels along i and j."""
        i, j = np.linalg.norm(self.affines[0][:3, :2], axis=0)
        return float(i), float(j)


@dataclass(frozen=True)
class CineExam:
    """The views of one heart, all at the same phases.

    Attributes:
        sax: short-axis stack, its slices sorted from base to apex.
        lax: the long-axis views that were found, in the order of :data:`LAX_VIEWS`.
        frame_to_world: (4, 4) rigid, from the exam frame (:mod:`clinbundles.cine.exam_frame`) to RAS, mm.
        times_ms: (T,) times of the phases in the short-axis stack; NaN where unknown.
    """

    sax: CineView
    lax: tuple[CineView, ...]
    frame_to_world: np.ndarray
    times_ms: np.ndarray

    def view(self, name: str) -> CineView | None:
        """The view of that name, None where the exam lacks it."""
        return next((view for view in (self.sax, *self.lax) if view.name == name), None)

    @property
    def views(self) -> Sequence[CineView]:
        """Short axis first."""
        return (self.sax, *self.lax)
