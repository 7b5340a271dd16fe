"""The privacy-utility curve: a score against epsilon, from the evaluations of several trainings.

python -m dp_equivariant_classification.evaluation.privacy_utility EVALUATION... --output curve.png
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from clinbundles.data.atomic_file import atomic_path
from dp_equivariant_classification.evaluation.classification_scores import SCORES
from dp_equivariant_classification.evaluation.score_figures import privacy_utility_figure

SCORES_FILE = "scores.json"


def read_runs(folders: Iterable[Path]) -> list[dict[str, object]]:
    """Network, epsilon (infinity if not private), delta and scores of each evaluation.

    Raises:
        ValueError: a folder without scores, or runs whose units of privacy differ: their epsilons say different things.
    """
    rows = []
    for folder in folders:
        path = folder / SCORES_FILE
        if not path.is_file():
            raise ValueError(f"{folder} holds no {SCORES_FILE}: give output folders of evaluate.yaml")
        content = json.loads(path.read_text(encoding="utf-8"))
        privacy = content["privacy"] or {}
        epsilon = privacy.get("epsilon")
        rows.append(
            {
                "network": content["network"],
                "epsilon": math.inf if epsilon is None else float(epsilon),
                "delta": privacy.get("delta"),
                "unit": privacy.get("unit"),
                **{name: content["scores"][name] for name in SCORES},
            }
        )
    units = {str(row["unit"]) for row in rows if row["unit"]}
    if len(units) > 1:
        raise ValueError(f"the runs protect different units ({', '.join(sorted(units))}): draw a curve of one of them")
    return rows


def curves_of(rows: Sequence[dict[str, object]], metric: str) -> dict[str, dict[float, list[float]]]:
    """Network -> epsilon, rounded to two digits, -> scores: runs of several seeds stand together."""
    curves: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        epsilon = float(row["epsilon"])  # type: ignore[arg-type]
        place = float(f"{epsilon:.2g}") if math.isfinite(epsilon) else epsilon
        curves.setdefault(str(row["network"]), {}).setdefault(place, []).append(float(row[metric]))  # type: ignore[arg-type]
    return curves


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the curve and write its table beside it; returns 0, or 2 after a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m dp_equivariant_classification.evaluation.privacy_utility", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="EVALUATION", help="output folders of evaluate.yaml")
    parser.add_argument("--output", type=Path, default=Path("privacy_utility.png"), help="default: %(default)s")
    parser.add_argument("--metric", choices=SCORES, default="accuracy", help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        rows = read_runs(options.folders)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    table = options.output.with_suffix(".csv")
    with atomic_path(table) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    units = sorted({f"{row['unit']}, delta {row['delta']:g}" for row in rows if row["unit"]})
    title = f"{options.metric.replace('_', ' ')} against privacy ({'; '.join(units) or 'no private run'})"
    figure = privacy_utility_figure(curves_of(rows, options.metric), options.metric, title)
    with atomic_path(options.output) as draft:
        figure.savefig(draft, dpi=130)
    print(f"curve: {options.output}\ntable: {table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
