"""Use of the noise that came with a case: its coils are whitened."""

from __future__ import annotations

from dataclasses import replace

import torch

from clinbundles.kspace.kspace_case import KspaceCase, KspaceError
from clinbundles.mcmr.noise_whitening import mix_coils, noise_covariance, whitening_matrix


def whitened_case(found: KspaceCase, case: str) -> KspaceCase:
    """The case with white noise of unit variance per acquired sample; without noise samples it is returned as it is.

    Maps that were given are mixed as the coils are and normalised again.

    Raises:
        KspaceError: noise that does not fit the k-space, or with which the coils cannot be whitened.
    """
    if found.noise is None:
        return found
    coils = found.kspace.shape[1]
    if found.noise.ndim < 2 or found.noise.shape[0] != coils:
        raise KspaceError(
            f"case '{case}': noise has the shape {found.noise.shape}, expected ({coils}, samples) for the {coils} "
            "coils of kspace"
        )
    try:
        covariance = noise_covariance(torch.from_numpy(found.noise))
        matrix = whitening_matrix(covariance, float(found.acquisition.get("noise_bandwidth_ratio", 1.0)))
    except ValueError as error:
        raise KspaceError(f"case '{case}': noise: {error}") from None
    maps = found.sensitivity_maps
    if maps is not None:
        if maps.ndim != 3 or maps.shape[0] != coils:
            raise KspaceError(
                f"case '{case}': sensitivity_maps has the shape {maps.shape}, but kspace has {coils} coils: they "
                "must agree"
            )
        mixed = mix_coils(torch.from_numpy(maps), matrix)
        size = torch.linalg.vector_norm(mixed, dim=0)
        maps = torch.where(size > 0, mixed / size.clamp_min(torch.finfo(size.dtype).tiny), 0).numpy()
    noise_sd = float(found.acquisition.get("averages", 1.0)) ** -0.5
    kspace = mix_coils(torch.from_numpy(found.kspace), matrix).numpy()
    return replace(found, kspace=kspace, sensitivity_maps=maps, noise=None, noise_sd=noise_sd)
