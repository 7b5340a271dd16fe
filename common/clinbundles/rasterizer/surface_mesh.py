"""A triangle surface with what is known of its vertices, as files hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SurfaceMesh:
    """A triangle surface in RAS mm.

    Attributes:
        vertices: (V, 3) RAS mm.
        faces: (F, 3) vertex indices.
        point_data: name -> (V,) or (V, C) values of the vertices; vectors among them are in RAS too.
        cell_data: name -> (F,) or (F, C) values of the triangles.
    """

    vertices: NDArray[np.floating]
    faces: NDArray[np.integer]
    point_data: Mapping[str, NDArray] = field(default_factory=lambda: MappingProxyType({}))
    cell_data: Mapping[str, NDArray] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3:
            raise ValueError(f"vertices have the shape {self.vertices.shape}, expected (V, 3)")
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise ValueError(f"faces have the shape {self.faces.shape}, expected (F, 3)")
        if len(self.faces) and not 0 <= int(self.faces.min()) <= int(self.faces.max()) < len(self.vertices):
            raise ValueError(
                f"faces name vertices {int(self.faces.min())} to {int(self.faces.max())}, but there are "
                f"{len(self.vertices)}"
            )
        for kind, data, count in (
            ("point_data", self.point_data, len(self.vertices)),
            ("cell_data", self.cell_data, len(self.faces)),
        ):
            for name, values in data.items():
                if len(values) != count:
                    raise ValueError(f"{kind} '{name}' has {len(values)} values for {count}")
