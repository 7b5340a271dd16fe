"""The reconstruction as engines run it: motion by the network, by fitting, or both; one entry for each case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

from cardiac_mri_mcmr_reconstruction.refined_motion import RefinedMotion
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import Iterate, MotionNet, UnrolledSettings, reconstruct
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
        motion: "network", or "instance" for motion that is fitted to each cine from rest and needs no weights.
        refine_steps: steps in which the motion is fitted to the first images; a quarter of them in each further outer
            iteration, from the motion before. 0: the network alone, anew in each outer iteration. Fitted motion passes
            no gradient to the network.
        tolerance: of the conjugate gradients, relative.
        max_iterations: of the conjugate gradients.
        cyclic: the last frame is next to the first.
        last_solve: False: no solve after the last motion; for losses of motion alone.
        settings: further ones of :class:`~cardiac_mri_mcmr_reconstruction.unrolled_reconstruction.UnrolledSettings`.

    Raises:
        ValueError: another word for the motion, no steps without a network, or settings out of range.
    """

    def __init__(
        self,
        motion: str = "network",
        refine_steps: int = 0,
        tolerance: float = 1.0e-4,
        max_iterations: int = 20,
        cyclic: bool = True,
        last_solve: bool = True,
        **settings: Any,
    ) -> None:
        if motion not in MOTIONS:
            raise ValueError(f"motion is {motion!r}: expected {' or '.join(map(repr, MOTIONS))}")
        if refine_steps < 0 or (motion == "instance" and not refine_steps):
            raise ValueError(
                f"refine_steps is {refine_steps}: expected 0 or more, and with motion 'instance' at least 1, since "
                "nothing else finds the motion then"
            )
        solve = SolveSettings(tolerance=tolerance, max_iterations=max_iterations)
        super().__init__()
        self.last_solve = last_solve
        self.settings = UnrolledSettings(cyclic=cyclic, solve=solve, **settings)
        if self.settings.pairwise and refine_steps:
            raise ValueError(
                f"refine_steps is {refine_steps} with pairwise motion: only motion from a template is refined, set "
                "refine_steps to 0"
            )
        self.motion, self.refine_steps = motion, refine_steps

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
        cases = CasesOfBatch()
        for kspace, sampled, maps in zip(inputs, mask, sensitivity_maps, strict=True):
            encoding = CoilFourierEncoding(_plain(maps), _plain(sampled))
            adjoint = encoding.adjoint(_plain(kspace))
            motion = self._motion(lambda *seen: network(*seen, *args, **kwargs))
            cases.append(reconstruct(encoding, adjoint, motion, self.settings, self.last_solve))
        return cases

    def _motion(self, network: MotionNet) -> MotionNet:
        if not self.refine_steps:
            return network
        start = network if self.motion == "network" else None
        return RefinedMotion(start, self.refine_steps, self.settings.cyclic)


def _plain(values: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(values).as_subclass(torch.Tensor)
