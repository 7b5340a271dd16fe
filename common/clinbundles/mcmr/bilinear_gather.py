"""The bilinear warp, its transpose and its derivative by the flow with PyTorch's own functions, for any device.

The same values as `bilinear_kernels`, which says what the arguments are; here `images` are (I, X, Y), and `values`
(B, X, Y) of any strides.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

_PAIRS_AT_ONCE = 32  # bounds the memory: about 100 bytes per pixel and pair


def pull(
    images: torch.Tensor, flows: torch.Tensor, image_index: np.ndarray, flow_index: np.ndarray, values: torch.Tensor
) -> None:
    """values(p) = image(p + flow(p))."""
    flat = _real(images).flatten(0, 2)  # I X Y, C
    for part, places, shares, _, _ in _parts(flows, image_index, flow_index):
        _real(values)[part] = (flat[places] * shares.unsqueeze(-1)).sum(1)


def splat(
    images: torch.Tensor,
    flows: torch.Tensor,
    image_index: np.ndarray,
    flow_index: np.ndarray,
    factors: torch.Tensor,
    values: torch.Tensor,
) -> None:
    """Add factor * transpose of `pull` to the images."""
    flat = _real(images).flatten(0, 2)
    for part, places, shares, _, _ in _parts(flows, image_index, flow_index):
        scaled = factors[part, None, None, None] * _real(values[part])
        shared = shares.unsqueeze(-1) * scaled.unsqueeze(1)  # B 4 X Y C
        flat.index_add_(0, places.flatten(), shared.flatten(0, 3))


def slope(
    images: torch.Tensor,
    flows: torch.Tensor,
    image_index: np.ndarray,
    flow_index: np.ndarray,
    factors: torch.Tensor,
    values: torch.Tensor,
    gradient: torch.Tensor,
) -> None:
    """Add factor * d/dflow Re <pull(image), values> to gradient (F, 2, X, Y)."""
    flat = _real(images).flatten(0, 2)
    for part, places, _, slopes, flow_numbers in _parts(flows, image_index, flow_index):
        scaled = factors[part, None, None, None] * _real(values[part])
        agreement = (flat[places] * scaled.unsqueeze(1)).sum(-1)  # B 4 X Y
        gradient.index_add_(0, flow_numbers, (slopes * agreement.unsqueeze(1)).sum(2))


def _parts(
    flows: torch.Tensor, image_index: np.ndarray, flow_index: np.ndarray
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Some pairs at a time: which, places in all images (B, 4, X, Y), shares, their slopes (B, 2, 4, X, Y), flows."""
    size = flows.shape[-2] * flows.shape[-1]
    for begin in range(0, len(image_index), _PAIRS_AT_ONCE):
        part = slice(begin, min(begin + _PAIRS_AT_ONCE, len(image_index)))
        flow_numbers = torch.as_tensor(flow_index[part], device=flows.device)
        image_numbers = torch.as_tensor(image_index[part], device=flows.device)
        places, shares, slopes = _places(flows[flow_numbers])
        yield part, places + size * image_numbers[:, None, None, None], shares, slopes, flow_numbers


def _places(flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of flows (B, 2, X, Y): pixel numbers (B, 4, X, Y), shares (B, 4, X, Y), their derivatives (B, 2, 4, X, Y)."""
    rows, columns = flow.shape[-2:]
    axes = []
    for component, size, shape in ((0, rows, (-1, 1)), (1, columns, (1, -1))):
        grid = torch.arange(size, device=flow.device, dtype=flow.dtype).reshape(shape)
        place = torch.nan_to_num(flow[:, component] + grid, nan=-2.0).clamp(-2, size)
        low = place.floor()
        fraction = place - low
        index = torch.stack([low, low + 1], dim=1).long()  # B 2 X Y
        inside = ((index >= 0) & (index < size)).to(flow.dtype)
        signs = torch.tensor([-1.0, 1.0], device=flow.device, dtype=flow.dtype).reshape(2, 1, 1)
        axes.append((index.clamp(0, size - 1), inside * torch.stack([1 - fraction, fraction], dim=1), inside * signs))
    (i, by_row, row_slope), (j, by_column, column_slope) = axes

    def product(of_rows: torch.Tensor, of_columns: torch.Tensor) -> torch.Tensor:
        return (of_rows[:, :, None] * of_columns[:, None]).flatten(1, 2)

    places = (i[:, :, None] * columns + j[:, None]).flatten(1, 2)
    slopes = torch.stack([product(row_slope, by_column), product(by_row, column_slope)], dim=1)
    return places, product(by_row, by_column), slopes


def _real(values: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(values) if values.is_complex() else values.unsqueeze(-1)
