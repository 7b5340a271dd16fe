"""Steps between reading and reconstruction that concern the coils: compression and sensitivity maps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Transform

from clinbundles.kspace.kspace_case import KspaceError
from clinbundles.mcmr.coil_compression import compression_matrix, mix_maps
from clinbundles.mcmr.noise_whitening import mix_coils
from clinbundles.mcmr.sensitivity_estimation import espirit_maps, time_average_maps


class CompressCoilsd(Transform):
    """Keep the strongest combinations of coils: ``kspace`` (T, N, X, Y) becomes (T, M, X, Y); given maps follow.

    Args:
        coils: most coils to keep; a case with fewer keeps its own.
        energy: share of the energy to keep; see :func:`clinbundles.mcmr.coil_compression.compression_matrix`.

    Raises:
        KspaceError: k-space without signal.
    """

    def __init__(self, coils: int | None = 10, energy: float | None = None) -> None:
        self.coils = coils
        self.energy = energy

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Compress ``kspace``, ``sensitivity_maps`` and ``kspace_full``; adds ``coil_energy``, the share kept."""
        sample = dict(data)
        kspace = sample["kspace"]
        if (self.coils is None or kspace.shape[1] <= self.coils) and self.energy is None:
            return {**sample, "coil_energy": 1.0}
        try:
            matrix, kept = compression_matrix(kspace, self.coils, self.energy)
        except ValueError as error:
            raise KspaceError(f"case '{sample.get('case', '')}': kspace: {error}") from None
        sample["kspace"] = mix_coils(kspace, matrix)
        if "kspace_full" in sample:
            sample["kspace_full"] = mix_coils(sample["kspace_full"], matrix)
        if "sensitivity_maps" in sample:
            sample["sensitivity_maps"] = mix_maps(sample["sensitivity_maps"], matrix)
        sample["coil_energy"] = kept
        return sample


class EstimateSensitivityMapsd(Transform):
    """Write ``sensitivity_maps`` (N, X, Y), estimated from the time average of ``kspace``.

    Maps that were given stay, unless ``replace``.

    Args:
        method: ``espirit`` or ``time_average``.
        replace: whether maps are estimated although the case has them.
        settings: arguments of :func:`clinbundles.mcmr.sensitivity_estimation.espirit_maps` or of ``time_average_maps``.

    Raises:
        KspaceError: lines of the centre are missing (named); no signal.
    """

    def __init__(self, method: str = "espirit", replace: bool = False, **settings: Any) -> None:
        if method not in ("espirit", "time_average"):
            raise ValueError(f"method is {method!r}, expected 'espirit' or 'time_average'")
        self.method = method
        self.replace = replace
        self.settings = settings

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the maps and ``maps_method``: 'given', 'espirit' or 'time_average'."""
        sample = dict(data)
        if "sensitivity_maps" in sample and not self.replace:
            return {**sample, "maps_method": "given"}
        estimate = espirit_maps if self.method == "espirit" else time_average_maps
        try:
            maps = estimate(sample["kspace"], sample["mask"], **self.settings)
        except ValueError as error:
            raise KspaceError(f"case '{sample.get('case', '')}': sensitivity_maps: {error}") from None
        return {**sample, "sensitivity_maps": maps, "maps_method": self.method}
