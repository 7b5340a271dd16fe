"""Meshes to and from PyTorch3D, for those who have it (it has no wheel for Linux: built from its source)."""

from __future__ import annotations

from typing import Any

import torch

from clinbundles.rasterizer.triangle_mesh import TriangleMesh


def to_pytorch3d(mesh: TriangleMesh) -> Any:
    """`pytorch3d.structures.Meshes` of the same vertices (with their gradient) and faces.

    Raises:
        ModuleNotFoundError: without PyTorch3D.
    """
    from pytorch3d.structures import Meshes  # optional

    return Meshes(verts=list(mesh.batch), faces=[mesh.faces] * len(mesh))


def from_pytorch3d(meshes: Any) -> TriangleMesh:
    """`TriangleMesh` [B, V, 3] of `pytorch3d.structures.Meshes` that all have the same faces.

    Raises:
        ValueError: meshes of different faces; convert them one by one (`meshes[k]`).
    """
    faces = meshes.faces_list()
    different = [k for k, other in enumerate(faces) if not torch.equal(other, faces[0])]
    if different:
        raise ValueError(
            f"mesh {different[0]} has other faces than mesh 0: convert meshes of different faces one by one"
        )
    return TriangleMesh(torch.stack(meshes.verts_list()), faces[0])
