"""Bilinear warp, its exact transpose (splat) and its derivative by the flow.

(U a)(p) = bilinear(a, p + flow(p)), in pixels (pull). What lies outside the image counts as 0 (zero padding): then the
transpose is a splat that drops what falls outside, and a zero flow gives the image bit by bit. U is real, also for
complex images. On the CPU compiled loops do the work; elsewhere gather and index-add of PyTorch, with the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from clinbundles.mcmr import bilinear_gather, bilinear_kernels


def warp(images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """U images; differentiable in both.

    Args:
        images: (..., X, Y), real or complex.
        flow: (..., 2, X, Y) in pixels, of the images' precision; leading axes broadcast against those of the images.

    Returns:
        (..., X, Y).
    """
    _check(images, flow)
    return _Warp.apply(images, flow)


def warp_adjoint(images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """U^T images, the splat: <U a, b> = <a, U^T b>; arguments and result as of `warp`; differentiable in both."""
    _check(images, flow)
    return _WarpAdjoint.apply(images, flow)


def warp_flow_gradient(images: torch.Tensor, flow: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
    """d/dflow Re <U images, cotangent>; at whole pixels the derivative towards greater places.

    Args:
        images: (..., X, Y).
        flow: (..., 2, X, Y).
        cotangent: (..., X, Y), of the images' type.

    Returns:
        (..., 2, X, Y) real, with the leading axes that all three broadcast to.
    """
    _check(images, flow)
    _check(cotangent, flow)
    leading = torch.broadcast_shapes(images.shape[:-2], flow.shape[:-3], cotangent.shape[:-2])
    pairs = WarpPairs(images, flow, leading)
    return pairs.flow_gradient(cotangent.expand(*leading, *cotangent.shape[-2:]))


class _Warp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(images, flow)
        return WarpPairs(images, flow).pull()

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        images, flow = ctx.saved_tensors
        by_images = by_flow = None
        if ctx.needs_input_grad[0]:
            by_images = _sum_to(warp_adjoint(cotangents[0], flow), images.shape)
        if ctx.needs_input_grad[1]:
            by_flow = _sum_to(warp_flow_gradient(images, flow, cotangents[0]), flow.shape)
        return by_images, by_flow


class _WarpAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(images, flow)
        return WarpPairs(images, flow).splat()

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        images, flow = ctx.saved_tensors
        by_images = by_flow = None
        if ctx.needs_input_grad[0]:
            by_images = _sum_to(warp(cotangents[0], flow), images.shape)
        if ctx.needs_input_grad[1]:
            by_flow = _sum_to(warp_flow_gradient(cotangents[0], flow, images), flow.shape)
        return by_images, by_flow


class WarpPairs:
    """Which image goes with which flow after broadcasting, without copies of either.

    Args:
        images: (..., X, Y).
        flow: (..., 2, X, Y).
        leading: the leading axes of the pairs; by default those that images and flow broadcast to.
    """

    def __init__(self, images: torch.Tensor, flow: torch.Tensor, leading: torch.Size | None = None) -> None:
        self.leading = torch.broadcast_shapes(images.shape[:-2], flow.shape[:-3]) if leading is None else leading
        self.plane = tuple(images.shape[-2:])
        self.images = images.detach().resolve_conj().reshape(-1, *self.plane).contiguous()
        self.flow = flow.detach().reshape(-1, 2, *self.plane).contiguous()
        self.image_index = _indices(images.shape[:-2], self.leading)
        self.flow_index = _indices(flow.shape[:-3], self.leading)

    def pull(self) -> torch.Tensor:
        """U of every pair's image: (..., X, Y)."""
        out = self.images.new_empty((len(self.image_index), *self.plane))
        pull_pairs(self.images, self.flow, self.image_index, self.flow_index, out)
        return out.reshape(*self.leading, *self.plane)

    def splat(self) -> torch.Tensor:
        """U^T of every pair's image: (..., X, Y)."""
        pairs = len(self.image_index)
        out = self.images.new_zeros((pairs, *self.plane))
        values = self.images if pairs == len(self.images) else self.images[torch.as_tensor(self.image_index)]
        splat_pairs(out, self.flow, np.arange(pairs), self.flow_index, values)
        return out.reshape(*self.leading, *self.plane)

    def flow_gradient(self, cotangent: torch.Tensor) -> torch.Tensor:
        """d/dflow Re <U image, cotangent> of every pair: (..., 2, X, Y)."""
        pairs = len(self.image_index)
        flow = self.flow if pairs == len(self.flow) else self.flow[torch.as_tensor(self.flow_index)]
        out = torch.zeros_like(flow)
        values = cotangent.detach().reshape(-1, *self.plane).contiguous()
        slope_pairs(self.images, flow, self.image_index, np.arange(pairs), values, out)
        return out.reshape(*self.leading, 2, *self.plane)


