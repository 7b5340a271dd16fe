"""The unrolled reconstruction as a MONAI inferer, for training, evaluation and hosts alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import Iterate, UnrolledSettings, reconstruct
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding


class ReconstructionInferer(Inferer):
    """Reconstructs cases with a motion network.

    Args:
        last_solve: False: no solve after the last motion; for losses of motion alone.
        settings: of the reconstruction, by name (:class:`UnrolledSettings`).
    """

    def __init__(self, last_solve: bool = True, **settings: Any) -> None:
        super().__init__()
        self.last_solve = last_solve
        self.settings = UnrolledSettings(**settings)

    def __call__(
        self,
        inputs: torch.Tensor,
        network: Callable[..., torch.Tensor],
        mask: torch.Tensor,
        sensitivity_maps: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> list[list[Iterate]]:
        """Iterates of each case.

        Args:
            inputs: k-space (B, T, N, X, Y).
            network: motion network.
            mask: (B, T, Y) or (B, T, X, Y).
            sensitivity_maps: (B, N, X, Y).
            args: further arguments of the network.
            kwargs: further named arguments of the network.
        """
        cases = []
        for kspace, sampled, maps in zip(inputs, mask, sensitivity_maps, strict=True):
            encoding = CoilFourierEncoding(_plain(maps), _plain(sampled))
            adjoint = encoding.adjoint(_plain(kspace))
            cases.append(
                reconstruct(
                    encoding, adjoint, lambda *seen: network(*seen, *args, **kwargs), self.settings, self.last_solve
                )
            )
        return cases


def _plain(values: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(values).as_subclass(torch.Tensor)
