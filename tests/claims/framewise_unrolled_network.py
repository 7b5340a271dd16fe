"""A learned reconstruction of single frames: MONAI's U-Net and data consistency in turn, unrolled.

It knows no motion; neighbouring frames come in by the start alone, if that is view sharing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from framewise_encoding import Case, FramewiseNormal, adjoint_images, encoding_of
from monai.networks.nets import BasicUNet

from clinbundles.mcmr.conjugate_gradient import conjugate_gradient
from clinbundles.mcmr.initial_image import sense, view_shared

STARTS = ("sense", "view_shared")
FEATURES = (16, 16, 32, 64, 128, 16)


class _DataConsistency(torch.autograd.Function):
    """(A^H A + mu) x = A^H y + mu z, with the gradient of its solution: one more solve (Aggarwal et al. 2019)."""

    @staticmethod
    def forward(
        ctx: Any, z: torch.Tensor, mu: torch.Tensor, right_side: torch.Tensor, normal: FramewiseNormal, iterations: int
    ) -> torch.Tensor:
        weight = float(mu.detach())
        ctx.solve = lambda b, start: conjugate_gradient(
            lambda x: normal(x) + weight * x, b, start, tolerance=1e-4, max_iterations=iterations
        )[0]
        solution: torch.Tensor = ctx.solve(right_side + weight * z, z)
        ctx.save_for_backward(z, mu, solution)
        return solution

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        z, mu, solution = ctx.saved_tensors
        back = ctx.solve(cotangents[0], None)
        return mu * back, (back.conj() * (z - solution)).real.sum().to(mu.dtype), None, None, None


class FramewiseUnrolled(torch.nn.Module):
    """MoDL (Aggarwal, Mani and Jacob, IEEE TMI 2019): z = x + U-Net(x), x = data consistency of z; shared weights.

    Args:
        start: images that it begins with, "sense" or "view_shared".
        iterations: of the two steps in turn.
        solver_iterations: of conjugate gradients in each.
        features: of the U-Net's levels.
    """

    def __init__(
        self,
        start: str = "view_shared",
        iterations: int = 4,
        solver_iterations: int = 8,
        features: tuple[int, ...] = FEATURES,
    ) -> None:
        super().__init__()
        if start not in STARTS:
            raise ValueError(f"start is {start!r}: expected one of {', '.join(STARTS)}")
        self.start, self.iterations, self.solver_iterations = start, iterations, solver_iterations
        self.denoiser = BasicUNet(spatial_dims=2, in_channels=2, out_channels=2, features=features)
        torch.nn.init.zeros_(self.denoiser.final_conv.weight)  # begins with pure data consistency
        torch.nn.init.zeros_(self.denoiser.final_conv.bias)
        self.log_mu = torch.nn.Parameter(torch.tensor(math.log(0.05)))

    def forward(self, images: torch.Tensor, right_side: torch.Tensor, normal: FramewiseNormal) -> torch.Tensor:
        """Images and A^H y (F, X, Y) complex, of magnitudes about 1, to images (F, X, Y)."""
        for _ in range(self.iterations):
            channels = torch.view_as_real(images).movedim(-1, 1)
            correction = self.denoiser(channels.contiguous()).movedim(1, -1).contiguous()
            z = images + torch.view_as_complex(correction)
            images = _DataConsistency.apply(z, self.log_mu.exp(), right_side, normal, self.solver_iterations)
        return images

    def of(self, case: Case, frames: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Images of chosen frames (F, X, Y) in units of the scale, and the scale."""
        encoding, right_side = encoding_of(case), adjoint_images(case)
        if self.start == "sense":
            start, _ = sense(encoding, right_side, 0.01)
        else:
            start, _ = view_shared(encoding, right_side, 1.0, 0.01, bool(case.get("cyclic", True)))
        scale = float(start.abs().flatten().quantile(0.99))
        normal = FramewiseNormal(encoding, frames)
        return self(start[frames] / scale, right_side[frames] / scale, normal), scale


def train_unrolled(
    draw: Callable[[np.random.Generator], Case],
    steps: int,
    seed: int = 0,
    start: str = "view_shared",
    frames_per_step: int = 4,
    rate: float = 1e-3,
    **arguments: Any,
) -> FramewiseUnrolled:
    """A trained network; loss: mean absolute difference of magnitudes, since maps leave a smooth phase open.

    Args:
        draw: gives an undersampled training case with `reference`.
        steps: of the optimiser; so that it has as much time as the network that it is compared with.
        seed: of weights, cases and frames.
        start: "sense" or "view_shared".
        frames_per_step: of one case, at random.
        rate: largest learning rate of AdamW with a one-cycle schedule.
        arguments: of the network.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = FramewiseUnrolled(start, **arguments)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    network.train()
    for _ in range(steps):
        case = draw(generator)
        count = len(case["mask"])
        frames = torch.from_numpy(generator.choice(count, min(frames_per_step, count), replace=False))
        images, scale = network.of(case, frames)
        target = torch.as_tensor(case["reference"])[frames].abs() / scale
        loss = (images.abs() - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()


def unrolled(network: FramewiseUnrolled, frames_at_once: int = 5) -> Callable[[Case], torch.Tensor]:
    """A trained network as a way to images."""

    def reconstruct(case: Case) -> torch.Tensor:
        parts = []
        with torch.no_grad():
            for frames in torch.arange(len(case["mask"])).split(frames_at_once):
                images, scale = network.of(case, frames)
                parts.append(images * scale)
        return torch.cat(parts)

    return reconstruct
