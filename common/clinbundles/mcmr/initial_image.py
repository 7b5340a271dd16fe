"""Images to start from, without motion: view sharing and frame-wise SENSE."""

from __future__ import annotations

import torch

from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.coil_fourier_normal import FourierNormal
from clinbundles.mcmr.conjugate_gradient import ConvergenceReport, conjugate_gradient
from clinbundles.mcmr.motion_compensated_solve import SolveSettings, distance_weights


def view_shared(
    encoding: CoilFourierEncoding,
    adjoint_images: torch.Tensor,
    sigma: float = 1.5,
    regularisation: float = 0.03,
    cyclic: bool = True,
    settings: SolveSettings | None = None,
) -> tuple[torch.Tensor, ConvergenceReport]:
    """Each frame from the samples of all, weighted by their distance: the motion-compensated solve with zero flow.

    With zero flow the weighted sum of A_s^H A_s is again one encoding, whose mask is the weighted sum of the masks.

    Args:
        encoding: of S frames.
        adjoint_images: A^H y, complex (S, X, Y).
        sigma: of the weights exp(-d^2 / (2 sigma^2)), in frames.
        regularisation: at least 0, towards zero.
        cyclic: whether the last frame is followed by the first.
        settings: when the solve ends.

    Returns:
        Images, complex (S, X, Y), and the report of the solve.
    """
    _check(encoding, adjoint_images)
    weights = distance_weights(encoding.frames, sigma, cyclic).to(encoding.mask)
    density = torch.einsum("ts,s...->t...", weights, encoding.mask)
    right_side = torch.einsum("ts,sxy->txy", weights.to(adjoint_images.dtype), adjoint_images)
    return _solve(encoding, density, right_side, regularisation, settings)


def sense(
    encoding: CoilFourierEncoding,
    adjoint_images: torch.Tensor,
    regularisation: float = 0.0,
    settings: SolveSettings | None = None,
) -> tuple[torch.Tensor, ConvergenceReport]:
    """Each frame by itself, by conjugate gradients on A_t^H A_t + regularisation (CG-SENSE, Pruessmann et al. 2001).

    Args:
        encoding: of S frames.
        adjoint_images: A^H y, complex (S, X, Y).
        regularisation: at least 0, towards zero. Without it the number of iterations decides about the noise.
        settings: when the solve ends; by default after 10 iterations.

    Returns:
        Images, complex (S, X, Y), and the report of the solve.
    """
    _check(encoding, adjoint_images)
    settings = SolveSettings(max_iterations=10) if settings is None else settings
    return _solve(encoding, encoding.mask, adjoint_images, regularisation, settings)


def _solve(
    encoding: CoilFourierEncoding,
    density: torch.Tensor,
    right_side: torch.Tensor,
    regularisation: float,
    settings: SolveSettings | None,
) -> tuple[torch.Tensor, ConvergenceReport]:
    if not regularisation >= 0:
        raise ValueError(f"regularisation is {regularisation:g}: expected at least 0")
    settings = SolveSettings() if settings is None else settings
    normal = FourierNormal(encoding.sensitivity_maps, density)  # one image for each mask: no gain from Gram matrices

    def apply(images: torch.Tensor) -> torch.Tensor:
        seen = torch.stack([normal.apply(image, frame) for frame, image in enumerate(images)])
        return seen + regularisation * images

    with torch.no_grad():
        return conjugate_gradient(
            apply, right_side.detach(), tolerance=settings.tolerance, max_iterations=settings.max_iterations
        )


def _check(encoding: CoilFourierEncoding, adjoint_images: torch.Tensor) -> None:
    expected = (encoding.frames, *encoding.plane)
    if tuple(adjoint_images.shape) != expected or adjoint_images.dtype != encoding.sensitivity_maps.dtype:
        raise ValueError(
            f"adjoint_images: found {tuple(adjoint_images.shape)} {adjoint_images.dtype}, expected {expected} "
            f"{encoding.sensitivity_maps.dtype}"
        )
