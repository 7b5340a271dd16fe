"""Motion-compensated reconstruction as the public research code does it: coil by coil, pair by pair, unrolled."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F


def centred_fft(image: torch.Tensor) -> torch.Tensor:
    shifted = torch.fft.ifftshift(image, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1))


def centred_ifft(kspace: torch.Tensor) -> torch.Tensor:
    shifted = torch.fft.ifftshift(kspace, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1))


def sampling_grid(flow: torch.Tensor) -> torch.Tensor:
    """`grid_sample`'s grid (K, X, Y, 2) of flows (K, 2, X, Y): (column, row) in [-1, 1]."""
    rows, columns = flow.shape[-2:]
    i = torch.arange(rows, dtype=flow.dtype)[:, None] + flow[:, 0]
    j = torch.arange(columns, dtype=flow.dtype) + flow[:, 1]
    return torch.stack([2 * j / (columns - 1) - 1, 2 * i / (rows - 1) - 1], dim=-1)


def pull(images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Warp of complex (K, X, Y) by (K, 2, X, Y), zero outside; differentiable in both."""
    channels = torch.view_as_real(images).movedim(-1, 1)
    pulled = F.grid_sample(channels, sampling_grid(flow), mode="bilinear", padding_mode="zeros", align_corners=True)
    return torch.view_as_complex(pulled.movedim(1, -1).contiguous())


def push(images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Transpose of `pull`: the gradient of `grid_sample`."""
    channels = torch.view_as_real(images).movedim(-1, 1).contiguous()
    back, _ = torch.ops.aten.grid_sampler_2d_backward(
        channels, channels, sampling_grid(flow), 0, 0, True, [True, False]
    )
    return torch.view_as_complex(back.movedim(1, -1).contiguous())


def differentiable_push(images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """The same by gather and scatter-add, differentiable in both."""
    rows, columns = flow.shape[-2:]
    i = torch.arange(rows, dtype=flow.dtype)[:, None] + flow[:, 0]
    j = torch.arange(columns, dtype=flow.dtype) + flow[:, 1]
    result = torch.zeros_like(images).flatten(1)
    for down in (0, 1):
        for right in (0, 1):
            row, column = i.floor() + down, j.floor() + right
            share = (1 - (i - row).abs()) * (1 - (j - column).abs())
            inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            place = (row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)).long()
            result = result.scatter_add(1, place.flatten(1), (share * inside * images).flatten(1))
    return result.reshape(images.shape)


def motion_compensated_normal(
    maps: torch.Tensor,
    mask: torch.Tensor,
    flow: torch.Tensor,
    weights: torch.Tensor,
    regularisation: float | torch.Tensor,
    images: torch.Tensor,
    transpose: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = push,
) -> torch.Tensor:
    """H x, target by target: all pairs of a target are warped, encoded coil by coil, and warped back."""
    results = []
    for target, image in enumerate(images):
        pulled = pull(image.expand(len(mask), -1, -1), flow[target])
        coils = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        seen = (maps.conj() * centred_ifft(coils * centred_fft(maps * pulled[:, None]))).sum(1)
        back = (weights[target][:, None, None] * transpose(seen, flow[target])).sum(0)
        results.append(back + regularisation * image)
    return torch.stack(results)


def unrolled_solve(
    maps: torch.Tensor,
    mask: torch.Tensor,
    adjoint_images: torch.Tensor,
    flow: torch.Tensor,
    weights: torch.Tensor,
    prior: torch.Tensor,
    regularisation: torch.Tensor,
    iterations: int,
) -> torch.Tensor:
    """Conjugate gradients in plain autograd, every iteration recorded."""

    def normal(images: torch.Tensor) -> torch.Tensor:
        return motion_compensated_normal(maps, mask, flow, weights, regularisation, images, differentiable_push)

    def product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first.conj() * second).real.sum((1, 2), keepdim=True)

    shared = torch.stack(
        [
            (weights[target][:, None, None] * differentiable_push(adjoint_images, flow[target])).sum(0)
            for target in range(len(weights))
        ]
    )
    residual = shared + regularisation * prior
    solution, direction = torch.zeros_like(residual), residual
    energy = product(residual, residual)
    for _ in range(iterations):
        image = normal(direction)
        step = energy / product(direction, image)
        solution = solution + step * direction
        residual = residual - step * image
        before, energy = energy, product(residual, residual)
        direction = residual + energy / before * direction
    return solution
