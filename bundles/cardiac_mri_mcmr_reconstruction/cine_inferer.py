"""The reconstruction as engines run it: motion by the network or fitted to each cine, one entry for each case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

from cardiac_mri_mcmr_reconstruction.instance_optimised_motion import InstanceOptimisedMotion
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import Iterate, UnrolledSettings, reconstruct
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.motion_compensated_solve import SolveSettings

MOTIONS = ("network", "instance")


class CasesOfBatch(list[list[Iterate]]):
    """Iterates of each case, which MONAI's engines take apart into one entry for each case, whatever it holds.

    ``monai.data.decollate_batch`` knows tensors and refuses other objects. What has no axes and an ``item()`` it takes
    as it is: this list says that of itself.
    """

    ndim = 0

    def item(self) -> list[list[Iterate]]:
        """The cases."""
        return list(self)


class CineInferer(Inferer):
    """Reconstructs the cases of a batch.

    Args:
        motion: "network", or "instance" for motion that is fitted to each cine and needs no weights.
        tolerance: of the conjugate gradients, relative.
        max_iterations: of the conjugate gradients.
        cyclic: the last frame is next to the first.
        last_solve: False: no solve after the last motion; for losses of motion alone.
        settings: further ones of :class:`~cardiac_mri_mcmr_reconstruction.unrolled_reconstruction.UnrolledSettings`.

    Raises:
        ValueError: another word for the motion, or settings out of range.
    """

    def __init__(
        self,
        motion: str = "network",
        tolerance: float = 1.0e-4,
        max_iterations: int = 20,
        cyclic: bool = True,
        last_solve: bool = True,
        **settings: Any,
    ) -> None:
        if motion not in MOTIONS:
            raise ValueError(f"motion is {motion!r}: expected {' or '.join(map(repr, MOTIONS))}")
        solve = SolveSettings(tolerance=tolerance, max_iterations=max_iterations)
        super().__init__()
        self.last_solve = last_solve
        self.settings = UnrolledSettings(cyclic=cyclic, solve=solve, **settings)
        self.instance = InstanceOptimisedMotion(cyclic=cyclic) if motion == "instance" else None

    def __call__(
        self,
        inputs: torch.Tensor,
        network: Callable[..., torch.Tensor],
        mask: torch.Tensor,
        sensitivity_maps: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> CasesOfBatch:
        """Iterates of each case.

        Args:
            inputs: k-space (B, T, N, X, Y).
            network: motion network.
            mask: (B, T, Y) or (B, T, X, Y).
            sensitivity_maps: (B, N, X, Y).
            args: further arguments of the network.
            kwargs: further named arguments of the network.
        """
        motion = self.instance or (lambda *seen: network(*seen, *args, **kwargs))
        cases = CasesOfBatch()
        for kspace, sampled, maps in zip(inputs, mask, sensitivity_maps, strict=True):
            encoding = CoilFourierEncoding(_plain(maps), _plain(sampled))
            adjoint = encoding.adjoint(_plain(kspace))
            cases.append(reconstruct(encoding, adjoint, motion, self.settings, self.last_solve))
        return cases


def _plain(values: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(values).as_subclass(torch.Tensor)
