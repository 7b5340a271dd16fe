"""The ledger of a private training: which mechanism ran, and how often."""

from __future__ import annotations

import math
from typing import Any

from clinbundles.privacy.accounting.composition import Segment, epsilon_spent

__all__ = ["PrivacyLedger"]


class PrivacyLedger:
    """Record of every logical step whose noised update left the optimizer, empty batches included.

    It goes into each checkpoint: a resumed training adds to it.
    """

    def __init__(self) -> None:
        self._segments: list[Segment] = []

    def record(self, noise_multiplier: float, sample_rate: float, steps: int = 1) -> None:
        """Add steps that were made.

        Args:
            noise_multiplier: standard deviation of the noise over the clipping norm; 0 where none was added.
            sample_rate: probability of each unit to be in the batch, in (0, 1].
            steps: how many such steps.

        Raises:
            ValueError: a number outside its range.
        """
        if not (math.isfinite(noise_multiplier) and noise_multiplier >= 0):
            raise ValueError(f"noise_multiplier is {noise_multiplier}, expected a finite number of 0 or more")
        if not 0 < sample_rate <= 1:
            raise ValueError(f"sample_rate is {sample_rate}, expected a probability in (0, 1]")
        if int(steps) != steps or steps < 0:
            raise ValueError(f"steps is {steps}, expected a whole number of 0 or more")
        if steps == 0:
            return
        last = self._segments[-1] if self._segments else None
        if last is not None and (last.noise_multiplier, last.sample_rate) == (noise_multiplier, sample_rate):
            self._segments[-1] = last._replace(steps=last.steps + int(steps))
        else:
            self._segments.append(Segment(float(noise_multiplier), float(sample_rate), int(steps)))

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Runs of equal steps, in the order in which they were made."""
        return tuple(self._segments)

    @property
    def steps(self) -> int:
        """All logical steps so far."""
        return sum(segment.steps for segment in self._segments)

    def epsilon(self, delta: float, accountant: str = "prv") -> float:
        """Privacy spent so far: 0.0 when nothing was recorded, infinity when a step had no noise."""
        return epsilon_spent(self._segments, delta, accountant)

    def state_dict(self) -> dict[str, Any]:
        """Plain lists of numbers, which `torch.load(weights_only=True)` reads."""
        return {"segments": [list(segment) for segment in self._segments]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the record of a checkpoint in place of this one.

        Raises:
            ValueError: the state is not that of a ledger.
        """
        try:
            rows = [(float(noise), float(rate), int(steps)) for noise, rate, steps in state["segments"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the checkpoint's privacy ledger cannot be read ({error!r}): expected segments of "
                "[noise_multiplier, sample_rate, steps]. Without it the privacy already spent is unknown: train anew"
            ) from error
        loaded = PrivacyLedger()
        for row in rows:
            loaded.record(*row)
        self._segments = loaded._segments
