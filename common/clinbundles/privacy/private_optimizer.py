"""The private update: gradients of units clipped, summed, noised, and divided by the expected batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.optim import Optimizer

from clinbundles.privacy.accounting.plan import PrivacyPlan
from clinbundles.privacy.randomness import Randomness

__all__ = ["PrivateOptimizer"]


class PrivateOptimizer(Optimizer):
    r"""Gives an optimizer the gradient of DP-SGD (Abadi et al., CCS 2016) in place of the ordinary one:

    .. math:: g = \frac{1}{q N} \Big( \sum_u \min(1, C / |g_u|) \, g_u + \mathcal N(0, \sigma^2 C^2 I) \Big)

    with one gradient :math:`g_u` per privacy unit u. The divisor is the expected batch q N and not the drawn one, whose
    size depends on who is in the data. A logical step is any number of `gather` and `clip`, then one `step`:

    >>> for chunk in chunks:
    ...     (weight * losses).sum().backward()  # weight 1 / samples of the unit: the gradient of its mean loss
    ...     optimizer.gather(unit, units)
    ...     optimizer.clip()
    >>> optimizer.step()

    Without any `gather` (an empty batch) the step is noise alone. With several processes (torch.distributed) each
    gathers its own units; the sums are added, rank 0 adds the noise, and every process makes the same step.

    Args:
        optimizer: of the trainable parameters, with any rule; keeps its state, its learning rate and its schedulers.
        plan: with clipping norm C, noise multiplier sigma, sample rate q and number of units N. An infinite C (only
            without noise) leaves the ordinary gradient, for which no per-sample gradients are needed.
        randomness: source of the noise, drawn on rank 0 only.
    """

    def __init__(self, optimizer: Optimizer, plan: PrivacyPlan, randomness: Randomness) -> None:
        self.optimizer = optimizer
        self.plan = plan
        self.randomness = randomness
        # What torch.optim.Optimizer.__init__ would set up, shared with the inner optimizer instead
        for hooks in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
            setattr(self, hooks, getattr(optimizer, hooks))
        self._sums: dict[torch.Tensor, torch.Tensor] = {}
        self._pending: dict[torch.Tensor, torch.Tensor] = {}

    @property
    def parameters(self) -> list[torch.Tensor]:
        """The trainable parameters."""
        return [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]

    @property
    def clips(self) -> bool:
        """Whether per-sample gradients are needed."""
        return math.isfinite(self.plan.max_grad_norm)

    @torch.no_grad()
    def gather(self, unit: torch.Tensor, units: int) -> None:
        """Take over the samples' gradients of one backward pass, summed over the samples of each unit.

        Called again before `clip`, it adds to the same units: so a unit may be larger than the memory.

        Args:
            unit: (B,) int64, unit 0 to `units` - 1 of each sample.
            units: number of units.

        Raises:
            RuntimeError: a parameter without per-sample gradients, or of another number of samples.
        """
        alone = units == len(unit) and bool((unit == torch.arange(units, device=unit.device)).all())
        for p in self.parameters:
            if not self.clips:
                self._add(self._sums, p, p.grad if p.grad is not None else torch.zeros_like(p))
                p.grad = None
                continue
            gradients = getattr(p, "grad_sample", None)
            if not isinstance(gradients, torch.Tensor) or len(gradients) != len(unit):
                found = list(gradients.shape) if isinstance(gradients, torch.Tensor) else type(gradients).__name__
                raise RuntimeError(
                    f"a parameter of shape {list(p.shape)} has per-sample gradients {found}, expected {len(unit)} of "
                    "them: it must be used once in each forward pass, and the loss must depend on it"
                )
            if not alone:
                summed = gradients.new_zeros(units, *p.shape)
                gradients = summed.index_add_(0, unit, gradients)
            self._add(self._pending, p, gradients)
            p.grad_sample = p.grad = None

    @torch.no_grad()
    def clip(self) -> None:
        """Clip the gradient of each gathered unit to norm C and add it to the sum of this step.

        A unit whose gradient is not finite adds nothing: its sum with others would tell that it is there.
        """
        if not self._pending:
            return
        norms = torch.stack(
            [torch.linalg.vector_norm(g.flatten(1), dim=1, dtype=torch.float64) for g in self._pending.values()]
        )
        norm = torch.linalg.vector_norm(norms, dim=0)
        finite = norm.isfinite()
        factor = self.plan.max_grad_norm / norm.clamp(min=self.plan.max_grad_norm)
        for p, gradients in self._pending.items():
            if not bool(finite.all()):
                gradients = torch.where(finite.view(-1, *[1] * p.ndim), gradients, 0.0)
            clipped = torch.where(finite, factor, 0.0).to(gradients.dtype)
            self._add(self._sums, p, torch.einsum("u,u...->...", clipped, gradients).to(p.dtype))
        self._pending.clear()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One logical step with what has been clipped since the last one.

        Raises:
            ValueError: a closure was given.
            RuntimeError: gradients were gathered but not clipped.
        """
        if closure is not None:
            raise ValueError("a private step takes no closure: each evaluation of the loss would need its own noise")
        if self._pending:
            raise RuntimeError("units were gathered but not clipped: call clip() before step()")
        many = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        std = self.plan.noise_multiplier * (self.plan.max_grad_norm if self.clips else 0.0)
        for p in self.parameters:
            total = self._sums.pop(p, None)
            total = torch.zeros_like(p) if total is None else total
            if std > 0 and not (many and dist.get_rank() > 0):
                total += self.randomness.normal(p.shape, std, dtype=p.dtype, device=p.device)
            if many:
                dist.all_reduce(total)
            p.grad = total / self.plan.expected_batch
        self.optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients and everything gathered."""
        self._sums.clear()
        self._pending.clear()
        for p in self.parameters:
            p.grad_sample = None
        self.optimizer.zero_grad(set_to_none)

    @staticmethod
    def _add(sums: dict[torch.Tensor, torch.Tensor], p: torch.Tensor, value: torch.Tensor) -> None:
        if p in sums:
            sums[p] += value
        else:
            sums[p] = value

    # --- what belongs to the inner optimizer --------------------------------------------------------------------------
    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of the inner optimizer, with its learning rates."""
        return self.optimizer.param_groups

    @property
    def state(self) -> Any:
        """State of the inner optimizer."""
        return self.optimizer.state

    @property
    def defaults(self) -> dict[str, Any]:
        """Defaults of the inner optimizer."""
        return self.optimizer.defaults

    def state_dict(self) -> dict[str, Any]:
        """State of the inner optimizer; the noise's goes into the checkpoint by itself."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of the inner optimizer."""
        self.optimizer.load_state_dict(state_dict)

    def __repr__(self) -> str:
        return f"PrivateOptimizer({self.optimizer!r})"
