"""Volumes enclosed by surfaces, by the divergence theorem; differentiable in the vertices."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor


def signed_volume(vertices: Tensor, faces: Tensor) -> Tensor:
    """Volume (...) in mm3 enclosed by closed surfaces; positive where the faces turn outward.

    V = 1/6 sum over the faces of a . (b x c), about the centroid, so that float32 suffices.

    Args:
        vertices: (..., V, 3) mm.
        faces: (F, 3).
    """
    places = vertices - vertices.mean(dim=-2, keepdim=True).detach()
    a, b, c = (places[..., faces[:, corner].long(), :] for corner in range(3))
    return (a * torch.linalg.cross(b, c, dim=-1)).sum(dim=(-2, -1)) / 6


def boundary_loops(faces: NDArray[np.integer] | Tensor) -> list[NDArray[np.int64]]:
    """The rims of an open surface: directed edges (E, 2) that no neighbour has reversed, one array per rim.

    Edges that hang together are one rim, also where it touches itself; they come in no special order.

    Raises:
        ValueError: faces that are not turned consistently.
    """
    corners = np.asarray(faces, np.int64)
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    count = int(edges.max()) + 1 if len(edges) else 0
    own, reverse = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    if len(np.unique(own)) < len(own):
        raise ValueError(
            f"{len(own) - len(np.unique(own))} edges are passed in the same direction by two faces: faces must be "
            "turned consistently"
        )
    rim = edges[~np.isin(own, reverse)]
    if len(rim) == 0:
        return []
    links = coo_matrix((np.ones(len(rim)), (rim[:, 0], rim[:, 1])), shape=(count, count))
    _, part = connected_components(links, directed=False)
    return [rim[part[rim[:, 0]] == number] for number in np.unique(part[rim[:, 0]])]


def cavity_volume(vertices: Tensor, faces: Tensor) -> Tensor:
    """Volume (...) in mm3 of a cavity bounded by an open surface; each rim is closed by a fan to its centroid.

    Whether the faces turn into the cavity or away from it does not matter.

    Args:
        vertices: (..., V, 3) mm, also of other parts of a mesh.
        faces: (F, 3) of the cavity's surface, such as the endocardium; closed surfaces have no rim and are fine.
    """
    used, local = torch.unique(faces.long(), return_inverse=True)
    places = vertices[..., used, :]
    parts = [places]
    closed = [local]
    count = len(used)
    for loop in boundary_loops(local.cpu().numpy()):
        edges = torch.as_tensor(loop, device=faces.device)
        parts.append(places[..., edges[:, 0], :].mean(dim=-2, keepdim=True))
        centre = torch.full((len(edges), 1), count, dtype=torch.int64, device=faces.device)
        closed.append(torch.cat([edges.flip(1), centre], dim=1))
        count += 1
    volume = signed_volume(torch.cat(parts, dim=-2), torch.cat(closed))
    return volume.abs()
