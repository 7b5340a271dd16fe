"""A progress bar over studies."""

from __future__ import annotations

import sys
from typing import Any

import torch.distributed
from ignite.engine import Engine, Events
from tqdm import tqdm


class StudyProgress:
    """Shows how many studies of a :class:`StudyEvaluator` are done, how many failed, and the time left.

    Of several processes number 0 shows its share, which says how far all are: shares differ by one study at most.

    Args:
        description: word before the bar.
    """

    def __init__(self, description: str = "studies") -> None:
        self.description = description
        self._bar: Any = None

    def attach(self, engine: Engine) -> None:
        """Register with the engine."""
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if distributed and torch.distributed.get_rank() > 0:
            return
        if distributed:
            self.description += f", process 1 of {torch.distributed.get_world_size()}"
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _start(self, engine: Engine) -> None:
        self._bar = tqdm(total=engine.state.epoch_length, desc=self.description, unit="study", file=sys.stderr)

    def _advance(self, engine: Engine) -> None:
        failures = getattr(engine.state, "failures", [])
        if failures:
            self._bar.set_postfix(failed=len(failures), refresh=False)
        self._bar.update(1)

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
