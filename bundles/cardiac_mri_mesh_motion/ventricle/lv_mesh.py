"""A mesh of the left ventricle: one watertight shell whose vertices know which surface they belong to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from clinbundles.rasterizer.mesh_volume import cavity_volume, signed_volume

EPICARDIUM, ENDOCARDIUM, RIM = 0, 1, 2


@dataclass(frozen=True)
class LvMesh:
    """Endocardium and epicardium, joined at the base.

    Attributes:
        vertices: (V, 3) mm of the exam frame, at end-diastole.
        faces: (F, 3) int64, turned outward from the muscle.
        surface: (V,) 1 endocardium, 0 epicardium, 2 rim.
        insertion: vertex at the anterior insertion of the right ventricle.
        source: where the mesh comes from, for reports.
    """

    vertices: torch.Tensor
    faces: torch.Tensor
    surface: torch.Tensor
    insertion: int
    source: str = ""

    def at(self, vertices: torch.Tensor, source: str | None = None) -> LvMesh:
        """The same mesh at other places."""
        return replace(self, vertices=vertices, source=self.source if source is None else source)

    @property
    def endo_faces(self) -> torch.Tensor:
        """(E, 3) faces between endocardial vertices: the cavity's wall, open at the base."""
        return self.faces[(self.surface[self.faces] == ENDOCARDIUM).all(dim=1)]

    @property
    def epi_faces(self) -> torch.Tensor:
        """(E, 3) faces between epicardial vertices."""
        return self.faces[(self.surface[self.faces] == EPICARDIUM).all(dim=1)]

    def cavity_ml(self, vertices: torch.Tensor) -> NDArray[np.float64]:
        """Volume (T,) of the cavity for vertices (T, V, 3), its base closed by a fan."""
        return (cavity_volume(vertices.double(), self.endo_faces) / 1000).numpy()

    def myocardium_ml(self, vertices: torch.Tensor) -> NDArray[np.float64]:
        """Volume (T,) of the muscle."""
        return (signed_volume(vertices.double(), self.faces) / 1000).numpy()


def inverted_share(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Share (T,) of triangles that turned over: normal against that of end-diastole carried by the mesh around it.

    A triangle counts when its normal at t points against the mean normal of its neighbours at t.

    Args:
        vertices: (T, V, 3).
        faces: (F, 3).
    """
    a, b, c = (vertices[:, faces[:, corner]] for corner in range(3))
    normals = torch.linalg.cross(b - a, c - a, dim=-1)
    around = torch.zeros_like(vertices)
    for corner in range(3):
        around.index_add_(1, faces[:, corner], normals)
    neighbours = (around[:, faces] - normals[:, :, None]).sum(dim=2)  # what the others around its corners say
    return ((normals * neighbours).sum(-1) < 0).float().mean(dim=1)
