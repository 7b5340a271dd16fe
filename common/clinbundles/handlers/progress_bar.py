"""A progress bar over the iterations of an epoch."""

from __future__ import annotations

import torch.distributed
from ignite.engine import Engine
from ignite.handlers import ProgressBar as IgniteProgressBar

__all__ = ["ProgressBar"]


class ProgressBar(IgniteProgressBar):
    """Ignite's bar, on rank 0 only and only on a terminal: a log file gets the line of `EpochReport` instead.

    Args:
        description: word before the bar.
    """

    def __init__(self, description: str = "epoch") -> None:
        super().__init__(persist=False, desc=description, disable=None)

    def attach(self, engine: Engine) -> None:
        """Register on an engine."""
        if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        super().attach(engine)
