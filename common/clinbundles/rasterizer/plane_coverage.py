"""Exact area coverage of the cross-section of a closed mesh with image planes, differentiable in mesh and planes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from clinbundles.rasterizer.plane_crossings import find_crossings
from clinbundles.rasterizer.polygon_coverage import (
    PixelPieces,
    accumulate_coverage,
    coverage_gradient,
    cut_into_pixels,
)

# An edge that is flatter than this against the plane does not get a steeper gradient (mm).
_FLATTEST_EDGE_MM = {torch.float64: 1e-6, torch.float32: 1e-4}


def plane_coverage(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    planes: torch.Tensor,
    size: tuple[int, int],
    slab_mm: float | Sequence[float] | torch.Tensor = 0.0,
    sub_planes: int = 5,
) -> torch.Tensor:
    """Part of every pixel of P planes that lies inside a closed mesh: [..., P, I, J], 0 to 1.

    The value is the exact area of the polygon in which the mesh meets the plane, and the gradient its exact shape
    derivative (Hadamard). It is zero where the outline of the mesh is not in the image. Inner surfaces of the other
    orientation are holes. A mesh that is turned inside out gives negative values: see `check_closed_mesh`.

    Args:
        vertices: [..., V, 3] in mm, float32 or float64; leading axes (frames, cases) broadcast with those of planes.
        faces: [F, 3] vertex indices, counter-clockwise seen from outside.
        planes: [..., P, 3 or 4, 4] affines (i, j, k, 1) -> mm in the space of the vertices: the columns are the steps
            to the next pixel along i and j, a third that is not used (normal or slice step), and the centre of pixel
            (0, 0). The steps may have any length and any angle but 0 and 180 degrees: the pixels are parallelograms.
        size: (I, J) pixels.
        slab_mm: thickness of the slices, one number or P numbers. The coverage is then the mean over `sub_planes`
            parallel planes, at the middles of equal parts of the thickness.
        sub_planes: without meaning where the thickness is 0.

    Raises:
        ValueError: wrong shapes or types, vertices that are not finite, planes whose axes do not span a plane.

    Source: the cover and area accumulation of font rasterizers, applied to mesh sections.
    """
    corners = _checked_faces(vertices, faces)
    if planes.ndim < 3 or planes.shape[-2] not in (3, 4) or planes.shape[-1] != 4:
        raise ValueError(
            f"planes must be [..., P, 3 or 4, 4] pixel-to-mm affines, but its shape is {tuple(planes.shape)}"
        )
    planes = planes.to(vertices)[..., :3, :]
    lead = torch.broadcast_shapes(vertices.shape[:-2], planes.shape[:-3])
    count = planes.shape[-3]
    vertices = vertices.expand(*lead, *vertices.shape[-2:]).reshape(-1, *vertices.shape[-2:])
    planes = planes.expand(*lead, *planes.shape[-3:]).reshape(-1, count, 3, 4)
    to_pixel, normals = _plane_frames(planes)

    thickness = torch.as_tensor(slab_mm, dtype=vertices.dtype, device=vertices.device)
    if thickness.ndim > 1 or (thickness.ndim == 1 and len(thickness) != count):
        raise ValueError(
            f"slab_mm must be one number or {count}, one per plane, but its shape is {tuple(thickness.shape)}"
        )
    offsets = _sub_plane_offsets(thickness, sub_planes)  # [P or 1, K]
    origins = planes[..., None, :, 3] + offsets[..., None] * normals[:, :, None]  # [B, P, K, 3]
    image = torch.arange(count, device=planes.device)[:, None].expand(count, offsets.shape[-1])
    coverage = _SectionCoverage.apply(vertices, to_pixel, normals, origins, corners, image, count, size)
    return coverage.reshape(*lead, count, *size)


def stack_coverage(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    affine: torch.Tensor,
    size: tuple[int, int, int],
    slab_mm: float = 0.0,
    sub_planes: int = 5,
) -> torch.Tensor:
    """Part of every voxel's slice that lies inside a closed mesh, for a stack of parallel slices: [..., I, J, K].

    The same as `plane_coverage` of the slices one by one, in one pass over the faces however many slices there are.

    Args:
        vertices: [..., V, 3] in mm, float32 or float64; the leading axes broadcast with those of affine.
        faces: [F, 3] vertex indices, counter-clockwise seen from outside.
        affine: [..., 3 or 4, 4] (i, j, k, 1) -> mm in the space of the vertices. Sheared stacks are exact too: the
            thickness is measured along the normal of the slices.
        size: (I, J, K) voxels.
        slab_mm: thickness of the slices: mean over `sub_planes` parallel planes in each.
        sub_planes: without meaning where the thickness is 0.

    Raises:
        ValueError: wrong shapes or types, vertices that are not finite, axes that do not span a plane.
    """
    corners = _checked_faces(vertices, faces)
    if affine.ndim < 2 or affine.shape[-2] not in (3, 4) or affine.shape[-1] != 4:
        raise ValueError(f"affine must be [..., 3 or 4, 4] voxel-to-mm, but its shape is {tuple(affine.shape)}")
    affine = affine.to(vertices)[..., :3, :]
    lead = torch.broadcast_shapes(vertices.shape[:-2], affine.shape[:-2])
    vertices = vertices.expand(*lead, *vertices.shape[-2:]).reshape(-1, *vertices.shape[-2:])
    affine = affine.expand(*lead, 3, 4).reshape(-1, 1, 3, 4)
    to_pixel, normals = _plane_frames(affine)

    offsets = _sub_plane_offsets(torch.as_tensor(float(slab_mm)).to(vertices), sub_planes)[0]
    slices = torch.arange(size[2], dtype=vertices.dtype, device=vertices.device)
    origins = (
        affine[..., None, None, :, 3]
        + slices[:, None, None] * affine[..., None, None, :, 2]
        + offsets[:, None] * normals[:, :, None, None]
    ).flatten(2, 3)  # [B, 1, slices * sub-planes, 3]
    image = torch.arange(size[2], device=affine.device).repeat_interleave(len(offsets))[None]
    coverage = _SectionCoverage.apply(vertices, to_pixel, normals, origins, corners, image, size[2], size[:2])
    return coverage.movedim(1, -1).reshape(*lead, *size)


class _SectionCoverage(torch.autograd.Function):
    """Mean coverage of the planes of each image: [B, images, I, J], with the shape derivative written by hand.

    An edge from H above to L below the plane meets it at X = H + r (L - H), r = s_H / (s_H - s_L), at the pixel
    E = A (X - o). With a gradient g of E and q = A (L - H) / (s_H - s_L), the vector w = A^T g + n (q . g) is that of X
    for motion in and through the plane: H gets (1 - r) w, L gets r w, the origin o gets -w, the normal n gets
    (q . g) (X - o), and A gets g (X - o)^T.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vertices: torch.Tensor,  # [B, V, 3]
        to_pixel: torch.Tensor,  # [B, G, 2, 3] mm -> pixel indices, rows in the plane
        normals: torch.Tensor,  # [B, G, 3] unit
        origins: torch.Tensor,  # [B, G, K, 3] centres of pixel (0, 0)
        corners: torch.Tensor,  # [3, F]
        image: torch.Tensor,  # [G, K] image of each plane
        images: int,
        size: tuple[int, int],
    ) -> torch.Tensor:
        batches, groups, count, _ = origins.shape
        # near the origin of coordinates float32 is finer
        centre = vertices.mean(1, keepdim=True)
        vertices = vertices - centre
        origins = origins - centre[:, None]
        heights = normals @ vertices.transpose(1, 2)
        levels = (origins @ normals[..., None])[..., 0]
        order = torch.arange(count, device=levels.device).expand_as(levels)
        if count > 1:
            levels, order = torch.sort(levels, dim=-1)
        found = find_crossings(heights, levels, corners)

        row = found.batch * groups + torch.div(found.plane, count, rounding_mode="floor")  # [M] group
        plane = row * count + order.reshape(-1)[found.batch * groups * count + found.plane]
        vertex = found.batch * vertices.shape[1]
        above, below = vertex + found.above, vertex + found.below  # [2, M]
        points = vertices.reshape(-1, 3)
        high = points.index_select(0, above.reshape(-1)).view(2, -1, 3)
        edge = points.index_select(0, below.reshape(-1)).view(2, -1, 3) - high
        drop = found.height_above - found.height_below
        fraction = found.height_above / drop.clamp(min=torch.finfo(drop.dtype).tiny)
        from_origin = high + fraction[..., None] * edge - origins.reshape(-1, 3).index_select(0, plane)
        axes = to_pixel.reshape(-1, 6).index_select(0, row).view(-1, 2, 3)
        pixel = _to_plane(axes, from_origin)
        start = pixel[:, 0] + 0.5  # [2, M], now from the border of pixel (0, 0)
        step = pixel[:, 1] - pixel[:, 0]
        pieces = cut_into_pixels(start, step, size)
        target = found.batch * images + image.reshape(-1)[plane % (groups * count)]
        weight = images / (groups * count)
        coverage = accumulate_coverage(start, step, pieces, target, batches * images, size)
        ctx.shapes = (vertices.shape, to_pixel.shape, origins.shape, weight)
        ctx.save_for_backward(
            above, below, row, plane, target, fraction, drop, edge, from_origin, axes, normals, step, *pieces
        )
        return (coverage if weight == 1 else coverage * weight).view(batches, images, *size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        above, below, row, plane, target, fraction, drop, edge, from_origin, axes, normals, step, *pieces = (
            ctx.saved_tensors
        )
        vertex_shape, axes_shape, origin_shape, weight = ctx.shapes
        to_ends = coverage_gradient(grad.flatten(0, 1) * weight, step, PixelPieces(*pieces), target)
        at_pixel = torch.stack(to_ends, dim=1)  # [2 (i, j), 2 (ends), M]
        slope = _to_plane(axes, edge) / drop.clamp(min=_FLATTEST_EDGE_MM[drop.dtype])
        through = (slope * at_pixel).sum(0)  # [2, M]: q . g
        normal = normals.reshape(-1, 3).index_select(0, row)
        move = at_pixel[0][..., None] * axes[:, 0] + at_pixel[1][..., None] * axes[:, 1] + through[..., None] * normal
        need_vertices, need_axes, need_normals, need_origins = ctx.needs_input_grad[:4]
        grads: list[torch.Tensor | None] = [None] * 4
        if need_vertices:
            to_low = fraction[..., None] * move
            index = torch.cat([above.reshape(-1), below.reshape(-1)])
            grads[0] = _sum_rows(index, torch.cat([move - to_low, to_low]).reshape(-1, 3), vertex_shape)
        if need_axes:
            outer = torch.einsum("xem,emc->mxc", at_pixel, from_origin).reshape(-1, 6)
            grads[1] = _sum_rows(row, outer, axes_shape)
        if need_normals:
            grads[2] = _sum_rows(row, (through[..., None] * from_origin).sum(0), normals.shape)
        if need_origins:
            grads[3] = _sum_rows(plane, -move.sum(0), origin_shape)
        return *grads, None, None, None, None


def _to_plane(axes: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Components [2 (i, j), 2 (ends), M] in pixels of vectors [2, M, 3] by the rows of axes [M, 2, 3]."""
    return torch.stack([(vectors * axes[:, 0]).sum(-1), (vectors * axes[:, 1]).sum(-1)])


def _sum_rows(index: torch.Tensor, rows: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Sum the rows [N, C] that go to the same place of a tensor of the given shape, whose rows have C numbers."""
    total = torch.zeros(shape, dtype=rows.dtype, device=rows.device)
    total.view(-1, rows.shape[1]).index_add_(0, index, rows)
    return total


def _plane_frames(planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of affines [B, P, 3, 4]: rows [B, P, 2, 3] that turn mm in the plane into pixels, and unit normals [B, P, 3].

    The rows are the dual basis of the pixel steps in their plane (the 2x2 solve with their Gram matrix).
    """
    along_i, along_j = planes[..., 0], planes[..., 1]
    cross = torch.linalg.cross(along_i, along_j)
    area_squared = (cross * cross).sum(-1, keepdim=True)
    lengths = along_i.norm(dim=-1) * along_j.norm(dim=-1)
    flat = ~(area_squared[..., 0].sqrt() > 1e-4 * lengths)
    if bool(flat.any()):
        batch, plane = flat.nonzero()[0].tolist()
        raise ValueError(
            f"the pixel axes {along_i[batch, plane].tolist()} and {along_j[batch, plane].tolist()} of plane {plane} "
            "(of all planes of a case, counted from 0) are parallel, zero or not finite: they span no plane. "
            "Leave out planes of missing views, and look at the affine of this one"
        )
    rows = torch.stack(
        [torch.linalg.cross(along_j, cross) / area_squared, torch.linalg.cross(cross, along_i) / area_squared], dim=-2
    )
    return rows, cross / area_squared.sqrt()


def _sub_plane_offsets(thickness: torch.Tensor, sub_planes: int) -> torch.Tensor:
    """Offsets [P or 1, K] in mm along the normal, at the middles of K equal parts of the thickness."""
    if sub_planes < 1 or bool((thickness < 0).any()):
        raise ValueError(f"slab_mm {thickness.tolist()} must not be negative, and sub_planes {sub_planes} not below 1")
    if not bool((thickness > 0).any()):
        sub_planes = 1
    middles = (torch.arange(sub_planes, dtype=thickness.dtype, device=thickness.device) + 0.5) / sub_planes - 0.5
    return thickness.reshape(-1, 1) * middles


def _checked_faces(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Faces as [3, F] int64, one contiguous row per corner; refuses what cannot be drawn."""
    if vertices.dtype not in _FLATTEST_EDGE_MM:
        raise ValueError(f"vertices must be float32 or float64, but they are {vertices.dtype}")
    if vertices.ndim < 2 or vertices.shape[-1] != 3:
        raise ValueError(f"vertices must be [..., V, 3] in mm, but their shape is {tuple(vertices.shape)}")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.is_floating_point():
        raise ValueError(f"faces must be [F, 3] integers, but they are {faces.dtype} of shape {tuple(faces.shape)}")
    if not bool(torch.isfinite(vertices).all()):
        number = int((~torch.isfinite(vertices)).any(-1).sum())
        raise ValueError(f"{number} vertices are not finite: the mesh cannot be drawn. Look at what moved it last")
    if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= vertices.shape[-2]):
        raise ValueError(
            f"faces name vertices {int(faces.min())} to {int(faces.max())}, but there are {vertices.shape[-2]}, from 0"
        )
    return faces.to(torch.int64).t().contiguous()
