"""Adversarial augmentation (AA): contrast and noise that are hard for the network as it is now.

Source: Kreitner et al., IEEE TMI 43(6), 2024, section on adversarial augmentation. The forward model is the one of
`random_augmentation`; its control grids are drawn as there, then moved uphill on the segmentation loss by a few steps
while the network stands still. Beta values follow their shape parameters by implicit reparameterisation (Figurnov et
al., NeurIPS 2018): with F the distribution function and f the density, dx/da = -(dF/da) / f at a fixed quantile.

Axis letters: B batch, C channel, H rows, W columns, G control points per axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from retinal_octa_vessel_segmentation.augmentation.random_augmentation import (
    SHAPE_RANGE,
    ContrastGrids,
    apply_vessel_contrast,
    check_strength,
    draw_contrast_grids,
    sample_beta_field,
)

STEP_RULES = ("gradient", "sign")
_TINY = 1e-7


class _BetaPath(torch.autograd.Function):
    """Values drawn from Beta(a, b), given the derivative that keeps their quantile fixed."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor, values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(a, b, values, where)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        a, b, values, where = ctx.saved_tensors
        shape_a, shape_b = a[where].double(), b[where].double()
        x = values[where].double().clamp(_TINY, 1.0 - _TINY)
        total = shape_a + shape_b
        along_a, along_b = torch.zeros_like(values), torch.zeros_like(values)
        # torch.distributions.Beta.rsample rests on this very function, but draws with torch's slower sampler
        along_a[where] = ((1.0 - x) * torch._dirichlet_grad(x, shape_a, total)).to(values)
        along_b[where] = (-x * torch._dirichlet_grad(1.0 - x, shape_b, total)).to(values)
        return gradient * along_a, gradient * along_b, None, None


def attach_beta_gradient(a: torch.Tensor, b: torch.Tensor, values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """`values` ~ Beta(a, b) with their derivative by `a` and `b` at fixed quantiles where `where` is true."""
    return _BetaPath.apply(a.expand_as(values), b.expand_as(values), values, where)


def sample_differentiable_beta_field(
    a: torch.Tensor, b: torch.Tensor, generator: np.random.Generator, where: torch.Tensor
) -> torch.Tensor:
    """As `random_augmentation.sample_beta_field`, differentiable by `a` and `b`, on any device.

    On the CPU the values come from `generator`; on a GPU from torch's generator of that device.
    """
    with torch.no_grad():
        if a.device.type == "cpu":
            values = sample_beta_field(a, b, generator, where)
        else:
            drawn = torch.distributions.Beta(a.expand(where.shape), b.expand(where.shape), validate_args=False).sample()
            values = drawn * where
    return attach_beta_gradient(a, b, values, where)


def standardise(image: torch.Tensor) -> torch.Tensor:
    """Mean 0 and standard deviation 1 of each image and channel; (B, C, H, W)."""
    mean = image.mean(dim=(-2, -1), keepdim=True)
    deviation = image.std(dim=(-2, -1), keepdim=True, correction=0)
    return (image - mean) / deviation.clamp_min(1e-8)


@contextmanager
def frozen(network: torch.nn.Module) -> Iterator[None]:
    """The network's parameters take no gradient inside; its mode (train, eval) and parameters are put back after."""
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    training = network.training
    network.eval()
    for parameter in learnt:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)
        network.train(training)


