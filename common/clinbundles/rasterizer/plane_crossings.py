"""Where the triangles of a mesh cross planes: oriented segments, found by one pass over the faces.

The planes come in groups of parallel planes. A vertex has a level in each group, the number of planes at or below it;
the levels of all groups are packed into one integer per vertex, so that a face is looked at once, however many planes
there are. A face crosses the planes between its lowest and its highest level.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

_WORD_BITS = 62  # of the 64 of an integer: the sign stays free


class PlaneCrossings(NamedTuple):
    """M pairs of a face and a plane that cross. Each segment runs with the inside of the mesh on its left."""

    batch: torch.Tensor  # [M]
    plane: torch.Tensor  # [M] group * K + plane in its group (in order of height)
    above: torch.Tensor  # [2, M] vertex at or above the plane, of the edges that the segment starts and ends on
    below: torch.Tensor  # [2, M] vertex below it
    height_above: torch.Tensor  # [2, M] distance of these vertices to the plane, >= 0
    height_below: torch.Tensor  # [2, M] < 0


def find_crossings(heights: torch.Tensor, levels: torch.Tensor, faces: torch.Tensor) -> PlaneCrossings:
    """Pairs of faces and planes that cross.

    Args:
        heights: [B, G, V] heights of the vertices along the normals of G groups of parallel planes.
        levels: [B, G, K] heights of the planes, ascending.
        faces: [3, F] vertex indices (int64), counter-clockwise seen from outside.

    A vertex on the plane counts as above it, in every face alike. Hence closed meshes have closed outlines, and a
    face that lies in the plane gives no segment.
    """
    _, groups, count = levels.shape
    bits = int(count).bit_length()
    per_word = _WORD_BITS // bits
    found = [
        _crossings_of_word(
            heights[:, start : start + per_word], levels[:, start : start + per_word], faces, bits, start
        )
        for start in range(0, groups, per_word)
    ]
    if len(found) == 1:
        return found[0]
    return PlaneCrossings(*(torch.cat(parts, dim=-1) for parts in zip(*found, strict=True)))


def _crossings_of_word(
    heights: torch.Tensor, levels: torch.Tensor, faces: torch.Tensor, bits: int, first_group: int
) -> PlaneCrossings:
    batches, groups, vertices = heights.shape
    count = levels.shape[-1]
    word = torch.zeros(batches, vertices, dtype=torch.int64, device=heights.device)
    for group in range(groups):
        word |= _level(heights[:, group], levels[:, group]) << (bits * group)

    corners = torch.stack([word.index_select(1, corner) for corner in faces])  # [3, B, F]
    mixed = (corners[0] ^ corners[1]) | (corners[0] ^ corners[2])
    batch, face = mixed.nonzero(as_tuple=True)
    mixed = mixed[batch, face]
    shifts = bits * torch.arange(groups, device=heights.device)
    field = (1 << bits) - 1
    pair, group = ((mixed[:, None] >> shifts) & field).nonzero(as_tuple=True)
    batch, face = batch[pair], face[pair]
    corner_level = (corners[:, batch, face] >> (bits * group)) & field  # [3, N]
    if count == 1:
        step = torch.zeros_like(group)
    else:
        lowest, highest = corner_level.amin(0), corner_level.amax(0)
        pair = torch.repeat_interleave(highest - lowest)
        before = torch.cumsum(highest - lowest, 0) - (highest - lowest)
        step = lowest[pair] + torch.arange(len(pair), device=pair.device) - before[pair]
        batch, face, group, corner_level = batch[pair], face[pair], group[pair], corner_level[:, pair]

    is_above = corner_level > step
    lone_above = is_above.sum(0) == 1
    lone = ((is_above == lone_above) * torch.tensor([[0], [1], [2]], device=step.device)).sum(0)
    corners_of_face = faces.index_select(1, face)
    apex = corners_of_face.gather(0, lone[None])[0]
    after = corners_of_face.gather(0, ((lone + 1) % 3)[None])[0]
    behind = corners_of_face.gather(0, ((lone + 2) % 3)[None])[0]
    # seen from above, an outward face with one corner above is passed from the edge to its next corner to the other
    others = torch.stack([torch.where(lone_above, after, behind), torch.where(lone_above, behind, after)])
    above = torch.where(lone_above, apex, others)
    below = torch.where(lone_above, others, apex)
    row = batch * groups + group
    level = levels.reshape(-1)[row * count + step]
    flat = heights.reshape(-1)
    return PlaneCrossings(
        batch=batch,
        plane=(first_group + group) * count + step,
        above=above,
        below=below,
        height_above=flat[row * vertices + above] - level,
        height_below=flat[row * vertices + below] - level,
    )


def _level(heights: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Number of planes at or below each vertex: [B, V] from heights [B, V] and ascending levels [B, K]."""
    count = levels.shape[-1]
    if count == 1:
        return (heights >= levels).to(torch.int64)
    return torch.searchsorted(levels.contiguous(), heights.contiguous(), right=True)
