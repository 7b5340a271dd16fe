"""Weighted mean of the sites' updates, without those that would spoil the shared model.

FLARE tolerates sites that fail or stay silent, but averages whatever a site sends, be it NaN. This aggregator, put into
FLARE's extension point for them, looks at all updates of a round before FLARE's own `DXOAggregator` averages the rest.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.aggregator import Aggregator
from nvflare.app_common.aggregators.dxo_aggregator import DXOAggregator
from nvflare.app_common.app_constant import AppConstants

UPDATE_TABLE = "updates.csv"
OPPOSITE = -0.2  # cosine; honest updates of small, late rounds on OCTA went down to -0.04 (docs/federated.md)

Update = Mapping[str, np.ndarray]


def update_norm(update: Update) -> float:
    """Euclidean norm over all weights of an update; NaN or infinite if one of them is."""
    with np.errstate(over="ignore", invalid="ignore"):
        return math.sqrt(sum(float(np.sum(np.square(np.asarray(value, np.float64)))) for value in update.values()))


def agreement(update: Update, others: list[Update]) -> float:
    """Cosine between an update and the mean direction of others, in [-1, 1]."""
    lengths = [max(update_norm(other), 1e-30) for other in others]
    direction = {
        name: np.sum([other[name] / length for other, length in zip(others, lengths, strict=True)], axis=0)
        for name in update
    }
    dot = sum(float(np.sum(np.asarray(update[name], np.float64) * direction[name])) for name in update)
    return dot / max(update_norm(update) * update_norm(direction), 1e-30)


def screen(updates: Mapping[str, Update], largest: float) -> dict[str, str]:
    """Which updates of one round must not be averaged, and why.

    Three tests: weights are finite; the norm is at most `largest` times the median norm of the round (of two sites:
    the smaller one); and, among at least three sites, the update does not point against the others, as one with its
    sign flipped does. With two sites nobody can tell which of two directions is the wrong one.

    Args:
        updates: site to its update (weight name to array).
        largest: bound of the norm.

    Returns:
        Site to reason; sites that may take part are not in it.
    """
    refused: dict[str, str] = {}
    norms = {site: update_norm(update) for site, update in updates.items()}
    for site, norm in norms.items():
        if not math.isfinite(norm):
            refused[site] = "weights that are not finite"
    finite = {site: norm for site, norm in norms.items() if site not in refused}
    typical = statistics.median_low(finite.values()) if finite else 0.0
    for site, norm in finite.items():
        if norm > largest * typical:
            refused[site] = f"norm {norm:.3g}, more than {largest:g} times that of the others ({typical:.3g})"
    left = [site for site in updates if site not in refused]
    if len(left) >= 3:
        for site in left:
            cosine = agreement(updates[site], [updates[other] for other in left if other != site])
            if cosine < OPPOSITE:
                refused[site] = f"points against the other sites (cosine {cosine:.2f})"
    return refused


class ScreenedAggregator(Aggregator):
    """FLARE's mean, weighted by the number of local steps, over the updates that pass :func:`screen`.

    A round in which no update passes leaves the shared model as it is. What was sent and what became of it stands in
    `updates.csv` in the server's folder of the run.

    Args:
        largest_update: bound of an update's norm, as a multiple of the median; 0 averages everything.
    """

    def __init__(self, largest_update: float) -> None:
        super().__init__()
        self.largest_update = largest_update
        self._received: dict[str, tuple[DXO, Any]] = {}
        self._rows: list[dict[str, Any]] = []
        self._mean: DXOAggregator | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Start anew with each run."""
        if event_type == EventType.START_RUN:
            self._mean = DXOAggregator(expected_data_kind=DataKind.WEIGHT_DIFF)
            self._received, self._rows = {}, []

    def reset(self, fl_ctx: FLContext) -> None:
        """Forget the round."""
        self._received = {}

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Keep one site's update until all are there; False for what is no update of this round."""
        site = shareable.get_peer_prop(ReservedKey.IDENTITY_NAME, "?")
        sent_in = shareable.get_cookie(AppConstants.CONTRIBUTION_ROUND)
        update = from_shareable(shareable)
        this_round = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        if update.data_kind != DataKind.WEIGHT_DIFF or sent_in != this_round or site in self._received:
            self.log_warning(fl_ctx, f"{site}: no update of round {this_round} ({update.data_kind}, round {sent_in})")
            return False
        self._received[site] = (update, sent_in)
        return not self.largest_update or math.isfinite(update_norm(update.data))

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """Screen the round's updates and average the rest."""
        assert self._mean is not None, "no run has started"
        updates = {site: update.data for site, (update, _) in self._received.items()}
        refused = screen(updates, self.largest_update) if self.largest_update else {}
        for site, (update, sent_in) in self._received.items():
            others = [data for other, data in updates.items() if other not in (site, *refused)]
            norm = update_norm(update.data)
            self._rows.append(
                {
                    "round": sent_in + 1,
                    "site": site,
                    "steps": update.get_meta_prop("NUM_STEPS_CURRENT_ROUND"),
                    "norm": norm,
                    "cosine": agreement(update.data, others) if others and math.isfinite(norm) else "",
                    "refused": refused.get(site, ""),
                }
            )
            if site in refused:
                self.log_warning(fl_ctx, f"update of {site} is left out of round {sent_in + 1}: {refused[site]}")
            else:
                self._mean.accept(update, site, sent_in, fl_ctx)
        self._write_table(fl_ctx)
        if len(refused) == len(updates):
            self.log_warning(fl_ctx, "no update is left: the shared model stays as it is")
            return DXO(DataKind.WEIGHT_DIFF, data={}).to_shareable()
        return self._mean.aggregate(fl_ctx).to_shareable()

    def _write_table(self, fl_ctx: FLContext) -> None:
        folder = Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id()))
        with (folder / UPDATE_TABLE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self._rows[0]) if self._rows else ["round"])
            writer.writeheader()
            writer.writerows(self._rows)
