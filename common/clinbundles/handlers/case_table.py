"""The table of all metrics of all cases."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.utils import string_list_all_gather


class CaseTable:
    """Ignite handler that writes one table of all per-case metrics: a row for each case and metric.

    It collects what every metric handler of the engine keeps in ``engine.state.metric_details``; the rows also stay in
    ``engine.state.case_table``. With several processes the first one writes.

    Args:
        output_dir: folder for the file; made when it does not exist.
        batch_transform: takes ``engine.state.batch``, gives the names of its cases.
        filename: CSV with the columns case, metric, value; an undefined value is an empty cell.
    """

    def __init__(self, output_dir: str | Path, batch_transform: Callable, filename: str = "case_metrics.csv") -> None:
        self.path = Path(output_dir) / filename
        self.batch_transform = batch_transform
        self._cases: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Attach after the metrics, which compute at the end of the epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._cases.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self)

    def _collect(self, engine: Engine) -> None:
        self._cases += [str(name) for name in self.batch_transform(engine.state.batch)]

    def __call__(self, engine: Engine) -> None:
        cases = string_list_all_gather(self._cases) if idist.get_world_size() > 1 else self._cases
        rows = []
        for metric, details in engine.state.metric_details.items():
            values = np.asarray(details.detach().cpu(), dtype=float).reshape(len(details), -1)
            if len(values) != len(cases):
                raise ValueError(f"metric '{metric}' has {len(values)} values for {len(cases)} cases")
            for case, value in zip(cases, values, strict=True):
                for channel, number in enumerate(value):
                    name = metric if len(value) == 1 else f"{metric}[{channel}]"
                    rows.append({"case": case, "metric": name, "value": float(number)})
        engine.state.case_table = rows
        if idist.get_rank() == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["case", "metric", "value"])
                for row in rows:
                    value = row["value"]
                    writer.writerow([row["case"], row["metric"], "" if np.isnan(value) else f"{value:.6f}"])