class AdversarialContrast:
    """Adversarial augmentation of a batch, as the `prepare_batch` of a MONAI trainer.

    The batch must hold clean vessel maps in [0, 1]; normalisation happens here, after the augmentation.

    Args:
        network: the network being trained, in: (B, 1, H, W), out: logits (B, K, H, W).
        loss: segmentation loss (logits, label) -> scalar.
        image_key, label_key, background_key: keys of the batch.
        steps: inner steps of gradient ascent (K24: 3). 0 is random augmentation.
        step_size: length of a step (K24: 0.001). The loss changes so little with one control point that steps of
            this length hardly move the grids with the "gradient" rule; "sign" with 0.05 to 0.3 does.
        step_rule: "gradient" (K24): grid + step_size * gradient; "sign": grid + step_size * sign(gradient).
        delta, noise, gamma: strengths in [0, 1], as in `RandVesselContrastd`.
        grid: control points per axis.
        normalise: applied to the augmented batch before the network sees it.
        seed: seed of the control grids and of the beta values on the CPU.

    Raises:
        ValueError: for a strength outside [0, 1], negative steps or an unknown rule.

    Examples:
        In a configuration: ``prepare_batch: "@adversarial"`` with ``adversarial: {_target_: ...AdversarialContrast,
        network: "@network", loss: "@loss"}``.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        *,
        image_key: str = "image",
        label_key: str = "label",
        background_key: str = "background",
        steps: int = 3,
        step_size: float = 0.001,
        step_rule: str = "gradient",
        delta: float = 1.0,
        noise: float = 0.7,
        gamma: float = 0.3,
        grid: int = 9,
        normalise: Callable[[torch.Tensor], torch.Tensor] = standardise,
        seed: int = 0,
    ) -> None:
        if steps < 0:
            raise ValueError(f"steps is {steps}: the number of inner steps is 0 or more")
        if step_rule not in STEP_RULES:
            raise ValueError(f"step_rule is '{step_rule}': choose one of {STEP_RULES}")
        self.network, self.loss, self.normalise = network, loss, normalise
        self.image_key, self.label_key, self.background_key = image_key, label_key, background_key
        self.steps, self.step_size, self.step_rule, self.grid = steps, float(step_size), step_rule, grid
        self.strengths = {
            "delta": check_strength("delta", delta),
            "noise": check_strength("noise", noise),
            "gamma": check_strength("gamma", gamma),
        }
        self.generator = np.random.default_rng(seed)

    def __call__(
        self,
        batchdata: Mapping[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(image (B, 1, H, W), normalised; label (B, K, H, W)) on `device`."""
        batch = {
            key: torch.as_tensor(batchdata[key]).to(device=device, non_blocking=non_blocking, **kwargs)
            for key in (self.image_key, self.label_key, self.background_key)
            if key in batchdata
        }
        image, label = (_plain(batch[key]) for key in (self.image_key, self.label_key))
        background = _plain(batch[self.background_key]) if self.background_key in batch else None
        augmented = self.augment(image, label, background, self.generator)
        return self.normalise(augmented), label

    def augment(
        self,
        image: torch.Tensor,
        label: torch.Tensor,
        background: torch.Tensor | None,
        generator: np.random.Generator,
    ) -> torch.Tensor:
        """Hard version of a batch of clean maps: (B, 1, H, W) in [0, 1], without gradient history."""
        grids = draw_contrast_grids(generator, self.grid, (image.shape[0], 1)).map(lambda grid: grid.to(image))
        with frozen(self.network), torch.enable_grad():
            for _ in range(self.steps):
                grids = self._ascend(image, label, background, grids, generator)
        with torch.no_grad():
            return self._forward(image, background, grids, generator)

    def _forward(
        self,
        image: torch.Tensor,
        background: torch.Tensor | None,
        grids: ContrastGrids,
        generator: np.random.Generator,
    ) -> torch.Tensor:
        return apply_vessel_contrast(
            image, background, grids, generator, **self.strengths, sample_field=sample_differentiable_beta_field
        )

    def _ascend(
        self,
        image: torch.Tensor,
        label: torch.Tensor,
        background: torch.Tensor | None,
        grids: ContrastGrids,
        generator: np.random.Generator,
    ) -> ContrastGrids:
        """One projected step uphill: a and b stay in [0.1, 10], u in [0, 1], the ranges from which they are drawn."""
        names = [field.name for field in fields(grids) if self.strengths[field.name.split("_")[0]] > 0]
        grids = replace(grids, **{name: getattr(grids, name).detach().requires_grad_() for name in names})
        hard = self._forward(image, background, grids, generator)
        loss = self.loss(self.network(self.normalise(hard)), label)
        gradients = torch.autograd.grad(loss, [getattr(grids, name) for name in names])
        moved = {}
        for name, gradient in zip(names, gradients, strict=True):
            step = gradient.sign() if self.step_rule == "sign" else gradient
            low, high = (0.0, 1.0) if name == "gamma" else SHAPE_RANGE
            moved[name] = (getattr(grids, name).detach() + self.step_size * step).clamp(low, high)
        return replace(grids, **moved)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Without MONAI's metadata, which autograd through many small steps would carry along."""
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
