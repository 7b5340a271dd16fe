"""Losses of motion and images over the outer iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from cardiac_mri_mcmr_reconstruction.brightness import brightness
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import Iterate
from clinbundles.mcmr.bilinear_warp import warp
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding

MODES = ("photometric", "recon_driven", "kspace")


class McmrLoss(nn.Module):
    """What teaches the motion network.

    - ``photometric``: frames of the reference, carried to the template, look alike (Pan et al., MICCAI 2022); the
      solves only give the next images.
    - ``recon_driven``: reconstructed images look like the reference (Pan et al., IEEE TMI 2024); the gradient comes
      through the solves.
    - ``kspace``: no reference; reconstructed images explain lines that were acquired, but held out from the solves.

    Images are on a scale on which their brightest part is 255, and residuals enter as ``(|d|^2 + 1e-6)^0.45``. Later
    iterations count more: weight ``decay^(K - k)``.

    Args:
        mode: one of the three.
        smoothness: weight of :func:`spatial_difference`.
        temporal: weight of :func:`temporal_difference`.
        decay: weight of an iteration against the next.
    """

    def __init__(
        self, mode: str = "recon_driven", smoothness: float = 4.0, temporal: float = 2.0, decay: float = 0.85
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}: expected one of {', '.join(MODES)}")
        self.mode, self.smoothness, self.temporal, self.decay = mode, smoothness, temporal, decay

    def forward(self, cases: Sequence[Sequence[Iterate]], target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean loss of the cases.

        Args:
            cases: iterates of each, of ``reconstruct``.
            target: ``reference`` complex (B, T, X, Y) for the first two modes; for ``kspace``: ``held_out`` complex
                (B, T, N, X, Y), ``held_out_mask`` (B, T, Y) and ``sensitivity_maps`` (B, N, X, Y).
        """
        needed = "held_out" if self.mode == "kspace" else "reference"
        if needed not in target:
            raise ValueError(
                f"mode {self.mode!r} needs '{needed}', which these cases lack: undersampled cases can only train "
                "mode 'kspace', and RandHoldOutLinesd makes 'held_out'"
            )
        return torch.stack([self._case(one, target, number) for number, one in enumerate(cases)]).mean()

    def _case(self, iterates: Sequence[Iterate], target: Mapping[str, torch.Tensor], number: int) -> torch.Tensor:
        total = iterates[0].images.real.new_zeros(())
        for before, iterate in enumerate(reversed(iterates[1:])):
            if self.mode == "photometric":
                term = photometric(iterate, target["reference"][number])
            elif self.mode == "recon_driven":
                term = image_error(iterate, target["reference"][number])
            else:
                encoding = CoilFourierEncoding(target["sensitivity_maps"][number], target["held_out_mask"][number])
                term = line_error(iterate, target["held_out"][number], encoding)
            flow = iterate.pair_flow if iterate.template_flow is None else iterate.template_flow
            if flow is not None:
                term = term + self.smoothness * spatial_difference(flow) + self.temporal * temporal_difference(flow)
            total = total + self.decay**before * term
        return total


def photometric(iterate: Iterate, reference: torch.Tensor) -> torch.Tensor:
    """Difference of the reference's frames, carried to the template, from their mean; or of all pairs of frames."""
    frames = 255 * reference.abs() / brightness(reference)
    if iterate.pair_flow is None:
        carried = warp(frames, iterate.template_flow)
        return charbonnier(carried - carried.mean(0, keepdim=True))
    targets, sources = torch.nonzero(iterate.pair_flow.detach().flatten(2).any(2), as_tuple=True)
    return charbonnier(warp(frames[targets], iterate.pair_flow[targets, sources]) - frames[sources])


def image_error(iterate: Iterate, reference: torch.Tensor) -> torch.Tensor:
    """Complex difference of the images from the reference (T, X, Y)."""
    return charbonnier(255 / brightness(reference) * (iterate.images - reference))


def line_error(iterate: Iterate, held_out: torch.Tensor, encoding: CoilFourierEncoding) -> torch.Tensor:
    """Difference of the images' k-space from lines that were held out, (T, N, X, Y), zero elsewhere."""
    difference = encoding.forward(iterate.images) - held_out
    return charbonnier(255 / brightness(iterate.images) * difference[held_out != 0])


def charbonnier(difference: torch.Tensor) -> torch.Tensor:
    """Mean of ``(|d|^2 + 1e-6)^0.45`` of real or complex differences."""
    squared = difference.real.square() + difference.imag.square() if difference.is_complex() else difference.square()
    return ((squared + 1e-6) ** 0.45).mean()


def spatial_difference(flow: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbouring pixels of flow (..., 2, X, Y), a quarter of both directions' sum."""
    return (flow.diff(dim=-2).abs().mean() + flow.diff(dim=-1).abs().mean()) / 4


def temporal_difference(flow: torch.Tensor) -> torch.Tensor:
    """Half the mean absolute difference between neighbouring frames of flow (T, 2, X, Y), which is cyclic.

    Of flows (T, S, 2, X, Y) between frames: between pairs at the same distance.
    """
    after = flow.roll(1, 0) if flow.ndim == 4 else flow.roll((1, 1), (0, 1))
    return ((flow - after).square() + 1e-6).sqrt().mean() / 2
