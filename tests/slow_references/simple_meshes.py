"""Small closed meshes of known shape, and planes to cut them with."""

from __future__ import annotations

import math

import numpy as np
import torch


def sphere(
    level: int = 3, radius: float = 30.0, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Icosphere with 10 * 4^level + 2 vertices, outward."""
    golden = (1 + math.sqrt(5)) / 2
    points = [[-1, golden, 0], [1, golden, 0], [-1, -golden, 0], [1, -golden, 0]]
    points += [[0, -1, golden], [0, 1, golden], [0, -1, -golden], [0, 1, -golden]]
    points += [[golden, 0, -1], [golden, 0, 1], [-golden, 0, -1], [-golden, 0, 1]]
    faces = [[0, 11, 5], [0, 5, 1], [0, 1, 7], [0, 7, 10], [0, 10, 11], [1, 5, 9], [5, 11, 4], [11, 10, 2], [10, 7, 6]]
    faces += [[7, 1, 8], [3, 9, 4], [3, 4, 2], [3, 2, 6], [3, 6, 8], [3, 8, 9], [4, 9, 5], [2, 4, 11], [6, 2, 10]]
    faces += [[8, 6, 7], [9, 8, 1]]
    vertices = np.array(points, dtype=float)
    triangles = np.array(faces)
    for _ in range(level):
        corner = triangles
        pairs = np.sort(np.concatenate([corner[:, [0, 1]], corner[:, [1, 2]], corner[:, [2, 0]]]), axis=1)
        edges, index = np.unique(pairs, axis=0, return_inverse=True)
        a, b, c = len(vertices) + index.reshape(3, -1)
        vertices = np.concatenate([vertices, vertices[edges].mean(1)])
        triangles = np.concatenate(
            [
                np.stack([corner[:, 0], a, c], 1),
                np.stack([a, corner[:, 1], b], 1),
                np.stack([c, b, corner[:, 2]], 1),
                np.stack([a, b, c], 1),
            ]
        )
        vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    vertices *= radius / np.linalg.norm(vertices, axis=1, keepdims=True)
    return torch.as_tensor(vertices, dtype=dtype), torch.as_tensor(triangles)


def torus(
    radius: float = 25.0, tube: float = 8.0, around: int = 96, across: int = 48
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ring about the z axis."""
    u = torch.arange(around, dtype=torch.float64)[:, None] * (2 * math.pi / around)
    v = torch.arange(across, dtype=torch.float64)[None] * (2 * math.pi / across)
    distance = radius + tube * torch.cos(v)
    vertices = torch.stack(
        [distance * torch.cos(u), distance * torch.sin(u), (tube * torch.sin(v)).expand(around, -1)], -1
    )
    i, j = torch.arange(around)[:, None], torch.arange(across)[None]
    a, b = i * across + j, (i + 1) % around * across + j
    c, d = (i + 1) % around * across + (j + 1) % across, i * across + (j + 1) % across
    faces = torch.cat([torch.stack([a, b, c], -1).reshape(-1, 3), torch.stack([a, c, d], -1).reshape(-1, 3)])
    return vertices.reshape(-1, 3), faces


def ventricle(
    rows: int = 24, columns: int = 40, dtype: torch.dtype = torch.float64, welded: bool = True, jitter: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Wall of a left ventricle: epi and endo half spheroids, apex down, with a flat base ring at z = 0.

    With `welded` False the two sheets, and the base ring between them, have rims of their own at the same places.
    """
    generator = torch.Generator().manual_seed(0)
    angle = torch.arange(columns, dtype=dtype) * (2 * math.pi / columns)
    column, turn = torch.arange(columns), (torch.arange(columns) + 1) % columns

    def sheet(radius: float, depth: float) -> torch.Tensor:
        height = torch.linspace(0, 1, rows + 1, dtype=dtype)[:-1, None].repeat(1, columns)
        if jitter:
            height[1:] += jitter / rows * (torch.rand(rows - 1, columns, generator=generator, dtype=dtype) - 0.5)
        distance = radius * (1 - height**2.2).sqrt()
        ring = torch.stack([distance * torch.cos(angle), distance * torch.sin(angle), -depth * height], -1)
        return torch.cat([ring.reshape(-1, 3), torch.tensor([[0.0, 0.0, -depth]], dtype=dtype)])

    row = torch.arange(rows - 1)[:, None] * columns
    a, b = row + column, row + turn
    c, d = a + columns, b + columns
    last = (rows - 1) * columns
    tip = torch.stack([last + column, torch.full((columns,), rows * columns), last + turn], -1)
    outer = torch.cat([torch.stack([a, c, b], -1).reshape(-1, 3), torch.stack([b, c, d], -1).reshape(-1, 3), tip])
    vertices = torch.cat([sheet(36.0, 90.0), sheet(27.0, 82.0)])
    inner = rows * columns + 1
    out_rim, in_rim = column, inner + column
    if not welded:
        out_rim, in_rim = len(vertices) + column, len(vertices) + columns + column
        vertices = torch.cat([vertices, vertices[:columns], vertices[inner : inner + columns]])
    rim = [
        torch.stack([out_rim, out_rim[turn], in_rim], -1),
        torch.stack([out_rim[turn], in_rim[turn], in_rim], -1),
    ]
    return vertices, torch.cat([outer, outer.flip(1) + inner, *rim])


def axial_plane(height: float, pixels: int, pixel_mm: float = 1.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Plane z = height, centred on the z axis: [3, 4]."""
    plane = torch.zeros(3, 4, dtype=dtype)
    plane[0, 0] = plane[1, 1] = pixel_mm
    plane[2, 2] = 1.0
    plane[:2, 3] = -0.5 * (pixels - 1) * pixel_mm
    plane[2, 3] = height
    return plane


def random_rotation(seed: int) -> torch.Tensor:
    matrix = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
    return matrix * torch.linalg.det(matrix)


def oblique_plane(seed: int, centre: tuple[float, float, float], pixels: tuple[int, int]) -> torch.Tensor:
    """Plane of random direction through a point, with pixels that are neither square nor rectangular: [3, 4]."""
    axes = random_rotation(seed)
    axes[:, 0] *= 1.7
    axes[:, 1] = 1.2 * axes[:, 1] + 0.3 * axes[:, 0]
    middle = 0.5 * torch.tensor([pixels[0] - 1.0, pixels[1] - 1.0, 0.0], dtype=torch.float64)
    return torch.cat([axes, (torch.tensor(centre, dtype=torch.float64) - axes @ middle)[:, None]], 1)
