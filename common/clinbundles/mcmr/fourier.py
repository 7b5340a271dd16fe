"""The centred, orthonormal Fourier transform, and the axes that all of `clinbundles.mcmr` shares.

Axes: T frames that are reconstructed (targets), S frames that were acquired (sources, normally S = T), N coils,
X readout, Y phase encoding.

- k-space: complex (T, N, X, Y), zero where nothing was sampled; the zero frequency stands at index n // 2.
- mask: (T, Y), 1 where a line was sampled, or (T, X, Y).
- sensitivity maps: complex (N, X, Y); the root sum of their squares is 1 inside their support and 0 outside.
- images: complex (T, X, Y).
- flow: real (T, S, 2, X, Y) in pixels, component 0 along X, component 1 along Y, pull: frame s at p is predicted as
  image t at p + flow[t, s, :, p]; flow[t, t] = 0.
- weights of pairs: real (T, S), at least 0.
"""

from __future__ import annotations

import torch

PLANE = (-2, -1)
READOUT, PHASE_ENCODING = -2, -1


def fft2c(image: torch.Tensor) -> torch.Tensor:
    """Image (..., X, Y) to centred k-space (..., X, Y); orthonormal, so that the norm stays (Parseval)."""
    return fftc(image, PLANE)


def ifft2c(kspace: torch.Tensor) -> torch.Tensor:
    """Centred k-space (..., X, Y) to image (..., X, Y); inverse and adjoint of `fft2c`."""
    return ifftc(kspace, PLANE)


def fftc(image: torch.Tensor, dim: int | tuple[int, ...]) -> torch.Tensor:
    """Image to centred k-space along some axes alone; orthonormal."""
    axes = (dim,) if isinstance(dim, int) else dim
    return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(image, dim=axes), dim=axes, norm="ortho"), dim=axes)


def ifftc(kspace: torch.Tensor, dim: int | tuple[int, ...]) -> torch.Tensor:
    """Centred k-space to image along some axes alone; inverse and adjoint of `fftc`."""
    axes = (dim,) if isinstance(dim, int) else dim
    return torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(kspace, dim=axes), dim=axes, norm="ortho"), dim=axes)
