"""Coil compression: the few combinations of coils that hold nearly all signal (principal components).

Source: Buehrer et al., Array compression for MRI with large coil arrays, MRM 57 (2007); Huang et al., A software
channel compression technique for faster reconstruction with many channels, Magn Reson Imaging 26 (2008). The noise
stays white only if it was white before: whiten first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clinbundles.mcmr.noise_whitening import mix_coils


def compression_matrix(kspace: Tensor, coils: int | None = None, energy: float | None = None) -> tuple[Tensor, float]:
    """The matrix with orthonormal rows that keeps the most energy of k-space.

    Args:
        kspace: complex (T, N, X, Y); zeros where nothing was sampled change nothing.
        coils: number of combinations to keep, at least 1; more than N keeps all.
        energy: share of the energy to keep, in (0, 1]; with both, the smaller number of coils.

    Returns:
        (M, N) complex128, strongest combination first, and the share of the energy that is kept.

    Raises:
        ValueError: neither or wrong ``coils`` and ``energy``, k-space that is not finite or zero everywhere.
    """
    if coils is None and energy is None:
        raise ValueError("coil compression needs coils (how many to keep) or energy (which share to keep)")
    if coils is not None and coils < 1:
        raise ValueError(f"coils is {coils}, expected at least 1")
    if energy is not None and not 0 < energy <= 1:
        raise ValueError(f"energy is {energy}, expected a share above 0 and at most 1")
    number = kspace.shape[-3]
    covariance = torch.zeros(number, number, dtype=torch.complex128)
    for frame in kspace.reshape(-1, *kspace.shape[-3:]):  # one frame at a time: float64 doubles the memory
        samples = frame.reshape(number, -1).to(torch.complex128).cpu()
        covariance += samples @ samples.mH
    trace = float(covariance.diagonal().real.sum())
    if not 0 < trace < float("inf"):
        raise ValueError(f"kspace has the energy {trace}, expected a finite number above 0")
    values, vectors = torch.linalg.eigh(covariance)
    shares = values.flip(0).clamp_min(0).cumsum(0) / trace
    keep = number if coils is None else min(coils, number)
    if energy is not None:
        keep = min(keep, int((shares < energy - 1e-12).sum()) + 1)
    return vectors.flip(1)[:, :keep].mH.contiguous(), float(shares[keep - 1])


def compress_coils(kspace: Tensor, coils: int | None = None, energy: float | None = None) -> Tensor:
    """K-space (T, N, X, Y) to (T, M, X, Y); see :func:`compression_matrix`."""
    return mix_coils(kspace, compression_matrix(kspace, coils, energy)[0].to(kspace.device))


def mix_maps(maps: Tensor, matrix: Tensor, least: float = 0.0) -> Tensor:
    """Sensitivity maps (N, X, Y) of the mixed coils (M, X, Y), unit root sum of squares again inside their support.

    A combination of fewer coils can lose pixels: where less than ``least`` of the root sum of squares is left, the maps
    are zero, which ends their support there.
    """
    mixed = mix_coils(maps, matrix.to(maps.device))
    size = torch.linalg.vector_norm(mixed, dim=0)
    return torch.where(size > least, mixed / size.clamp_min(torch.finfo(size.dtype).tiny), torch.zeros_like(mixed))
