"""Compiled loops of the bilinear warp, its transpose and its derivative by the flow, on the CPU.

`images` are (I, X, Y, C) with C = 1 for real and 2 for complex values; `flows` are (F, 2, X, Y) in pixels. Pair b takes
image `image_index[b]`, flow `flow_index[b]` and `factors[b]`. `values` hold one image per pair, as (B, X, Y, C), or as
(X, B, Y, C) if `rows_first`. What lies outside an image counts as 0.

Each row's places come first, in a loop without branches that the compiler turns into vector instructions; the loops
release Python's lock and do the pairs from `begin` to `end`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_OPTIONS = {"nogil": True, "cache": True, "fastmath": {"contract"}}  # a * b + c may be rounded once


@njit(**_OPTIONS)
def _places(flow, x, places, shares, inside):  # type: ignore[no-untyped-def]
    """Row x: numbers (4, Y) of the pixels around each place, and the shares (2, 2, Y) of their rows and columns.

    What lies outside the image has `inside` 0, share 0 and the number of a pixel inside.
    """
    number = flow.dtype.type
    zero, one, before = number(0), number(1), number(-2)
    rows, columns = np.int32(flow.shape[1]), np.int32(flow.shape[2])
    first, last_row, last_column = np.int32(0), np.int32(rows - 1), np.int32(columns - 1)
    for y in range(columns):
        u, v = number(x) + flow[0, x, y], number(np.int32(y)) + flow[1, x, y]
        u = u if u > before else before  # not-a-number too: it lands outside
        v = v if v > before else before
        u = u if u < number(rows) else number(rows)
        v = v if v < number(columns) else number(columns)
        floor_u, floor_v = np.floor(u), np.floor(v)
        i, j = np.int32(floor_u), np.int32(floor_v)
        below, right = np.int32(i + 1), np.int32(j + 1)
        inside[0, 0, y] = one if (i >= 0) & (i <= last_row) else zero
        inside[0, 1, y] = one if (below >= 0) & (below <= last_row) else zero
        inside[1, 0, y] = one if (j >= 0) & (j <= last_column) else zero
        inside[1, 1, y] = one if (right >= 0) & (right <= last_column) else zero
        shares[0, 0, y], shares[0, 1, y] = inside[0, 0, y] * (one - (u - floor_u)), inside[0, 1, y] * (u - floor_u)
        shares[1, 0, y], shares[1, 1, y] = inside[1, 0, y] * (one - (v - floor_v)), inside[1, 1, y] * (v - floor_v)
        i, below = min(max(i, first), last_row), min(max(below, first), last_row)
        j, right = min(max(j, first), last_column), min(max(right, first), last_column)
        places[0, y], places[1, y] = i * columns + j, i * columns + right
        places[2, y], places[3, y] = below * columns + j, below * columns + right


@njit(**_OPTIONS)
def pull(images, flows, image_index, flow_index, values, rows_first, begin, end):  # type: ignore[no-untyped-def]
    """values(p) = image(p + flow(p))."""
    rows, columns, channels = images.shape[1:]
    places, shares = np.empty((4, columns), np.uint32), np.empty((2, 2, columns), flows.dtype)
    inside = np.empty_like(shares)
    for b in range(begin, end):
        image, flow = images[image_index[b]].reshape(rows * columns, channels), flows[flow_index[b]]
        for x in range(rows):
            _places(flow, x, places, shares, inside)
            row = values[x, b] if rows_first else values[b, x]
            for y in range(columns):
                top, bottom, left, right = shares[0, 0, y], shares[0, 1, y], shares[1, 0, y], shares[1, 1, y]
                p00, p01, p10, p11 = places[0, y], places[1, y], places[2, y], places[3, y]
                w00, w01, w10, w11 = top * left, top * right, bottom * left, bottom * right
                row[y, 0] = w00 * image[p00, 0] + w01 * image[p01, 0] + w10 * image[p10, 0] + w11 * image[p11, 0]
                if channels == 2:
                    row[y, 1] = w00 * image[p00, 1] + w01 * image[p01, 1] + w10 * image[p10, 1] + w11 * image[p11, 1]


@njit(**_OPTIONS)
def splat(images, flows, image_index, flow_index, factors, values, rows_first, begin, end):  # type: ignore[no-untyped-def]
    """Add factor * transpose of `pull` to the images: values(p) is shared out to the pixels around p + flow(p)."""
    rows, columns, channels = images.shape[1:]
    places, shares = np.empty((4, columns), np.uint32), np.empty((2, 2, columns), flows.dtype)
    inside = np.empty_like(shares)
    for b in range(begin, end):
        image, flow = images[image_index[b]].reshape(rows * columns, channels), flows[flow_index[b]]
        factor = factors[b]
        for x in range(rows):
            _places(flow, x, places, shares, inside)
            row = values[x, b] if rows_first else values[b, x]
            for y in range(columns):
                for corner in range(4):
                    place = places[corner, y]
                    share = factor * shares[0, corner // 2, y] * shares[1, corner % 2, y]
                    image[place, 0] += share * row[y, 0]
                    if channels == 2:
                        image[place, 1] += share * row[y, 1]


@njit(**_OPTIONS)
def slope(images, flows, image_index, flow_index, factors, values, rows_first, gradient, begin, end):  # type: ignore[no-untyped-def]
    """Add factor * d/dflow Re <pull(image), values> to gradient (F, 2, X, Y)."""
    rows, columns, channels = images.shape[1:]
    places, shares = np.empty((4, columns), np.uint32), np.empty((2, 2, columns), flows.dtype)
    inside = np.empty_like(shares)
    for b in range(begin, end):
        image, flow = images[image_index[b]].reshape(rows * columns, channels), flows[flow_index[b]]
        out, factor = gradient[flow_index[b]], factors[b]
        for x in range(rows):
            _places(flow, x, places, shares, inside)
            row = values[x, b] if rows_first else values[b, x]
            for y in range(columns):
                in_top, in_bottom, in_left, in_right = (
                    inside[0, 0, y],
                    inside[0, 1, y],
                    inside[1, 0, y],
                    inside[1, 1, y],
                )
                top, bottom, left, right = shares[0, 0, y], shares[0, 1, y], shares[1, 0, y], shares[1, 1, y]
                p00, p01, p10, p11 = places[0, y], places[1, y], places[2, y], places[3, y]
                for channel in range(channels):
                    c00, c01, c10, c11 = (
                        image[p00, channel],
                        image[p01, channel],
                        image[p10, channel],
                        image[p11, channel],
                    )
                    q = factor * row[y, channel]
                    out[0, x, y] += q * (in_bottom * (left * c10 + right * c11) - in_top * (left * c00 + right * c01))
                    out[1, x, y] += q * (in_right * (top * c01 + bottom * c11) - in_left * (top * c00 + bottom * c10))
