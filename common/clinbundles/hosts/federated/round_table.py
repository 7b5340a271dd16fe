"""What a federated training reached, round by round and site by site, from the files that FLARE leaves."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from clinbundles.data.atomic_file import atomic_path

FINAL_MODEL = "SRV_FL_global_model.pt"  # FLARE's name of the last shared model in its cross-site evaluation
EVERY_SITE = "mean"


def round_rows(server_folder: Path, rounds: int) -> list[dict[str, Any]]:
    """One row per round and site with the metrics of the *shared* model on that site's validation cases.

    Row 0 is the network that the training started from, row r the model after r rounds. Sites evaluate the model that
    they receive, so row r stands in FLARE's record of the next round, and the last one in its cross-site evaluation.
    A site that fails or is refused has no row. `mean` is over the sites of the row.

    Args:
        server_folder: FLARE's folder of the run at the server.
        rounds: number of rounds.
    """
    found: dict[int, dict[str, dict[str, float]]] = {}
    for line in _lines(server_folder / "metrics" / "round_metrics.jsonl"):
        record = json.loads(line)
        for site in record["sites"]:
            metrics = {metric["name"]: metric["value"] for metric in site["metrics"]}
            found.setdefault(record["round"], {})[site["name"]] = metrics
    results = server_folder / "cross_site_val" / "cross_val_results.json"
    if results.is_file():
        for site, models in json.loads(results.read_text(encoding="utf-8")).items():
            if FINAL_MODEL in models:
                found.setdefault(rounds, {})[site] = models[FINAL_MODEL]
    rows: list[dict[str, Any]] = []
    for number, sites in sorted(found.items()):
        rows += [{"round": number, "site": site, **metrics} for site, metrics in sorted(sites.items())]
        names = list(dict.fromkeys(name for metrics in sites.values() for name in metrics))
        means = {name: statistics.fmean(m[name] for m in sites.values() if name in m) for name in names}
        rows.append({"round": number, "site": EVERY_SITE, **means})
    return rows


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the rows as CSV."""
    columns = list(dict.fromkeys(["round", "site", *(name for row in rows for name in row)]))
    with atomic_path(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def round_figure(rows: Sequence[dict[str, Any]], metric: str) -> Figure:
    """The key metric of the shared model over the rounds, a line per site."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for site in dict.fromkeys(row["site"] for row in rows):
        points = [(row["round"], row[metric]) for row in rows if row["site"] == site and metric in row]
        style: dict[str, Any] = (
            {"color": "black", "linewidth": 2} if site == EVERY_SITE else {"linewidth": 1, "marker": "o"}
        )
        axes.plot(*zip(*points, strict=True), label=site, **style)
    axes.set(xlabel="rounds of the shared model", ylabel=metric)
    axes.set_xticks(sorted({row["round"] for row in rows}))
    axes.legend(frameon=False)
    return figure


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
