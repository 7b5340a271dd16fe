"""A triangle mesh, or several of the same faces: what the mesh losses take."""

from __future__ import annotations

import torch

from clinbundles.rasterizer.mesh_topology import MeshTopology


class TriangleMesh:
    """Vertices and the faces that all of them share, such as the frames of a heart.

    Args:
        vertices: [V, 3] or [B, V, 3] in mm.
        faces: [F, 3] integers, counter-clockwise seen from outside; or the `MeshTopology` of such faces. The topology
            of a tensor is computed once and kept as long as the tensor lives.
    """

    def __init__(self, vertices: torch.Tensor, faces: torch.Tensor | MeshTopology) -> None:
        if vertices.ndim not in (2, 3) or vertices.shape[-1] != 3:
            raise ValueError(f"vertices must be [V, 3] or [B, V, 3], but their shape is {tuple(vertices.shape)}")
        self.vertices = vertices
        self.topology = faces if isinstance(faces, MeshTopology) else MeshTopology.of(faces, vertices.shape[-2])
        if self.topology.vertex_count != vertices.shape[-2]:
            raise ValueError(f"{vertices.shape[-2]} vertices for faces of a mesh of {self.topology.vertex_count}")

    @property
    def faces(self) -> torch.Tensor:
        """[F, 3] int64."""
        return self.topology.faces

    @property
    def batch(self) -> torch.Tensor:
        """Vertices [B, V, 3], B being 1 for a single mesh."""
        return self.vertices if self.vertices.ndim == 3 else self.vertices[None]

    def __len__(self) -> int:
        """Number of meshes."""
        return len(self.batch)

    def with_vertices(self, vertices: torch.Tensor) -> TriangleMesh:
        """The same faces at other places."""
        return TriangleMesh(vertices, self.topology)