def pull_pairs(
    images: torch.Tensor,
    flows: torch.Tensor,
    image_index: np.ndarray,
    flow_index: np.ndarray,
    values: torch.Tensor,
    rows_first: bool = False,
) -> None:
    """values[b] = U of images[image_index[b]] by flows[flow_index[b]].

    Args:
        images: (I, X, Y).
        flows: (F, 2, X, Y).
        image_index: (B,).
        flow_index: (B,).
        values: (B, X, Y), or (X, B, Y) if `rows_first`; contiguous; written.
        rows_first: the layout of `values`.
    """
    _check_written(values)
    if values.device.type == "cpu":
        arguments = (_channels(images), flows.numpy(), image_index, flow_index, _channels(values), rows_first)
        _in_threads(lambda begin, end: bilinear_kernels.pull(*arguments, begin, end), len(image_index))
        return
    by_pair = values.transpose(0, 1) if rows_first else values
    bilinear_gather.pull(images, flows, image_index, flow_index, by_pair)


def splat_pairs(
    images: torch.Tensor,
    flows: torch.Tensor,
    image_index: np.ndarray,
    flow_index: np.ndarray,
    values: torch.Tensor,
    factors: torch.Tensor | None = None,
    rows_first: bool = False,
) -> None:
    """Add factors[b] * U^T values[b] to images[image_index[b]]; no image may occur twice; else as `pull_pairs`."""
    _check_written(images)
    factors = _ones(values, len(image_index)) if factors is None else factors
    if values.device.type == "cpu":
        arguments = (
            _channels(images),
            flows.numpy(),
            image_index,
            flow_index,
            factors.numpy(),
            _channels(values),
            rows_first,
        )
        _in_threads(lambda begin, end: bilinear_kernels.splat(*arguments, begin, end), len(image_index))
        return
    by_pair = values.transpose(0, 1) if rows_first else values
    bilinear_gather.splat(images, flows, image_index, flow_index, factors, by_pair)


def slope_pairs(
    images: torch.Tensor,
    flows: torch.Tensor,
    image_index: np.ndarray,
    flow_index: np.ndarray,
    values: torch.Tensor,
    gradient: torch.Tensor,
    factors: torch.Tensor | None = None,
    rows_first: bool = False,
) -> None:
    """Add factors[b] * d/dflow Re <U image, values[b]> to gradient[flow_index[b]]; no flow may occur twice."""
    factors = _ones(values, len(image_index)) if factors is None else factors
    if values.device.type == "cpu":
        arguments = (
            _channels(images),
            flows.numpy(),
            image_index,
            flow_index,
            factors.numpy(),
            _channels(values),
            rows_first,
        )
        out = gradient.numpy()
        _in_threads(lambda begin, end: bilinear_kernels.slope(*arguments, out, begin, end), len(image_index))
        return
    by_pair = values.transpose(0, 1) if rows_first else values
    bilinear_gather.slope(images, flows, image_index, flow_index, factors, by_pair, gradient)


def _in_threads(work: Callable[[int, int], None], pairs: int) -> None:
    """The pairs in as many parts as PyTorch has threads."""
    parts = min(torch.get_num_threads(), pairs)
    if parts <= 1:
        work(0, pairs)
        return
    borders = [pairs * part // parts for part in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(work, borders[:-1], borders[1:]))


def _real(values: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(values) if values.is_complex() else values.unsqueeze(-1)


def _channels(values: torch.Tensor) -> np.ndarray:
    """Images as the loops take them, with one or two channels last; shares the memory of contiguous tensors."""
    return _real(values.detach().resolve_conj()).contiguous().numpy()


def _ones(values: torch.Tensor, count: int) -> torch.Tensor:
    return torch.ones(count, dtype=values.real.dtype, device=values.device)


def _indices(own: torch.Size, leading: torch.Size) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(np.arange(own.numel()).reshape(own), leading)).reshape(-1)


def _sum_to(values: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return values.sum_to_size(shape)


def _check_written(values: torch.Tensor) -> None:
    if not values.is_contiguous() or values.is_conj():
        raise ValueError(
            f"the result is written into a tensor of shape {tuple(values.shape)} and strides {values.stride()}: "
            "expected a contiguous one. Make it with .contiguous()"
        )


def _check(images: torch.Tensor, flow: torch.Tensor) -> None:
    if flow.ndim < 3 or flow.shape[-3] != 2:
        raise ValueError(
            f"flow has shape {tuple(flow.shape)}: expected (..., 2, X, Y), pixels along X and along Y. "
            "Move the axis of the two components to the third place from the end"
        )
    if images.ndim < 2 or images.shape[-2:] != flow.shape[-2:]:
        raise ValueError(
            f"images have shape {tuple(images.shape)} and flow {tuple(flow.shape)}: expected (..., X, Y) and "
            "(..., 2, X, Y) on one grid"
        )
    precision = images.real.dtype if images.is_complex() else images.dtype
    if flow.dtype != precision or precision not in (torch.float32, torch.float64):
        raise ValueError(
            f"images are {images.dtype} and flow is {flow.dtype}: expected one precision, float32 with complex64 or "
            "float32, or float64 with complex128 or float64. Convert one with .to(...)"
        )
