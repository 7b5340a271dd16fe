"""The unrolled scheme: motion from the present images, images solved with that motion, and so on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from cardiac_mri_mcmr_reconstruction.brightness import brightness
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.conjugate_gradient import ConvergenceReport
from clinbundles.mcmr.flow_composition import pair_flows
from clinbundles.mcmr.initial_image import sense, view_shared
from clinbundles.mcmr.motion_compensated_average import motion_compensated_average
from clinbundles.mcmr.motion_compensated_solve import SolveSettings, distance_weights, solve_motion_compensated

MotionNet = Callable[..., torch.Tensor]
"""(1, T, X, Y) magnitudes in [0, 1] to (1, 2 T, X, Y) pixels, template -> frame. Where the settings say ``pairwise``:
those and weights (T, S) to flows (1, T, S, 2, X, Y) between frames, as ``Graft``."""


@dataclass(frozen=True)
class UnrolledSettings:
    """How a cine is reconstructed.

    Attributes:
        outer_iterations: K, how often motion and images take turns.
        init: "view_shared" (neighbouring frames without motion) or "sense" (each frame alone), the first images.
        init_sigma: frames; weight of neighbours for "view_shared".
        weight_sigma: frames; weight exp(-d^2 / (2 sigma^2)) of the data of a frame at distance d.
        neighbours: data of so many frames on each side count.
        regularisation: weight of staying near the prior images.
        prior_sigma: frames; the prior is the average of the images of the iteration before along the motion, with
            weights of this width up to twice as far: noise falls, and what moves stays sharp. 0: those images.
        cyclic: the last frame is next to the first.
        pairwise: the motion comes as flows between frames instead of flows from a template.
        solve: of the conjugate gradients.
    """

    outer_iterations: int = 3
    init: str = "view_shared"
    init_sigma: float = 1.5
    weight_sigma: float = 1.5
    neighbours: int = 4
    regularisation: float = 0.3
    prior_sigma: float = 1.5
    cyclic: bool = True
    pairwise: bool = False
    solve: SolveSettings = field(default_factory=SolveSettings)

    def __post_init__(self) -> None:
        if self.init not in ("view_shared", "sense"):
            raise ValueError(f"init is {self.init!r}: expected 'view_shared' or 'sense'")
        if self.outer_iterations < 0 or self.neighbours < 1 or self.regularisation < 0 or self.prior_sigma < 0:
            raise ValueError(
                f"outer_iterations={self.outer_iterations}, neighbours={self.neighbours}, regularisation="
                f"{self.regularisation}, prior_sigma={self.prior_sigma}: expected 0 or more, 1 or more, 0 or more and "
                "0 or more"
            )


@dataclass(frozen=True)
class Iterate:
    """Images after one outer iteration, and the motion that they were solved with.

    Attributes:
        images: complex (T, X, Y).
        template_flow: (T, 2, X, Y) pixels, template -> frame; None for the first images and for pairwise motion.
        report: of the solve.
        pair_flow: pairwise motion alone: (T, S, 2, X, Y) pixels, predicts frame s from frame t where their weight is
            not zero.
    """

    images: torch.Tensor
    template_flow: torch.Tensor | None
    report: ConvergenceReport
    pair_flow: torch.Tensor | None = None

    @property
    def moved(self) -> bool:
        """Whether there is motion in it."""
        return self.template_flow is not None or self.pair_flow is not None


def reconstruct(
    encoding: CoilFourierEncoding,
    adjoint_images: torch.Tensor,
    motion: MotionNet,
    settings: UnrolledSettings,
    last_solve: bool = True,
) -> list[Iterate]:
    """Images of a cine, the first ones and those after every outer iteration (Pan et al., MICCAI 2022).

    Args:
        encoding: sensitivity maps and mask of the case.
        adjoint_images: A^H y (T, X, Y).
        motion: the network.
        settings: of the reconstruction.
        last_solve: False: the last iterate has new motion, but the images before; for losses of motion alone.
    """
    iterates = [first_images(encoding, adjoint_images, settings)]
    frames = len(adjoint_images)
    weights = _frame_weights(frames, settings.weight_sigma, settings.neighbours, settings).to(encoding.mask)
    near = min(settings.neighbours, math.ceil(2 * settings.prior_sigma))
    of_prior = _frame_weights(frames, settings.prior_sigma or 1.0, near, settings).to(encoding.mask)
    for number in range(1, settings.outer_iterations + 1):
        images = iterates[-1].images
        only_motion = number == settings.outer_iterations and not last_solve
        if settings.pairwise:
            template_flow, flow = None, motion(motion_input(images)[None], weights)[0].to(weights)
        else:
            template_flow = motion(motion_input(images)[None])[0].unflatten(0, (frames, 2)).to(weights)
            flow = pair_flows(template_flow, weights)
        given = flow if settings.pairwise else None
        if only_motion:
            iterates.append(Iterate(images, template_flow, iterates[-1].report, given))
            break
        prior = motion_compensated_average(images, flow, of_prior)
        solved, report = solve_motion_compensated(
            encoding, adjoint_images, flow, weights, prior, settings.regularisation, prior, settings.solve
        )
        iterates.append(Iterate(solved, template_flow, report, given))
    return iterates


def _frame_weights(frames: int, sigma: float, neighbours: int, settings: UnrolledSettings) -> torch.Tensor:
    return distance_weights(frames, sigma, settings.cyclic, min(neighbours, (frames - 1) // 2))


def first_images(encoding: CoilFourierEncoding, adjoint_images: torch.Tensor, settings: UnrolledSettings) -> Iterate:
    """Images without motion."""
    if settings.init == "sense":
        images, report = sense(encoding, adjoint_images)
    else:
        images, report = view_shared(
            encoding, adjoint_images, settings.init_sigma, cyclic=settings.cyclic, settings=settings.solve
        )
    return Iterate(images, None, report)


def motion_input(images: torch.Tensor) -> torch.Tensor:
    """What the motion network sees: magnitudes (T, X, Y) of the whole cine in [0, 1], the brightest 0.5 % cut off."""
    top = brightness(images)
    return (images.abs() / top.clamp(min=torch.finfo(top.dtype).tiny)).clamp(max=1.0)
