"""White-box canaries: units whose gradients point along single weights, added to the steps of a real optimizer."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch

from clinbundles.privacy.poisson_units import PoissonUnitSampler
from clinbundles.privacy.private_optimizer import PrivateOptimizer
from clinbundles.privacy.randomness import SeededRandomness

__all__ = ["GradientCanaries"]

_TIMES_CLIPPED = 10.0
_AT_ONCE = 32


class GradientCanaries:
    """Poisson-sampled units that pass through the optimizer's own clipping, noise and division in each step.

    Each canary has one weight of its own, along which its gradient is ten clipping norms long, and is part of the
    training by the toss of a coin. Its score is the sum of all updates of that weight, which is all that an attacker
    with every update needs ("Dirac canaries", Nasr et al. 2023). They spoil the training: throw its weights away.

    >>> with GradientCanaries(optimizer, 1000) as canaries:
    ...     trainer.run()
    >>> audit = audit_scores(canaries.scores, canaries.included, epsilon=1.0, delta=1e-5)

    Args:
        optimizer: of the training; its plan tells the sample rate and the steps.
        count: canaries; at most one for each trainable number is used.
        seed: of coins, weights and sampling.

    Raises:
        ValueError: fewer than two canaries, or an optimizer that does not clip.
    """

    def __init__(self, optimizer: PrivateOptimizer, count: int = 1000, seed: int = 0) -> None:
        sizes = [p.numel() for p in optimizer.parameters]
        count = min(count, sum(sizes))
        if count < 2:
            raise ValueError(f"{count} canaries, expected two or more, and as many trainable numbers")
        if not optimizer.clips:
            raise ValueError("the optimizer does not clip (max_grad_norm is infinite): there is no guarantee to audit")
        generator = torch.Generator().manual_seed(seed)
        self.optimizer = optimizer
        self.included = torch.rand(count, generator=generator) < 0.5
        self.scores = torch.zeros(count, dtype=torch.float64)
        self._weights = torch.randperm(sum(sizes), generator=generator)[:count]
        self._sizes = sizes
        plan = optimizer.plan
        draws = SeededRandomness(seed + 1)
        inside = torch.nonzero(self.included).flatten().tolist()
        if not inside or len(inside) == count:
            raise ValueError("the coins of all canaries fell alike: take more canaries or another seed")
        self._draws = iter(PoissonUnitSampler(inside, plan.sample_rate, plan.steps, draws))
        self._inside = torch.tensor(inside)

    def __enter__(self) -> GradientCanaries:
        self._step = self.optimizer.step
        self.optimizer.step = self._step_with_canaries
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.optimizer.step = self._step

    @torch.no_grad()
    def _step_with_canaries(self, *arguments: Any) -> None:
        drawn = self._weights[self._inside[next(self._draws)]]
        for weights in drawn.split(_AT_ONCE) if len(drawn) else ():
            self._add(weights)
        self._step(*arguments)
        plan = self.optimizer.plan
        update = torch.cat([p.grad.flatten() for p in self.optimizer.parameters if p.grad is not None])
        moved = update.cpu()[self._weights].to(torch.float64)
        self.scores += moved * (plan.expected_batch / plan.max_grad_norm)

    def _add(self, weights: torch.Tensor) -> None:
        """Give the optimizer one gradient along each of these weights, as a backward pass would."""
        start = 0
        for p, size in zip(self.optimizer.parameters, self._sizes, strict=True):
            gradients = p.new_zeros(len(weights), size)
            own = torch.nonzero((weights >= start) & (weights < start + size)).flatten()
            gradients[own, (weights[own] - start).to(p.device)] = _TIMES_CLIPPED * self.optimizer.plan.max_grad_norm
            p.grad_sample = gradients.view(len(weights), *p.shape)
            start += size
        unit = torch.arange(len(weights), device=self.optimizer.parameters[0].device)
        self.optimizer.gather(unit, len(weights))
        self.optimizer.clip()
