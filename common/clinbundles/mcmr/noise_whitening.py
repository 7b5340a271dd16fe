"""Noise prewhitening: coils are mixed so that their noise has unit variance and is uncorrelated.

Source: Pruessmann et al., Advances in sensitivity encoding with arbitrary k-space trajectories, MRM 46 (2001),
appendix; Kellman and McVeigh, Image reconstruction in SNR units, MRM 54 (2005), for the bandwidth of the noise scan.
"""

from __future__ import annotations

import torch
from torch import Tensor


def noise_covariance(noise: Tensor) -> Tensor:
    """Covariance E[n n^H] of samples that hold noise alone.

    Args:
        noise: complex (N, ...): N coils, all further axes are samples. At least 2 N samples; more give a better
            estimate (relative error about sqrt(N / samples)).

    Returns:
        complex128 (N, N), Hermitian.

    Raises:
        ValueError: real or too few samples, or values that are not finite.
    """
    if not noise.is_complex():
        raise ValueError(f"noise is {noise.dtype}, expected complex samples")
    samples = noise.reshape(noise.shape[0], -1).to(torch.complex128)
    coils, count = samples.shape
    if count < 2 * coils:
        raise ValueError(f"noise has {count} samples of {coils} coils, expected at least {2 * coils}")
    if not torch.isfinite(torch.view_as_real(samples)).all():
        raise ValueError("noise has samples that are not finite")
    samples = samples - samples.mean(dim=1, keepdim=True)
    return samples @ samples.mH / (count - 1)


def whitening_matrix(covariance: Tensor, bandwidth_ratio: float = 1.0) -> Tensor:
    """The matrix W with W C W^H = 1: the inverse of the Cholesky factor of the covariance C.

    Args:
        covariance: (N, N) Hermitian and positive definite.
        bandwidth_ratio: noise power of a sample of the imaging readout / that of a sample of the noise scan: dwell time
            of the noise scan / dwell time of the imaging readout / relative noise bandwidth of the receiver.

    Returns:
        complex128 (N, N), lower triangular.

    Raises:
        ValueError: not square, not Hermitian, or not positive definite: names the coils without noise of their own.
    """
    matrix = covariance.to(torch.complex128) * bandwidth_ratio
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"the noise covariance has the shape {tuple(covariance.shape)}, expected (coils, coils)")
    diagonal = matrix.diagonal().real
    dead = torch.nonzero(~(diagonal > 1e-12 * diagonal.max())).flatten().tolist()
    if dead:
        raise ValueError(f"coils {dead} have no noise: they are switched off; leave them out of data and covariance")
    if (matrix - matrix.mH).abs().max() > 1e-6 * diagonal.max():
        raise ValueError("the noise covariance is not Hermitian: expected E[n n^H]")
    factor, failed = torch.linalg.cholesky_ex((matrix + matrix.mH) / 2)
    # two coils with the same noise pass the factorisation by rounding errors
    pivots = factor.diagonal().real
    if failed or (pivots**2 < 1e-10 * diagonal).any():
        at = int(failed) - 1 if failed else int(torch.argmin(pivots**2 / diagonal))
        raise ValueError(
            f"the noise covariance is singular at coil {at}: its noise is a combination of that of the coils before "
            "it (a copied or already compressed coil); leave it out"
        )
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.solve_triangular(factor, identity, upper=False)


def mix_coils(data: Tensor, matrix: Tensor, dim: int = -3) -> Tensor:
    """Apply a matrix (M, N) to the coil axis: k-space (T, N, X, Y) to (T, M, X, Y), maps (N, X, Y) to (M, X, Y).

    Raises:
        ValueError: the matrix has another number of coils than the data.
    """
    if data.shape[dim] != matrix.shape[1]:
        raise ValueError(f"the data have {data.shape[dim]} coils, the matrix that mixes them takes {matrix.shape[1]}")
    mixed = torch.tensordot(matrix.to(data.dtype), data, dims=([1], [dim]))
    return torch.movedim(mixed, 0, dim).contiguous()


def whiten(kspace: Tensor, covariance: Tensor, bandwidth_ratio: float = 1.0) -> Tensor:
    """K-space (T, N, X, Y) with noise of unit variance (E|n|^2 = 1) that is uncorrelated between coils."""
    return mix_coils(kspace, whitening_matrix(covariance, bandwidth_ratio))
