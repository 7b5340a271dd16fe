"""Regularity losses of meshes, with the names and the meaning that they have in PyTorch3D; no compiled code.

Each takes a `TriangleMesh` of one or several meshes and returns a scalar: the mean over the meshes.
"""

from __future__ import annotations

import torch

from clinbundles.rasterizer.mesh_topology import MeshTopology
from clinbundles.rasterizer.triangle_mesh import TriangleMesh

# PyTorch3D's floors: of Heron's squared area, and of a normal's length
_SMALLEST_SQUARED_AREA = 1e-12
_SHORTEST_NORMAL = 1e-8


def mesh_laplacian_smoothing(mesh: TriangleMesh, method: str = "uniform") -> torch.Tensor:
    """Mean distance, in mm, of the vertices from the weighted mean of their neighbours.

    Args:
        mesh: B meshes.
        method: "uniform": all neighbours alike. "cot": weights (cot a + cot b) / sum, a and b being the angles
            opposite to the edge; the weights carry no gradient.

    Source: Desbrun et al., SIGGRAPH 1999; `pytorch3d.loss.mesh_laplacian_smoothing`. It is the norm, not its square.
    """
    topology, vertices = mesh.topology, mesh.batch
    if method == "uniform":
        centre = _neighbour_sum(topology, vertices)
        degree = topology.degree.to(vertices.dtype)[:, None]
        difference = centre / degree.clamp(min=1) - vertices
    elif method == "cot":
        weights = cotangent_weights(topology, vertices.detach())  # [B, E]
        total = _sum_at_vertices(topology, weights)[..., None]  # [B, V, 1]
        # PyTorch3D leaves the sum as it is where the weights of a vertex do not add up to a positive number
        scale = torch.where(total > 0, 1 / torch.where(total > 0, total, torch.ones_like(total)), total)
        difference = _neighbour_sum(topology, vertices, weights) * scale - vertices
    else:
        raise ValueError(f"method is {method!r}, but must be 'uniform' or 'cot'")
    return difference.norm(dim=-1).mean()


def mesh_edge_loss(mesh: TriangleMesh, target_length: float = 0.0) -> torch.Tensor:
    """Mean squared difference, in mm^2, of the lengths of the edges from a target length in mm."""
    start, end = mesh.topology.edges.unbind(1)
    vertices = mesh.batch
    lengths = (vertices.index_select(1, start) - vertices.index_select(1, end)).norm(dim=-1)
    return ((lengths - target_length) ** 2).mean()


def mesh_normal_consistency(mesh: TriangleMesh) -> torch.Tensor:
    """Mean of 1 - cos of the angle between the normals of faces that share an edge: 0 where the surface is flat.

    As in PyTorch3D, whether two faces are oriented alike makes no difference. Where more than three faces meet at an
    edge, each pair counts once (PyTorch3D counts some twice).
    """
    pairs, agreement = mesh.topology.face_pairs
    vertices = mesh.batch
    a, b, c = (vertices.index_select(1, corner) for corner in mesh.faces.unbind(1))
    normals = torch.linalg.cross(b - a, c - a)
    normals = normals / normals.norm(dim=-1, keepdim=True).clamp(min=_SHORTEST_NORMAL)
    first, second = normals.index_select(1, pairs[:, 0]), normals.index_select(1, pairs[:, 1])
    return (1 - agreement.to(vertices.dtype) * (first * second).sum(-1)).mean()


def cotangent_weights(topology: MeshTopology, vertices: torch.Tensor) -> torch.Tensor:
    """Cot a + cot b of the angles opposite to every edge, [B, E], of vertices [B, V, 3]."""
    corners = [vertices.index_select(1, corner) for corner in topology.faces.unbind(1)]
    squared = [((corners[k] - corners[(k + 1) % 3]) ** 2).sum(-1) for k in range(3)]  # of the side k to k + 1
    # 16 area^2, Heron's formula without its square roots
    sixteen = 4 * squared[0] * squared[1] - (squared[0] + squared[1] - squared[2]) ** 2
    four_areas = sixteen.clamp(min=16 * _SMALLEST_SQUARED_AREA).sqrt()
    cotangents = [(squared[(k + 1) % 3] + squared[(k + 2) % 3] - squared[k]) / four_areas for k in range(3)]
    weights = vertices.new_zeros(len(vertices), len(topology.edges))
    return weights.index_add_(1, topology.edge_of_side, torch.cat(cotangents, dim=1))


def _neighbour_sum(topology: MeshTopology, vertices: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Sum over the neighbours of every vertex, [B, V, 3], times the weights [B, E] of the edges."""
    here, there = topology.neighbours
    values = vertices.index_select(1, there)
    if weights is not None:
        values = values * weights.repeat(1, 2)[..., None]
    # rows of one matrix: index_add is several times slower along an inner axis
    rows = values.transpose(0, 1).reshape(len(there), -1)
    total = rows.new_zeros(topology.vertex_count, rows.shape[1]).index_add(0, here, rows)
    return total.view(topology.vertex_count, len(vertices), 3).transpose(0, 1)


def _sum_at_vertices(topology: MeshTopology, weights: torch.Tensor) -> torch.Tensor:
    """Sum of the weights [B, E] of the edges at every vertex, [B, V]."""
    here, _ = topology.neighbours
    return weights.new_zeros(len(weights), topology.vertex_count).index_add_(1, here, weights.repeat(1, 2))
