"""Exact area of polygons in pixels by accumulation of signed areas, as in font rasterizers.

Every oriented segment is cut at the pixel borders. A piece in row i and column j covers, to its right, a signed part of
its own pixel and a strip of constant height of all pixels behind: two numbers, and a cumulative sum along the row does
the rest. The polygon's inside lies left of its segments (counter-clockwise with i to the right and j up); holes are
polygons of the other orientation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class PixelPieces(NamedTuple):
    """Segments cut at pixel borders: piece n is the part from `start` to `end` of segment `segment`, in one pixel."""

    segment: torch.Tensor  # [N]
    start: torch.Tensor  # [N] fraction of the segment, 0..1
    end: torch.Tensor  # [N] not below start
    row: torch.Tensor  # [N] i of the pixel, 0..I-1
    column: torch.Tensor  # [N] j of the pixel; -1: before the image, J: behind it


def cut_into_pixels(start: torch.Tensor, step: torch.Tensor, size: tuple[int, int]) -> PixelPieces:
    """Cut M segments at pixel borders.

    Args:
        start: [2, M] coordinates (i, j) of the first points, pixel (0, 0) reaching from 0 to 1.
        step: [2, M] second minus first points.
        size: (I, J). Parts outside in i are dropped, parts outside in j are one piece per row.
    """
    zero = torch.zeros_like(start[0])
    segment, row, begin, end = _cut(start[0], step[0], zero, zero + 1, (0, size[0] - 1), outside=False)
    row_part, column, begin, end = _cut(start[1][segment], step[1][segment], begin, end, (-1, size[1]), outside=True)
    return PixelPieces(segment[row_part], begin, end, row[row_part], column)


def _cut(
    start: torch.Tensor,
    step: torch.Tensor,
    begin: torch.Tensor,
    end: torch.Tensor,
    cells: tuple[int, int],
    outside: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cut the parts [begin, end] of lines start + t step at the integers: (part, cell, begin, end) of every piece.

    Cells are numbered by their lower border. What lies outside the range of cells is dropped or, with `outside`,
    belongs to the first and last cell, which then are half-infinite.
    """
    at_begin, at_end = start + step * begin, start + step * end
    first = torch.minimum(at_begin, at_end).floor()
    last = torch.maximum(torch.maximum(at_begin, at_end).ceil() - 1, first)
    if outside:
        first, last = first.clamp(*cells), last.clamp(*cells)
    else:
        first, last = first.clamp(min=cells[0]), last.clamp(max=cells[1])
    count = (last - first + 1).clamp(min=0).to(torch.int64)
    part = torch.repeat_interleave(count)
    before = torch.cumsum(count, 0) - count
    cell = first[part] + (torch.arange(len(part), device=part.device) - before[part])
    start, step, begin, end = start[part], step[part], begin[part], end[part]
    # a segment parallel to the borders stays whole: its border times are -huge and +huge
    step = torch.where(step == 0, torch.full_like(step, torch.finfo(step.dtype).tiny ** 0.5), step)
    lower, upper = cell, cell + 1
    if outside:
        huge = torch.finfo(step.dtype).max ** 0.5
        lower = torch.where(cell == cells[0], -huge, lower)
        upper = torch.where(cell == cells[1], huge, upper)
    time_low = torch.clamp((lower - start) / step, begin, end)
    time_high = torch.clamp((upper - start) / step, begin, end)
    return part, cell.to(torch.int64), torch.minimum(time_low, time_high), torch.maximum(time_low, time_high)


def accumulate_coverage(
    start: torch.Tensor, step: torch.Tensor, pieces: PixelPieces, image: torch.Tensor, count: int, size: tuple[int, int]
) -> torch.Tensor:
    """Signed area of closed polygons in every pixel: [count, I, J].

    Args:
        start, step: [2, M] as in `cut_into_pixels`.
        pieces: the segments cut at pixel borders.
        image: [M] image that each segment belongs to, 0..count-1.
    """
    rows, columns = size
    width = columns + 3  # one column before the image, one behind it, one that takes what the latter passes on
    segment = pieces.segment
    duration = pieces.end - pieces.start
    rise = step[0][segment] * duration
    middle = start[1][segment] + step[1][segment] * (0.5 * (pieces.start + pieces.end))
    passed = (middle - pieces.column).clamp(0, 1) * rise  # all of it for pieces before the image
    pixel = (image[segment] * rows + pieces.row) * width + (pieces.column + 1)
    buffer = torch.zeros(count * rows * width, dtype=start.dtype, device=start.device)
    buffer.index_add_(0, pixel, rise - passed)
    buffer.index_add_(0, pixel + 1, passed)
    return buffer.view(count, rows, width).cumsum(-1)[..., 1 : columns + 1]


def coverage_gradient(
    grad: torch.Tensor, step: torch.Tensor, pieces: PixelPieces, image: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient with respect to the first and second points of the segments, [2, M] each.

    Hadamard's formula: an area integral of g changes by the boundary integral of g times the normal displacement,
    where g is the gradient that arrives at each pixel, zero outside the image.

    Args:
        grad: [count, I, J] gradient with respect to the coverage.
        step, pieces, image: as in `accumulate_coverage`.
    """
    _, rows, columns = grad.shape
    inside = (pieces.column >= 0) & (pieces.column < columns)
    pixel = (image[pieces.segment] * rows + pieces.row) * columns + pieces.column.clamp(0, columns - 1)
    mass = grad.reshape(-1)[pixel] * (pieces.end - pieces.start) * inside
    to_second = mass * (0.5 * (pieces.start + pieces.end))
    sums = torch.zeros(2, step.shape[1], dtype=step.dtype, device=step.device)
    sums[0].index_add_(0, pieces.segment, mass - to_second)
    sums[1].index_add_(0, pieces.segment, to_second)
    normal = torch.stack([step[1], -step[0]])
    return sums[0] * normal, sums[1] * normal
