"""Edges, neighbours and neighbouring faces of a triangle mesh: what depends on the faces alone, computed once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch.utils.weak import WeakTensorKeyDictionary


class MeshTopology:
    """How the triangles of a mesh hang together.

    Args:
        faces: [F, 3] vertex indices (integers).
        vertex_count: V.

    Everything is computed when it is first asked for, and kept. Use `MeshTopology.of` to get the same object for the
    same tensor of faces.
    """

    def __init__(self, faces: torch.Tensor, vertex_count: int) -> None:
        if faces.ndim != 2 or faces.shape[1] != 3 or faces.is_floating_point():
            raise ValueError(f"faces must be [F, 3] integers, but they are {faces.dtype} of shape {tuple(faces.shape)}")
        if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= vertex_count):
            raise ValueError(
                f"faces name vertices {int(faces.min())} to {int(faces.max())}, but there are {vertex_count}, from 0"
            )
        self.faces = faces.to(torch.int64)
        self.vertex_count = vertex_count

    @classmethod
    def of(cls, faces: torch.Tensor, vertex_count: int) -> MeshTopology:
        """The topology kept for this tensor of faces (the object, as long as it lives and is not changed)."""
        kept = _kept.get(faces)
        if kept is None or kept[0] != faces._version or kept[1].vertex_count != vertex_count:
            # a copy of the faces: the topology must not keep the tensor alive that it is kept for
            kept = (faces._version, cls(faces.detach().clone(), vertex_count))
            _kept[faces] = kept
        return kept[1]

    @cached_property
    def _half_edges(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Edges [E, 2] with the smaller index first, edge [3 F] and direction [3 F] (+1, -1) of every side of a face.

        Sides are numbered corner by corner: side k F + f leads from corner k of face f to the next.
        """
        start = self.faces.t().reshape(-1)
        end = self.faces[:, [1, 2, 0]].t().reshape(-1)
        key = torch.minimum(start, end) * self.vertex_count + torch.maximum(start, end)
        key, edge = torch.unique(key, return_inverse=True)
        pairs = torch.stack([torch.div(key, self.vertex_count, rounding_mode="floor"), key % self.vertex_count], dim=1)
        return pairs, edge, torch.where(start < end, 1, -1)

    @property
    def edges(self) -> torch.Tensor:
        """[E, 2] vertices of every edge, the smaller index first, in order."""
        return self._half_edges[0]

    @property
    def edge_of_side(self) -> torch.Tensor:
        """[3 F] edge of every side: first those from corner 0 to 1 of all faces, then from 1 to 2, then from 2 to 0."""
        return self._half_edges[1]

    @cached_property
    def faces_per_edge(self) -> torch.Tensor:
        """[E] number of faces that share an edge: 2 everywhere on a closed surface."""
        return torch.bincount(self._half_edges[1], minlength=len(self.edges))

    @cached_property
    def boundary_edges(self) -> torch.Tensor:
        """[N, 2] edges of a single face."""
        return self.edges[self.faces_per_edge == 1]

    @cached_property
    def unbalanced_edges(self) -> torch.Tensor:
        """[N, 2] edges that their faces do not run through as often in one direction as in the other."""
        _, edge, direction = self._half_edges
        balance = torch.zeros(len(self.edges), dtype=torch.int64, device=edge.device).index_add_(0, edge, direction)
        return self.edges[balance != 0]

    @cached_property
    def neighbours(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Directed edges (from [2 E], to [2 E]): every vertex with each of its neighbours."""
        return torch.cat([self.edges[:, 0], self.edges[:, 1]]), torch.cat([self.edges[:, 1], self.edges[:, 0]])

    @cached_property
    def degree(self) -> torch.Tensor:
        """[V] number of neighbours."""
        return torch.bincount(self.neighbours[0], minlength=self.vertex_count)

    @cached_property
    def face_pairs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Pairs [N, 2] of faces that share an edge, and whether their orientation agrees [N] (+1) or not (-1)."""
        _, edge, direction = self._half_edges
        order = torch.argsort(edge, stable=True)
        sorted_edge = edge[order]
        pairs = []
        for distance in range(1, int(self.faces_per_edge.max()) if len(edge) else 0):
            same = sorted_edge[distance:] == sorted_edge[:-distance]
            pairs.append(torch.stack([order[:-distance][same], order[distance:][same]], dim=1))
        if not pairs:
            return self.faces.new_zeros(0, 2), self.faces.new_zeros(0)
        sides = torch.cat(pairs)
        return sides % len(self.faces), -direction[sides[:, 0]] * direction[sides[:, 1]]

    @property
    def euler_characteristic(self) -> int:
        """Vertices in use - edges + faces: 2 for a surface like a sphere, 0 for a torus."""
        return int((self.degree > 0).sum()) - len(self.edges) + len(self.faces)


_kept = WeakTensorKeyDictionary()


def weld(vertices: torch.Tensor, faces: torch.Tensor, tolerance_mm: float = 1e-4) -> tuple[torch.Tensor, torch.Tensor]:
    """Make one vertex of those that lie at the same place.

    Args:
        vertices: [V, 3] in mm.
        faces: [F, 3].
        tolerance_mm: what counts as the same place.

    Returns:
        kept: [W] index of the vertex that stays, for each new vertex: `vertices[kept]` are the new vertices.
        faces: [F, 3] with the new numbers.
    """
    points = vertices.detach().cpu().double().numpy()
    pairs = cKDTree(points).query_pairs(tolerance_mm, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    _, place = connected_components(links, directed=False)
    _, kept, place = np.unique(place, return_index=True, return_inverse=True)
    order = np.argsort(kept)  # in the order in which they stood
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    number = torch.as_tensor(rank[place.reshape(-1)], device=faces.device)
    return torch.as_tensor(kept[order], device=faces.device), number[faces.to(torch.int64)]
