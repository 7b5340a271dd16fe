"""What all claims share: runs of a bundle's configs, paired comparisons with their intervals, tables and figures.

Results go to ``CLINBUNDLES_CLAIMS_OUTPUT`` (default output/claims), a folder for each bundle.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from monai.bundle import ConfigWorkflow
from scipy.stats import wilcoxon

from clinbundles.data.atomic_file import atomic_path
from clinbundles.handlers import local_tracking_uri, tracked_run

REPOSITORY = Path(__file__).resolve().parents[2]
OUTPUT = Path(os.environ.get("CLINBUNDLES_CLAIMS_OUTPUT", REPOSITORY / "output" / "claims"))


def run(bundle: str, configs: Sequence[str], values: Mapping[str, Any]) -> None:
    """Run configs of a bundle as ``python -m monai.bundle run`` does, in this process."""
    root = REPOSITORY / "bundles" / bundle
    files = [str(root / "configs" / f"{name}.yaml") for name in configs]
    workflow = ConfigWorkflow(config_file=files, logging_file=False, bundle_root=str(root), **values)
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def commit() -> str:
    """Of the code that runs."""
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def write_json(file: Path, content: Any) -> None:
    """Write a file that is there completely or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as path:
        path.write_text(json.dumps(content), encoding="utf-8")


@dataclass(frozen=True)
class Comparison:
    """Means of two methods over the same hearts, and how sure the difference is.

    Attributes:
        ours, theirs: means.
        p: of the one-sided Wilcoxon test.
        low, high: bootstrap interval of 95 % of the mean of ours - theirs.
    """

    ours: float
    theirs: float
    p: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.ours - self.theirs


def interval(values: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of 95 % of the mean."""
    draw = np.random.default_rng(0)
    means = draw.choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def markdown(table: pd.DataFrame) -> str:
    """A table with its index as Markdown."""
    lines = [[table.index.name or "", *map(str, table.columns)]]
    lines += [[str(index), *map(str, row)] for index, row in zip(table.index, table.to_numpy(), strict=True)]
    texts = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([texts[0], "|" + "---|" * len(lines[0]), *texts[1:]])


def error_bars(values: Mapping[str, np.ndarray], label: str) -> Callable[[Any], None]:
    """A figure of means with their bootstrap intervals."""

    def draw(axes: Any) -> None:
        means = [float(one.mean()) for one in values.values()]
        ends = np.array([interval(one) for one in values.values()]).T
        axes.barh(list(values), means, xerr=np.abs(ends - means), color="0.7", capsize=3)
        axes.invert_yaxis()
        axes.set_xlabel(label)

    return draw


@dataclass(frozen=True)
class ClaimTables:
    """Tables of claims that were tested with a budget, which stands below each of them.

    Attributes:
        budget: seeds, epochs, hearts and so on, by name.
    """

    budget: Mapping[str, Any]

    def publish(self, bundle: str, name: str, table: pd.DataFrame, draw: Callable[[Any], None] | None = None) -> None:
        """Write a table (CSV and Markdown) and a figure; those with a figure are logged to MLflow."""
        folder = OUTPUT / bundle
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / f"{name}.csv")
        said = ", ".join(f"{key} {value}" for key, value in self.budget.items())
        (folder / f"{name}.md").write_text(f"{markdown(table)}\n\ncommit {commit()}; {said}\n", encoding="utf-8")
        if draw is None:
            return
        figure = Figure(figsize=(7, 4), layout="constrained")
        draw(figure.subplots())
        figure.savefig(folder / f"{name}.png", dpi=120)
        print(f"\n{bundle}: {name}\n{markdown(table)}", flush=True)
        uri = local_tracking_uri(str(OUTPUT))
        session = tracked_run(
            "claims", bundle, tracking_uri=uri, experiment="claims", name=name, parameters=self.budget
        )
        with session as tracked:
            for ending in ("csv", "md", "png"):
                tracked.log_file(str(folder / f"{name}.{ending}"))

    def compare(
        self,
        bundle: str,
        claim: str,
        ours: tuple[str, np.ndarray],
        theirs: tuple[str, np.ndarray],
        lower_is_better: bool = True,
    ) -> Comparison:
        """Compare paired values, and keep the row in the table of the bundle's claims (one-sided Wilcoxon test)."""
        (name, values), (other, others) = ours, theirs
        values, others = values[: len(others)], others[: len(values)]
        p = float(wilcoxon(values, others, alternative="less" if lower_is_better else "greater").pvalue)
        low, high = interval(values - others)
        row = {
            "claim": claim,
            "ours": name,
            "mean": f"{values.mean():.3f}",
            "against": other,
            "their mean": f"{others.mean():.3f}",
            "difference [95 %]": f"{(values - others).mean():+.3f} [{low:+.3f}, {high:+.3f}]",
            "hearts": str(len(values)),
            "p": f"{p:.1e}",
        }
        file = OUTPUT / bundle / "claims.csv"
        known = []
        if file.is_file():
            with file.open(newline="", encoding="utf-8") as stream:
                known = [one for one in csv.DictReader(stream) if [one[k] for k in _KEY] != [row[k] for k in _KEY]]
        table = pd.DataFrame([*known, row]).set_index("claim")
        self.publish(bundle, "claims", table)
        return Comparison(float(values.mean()), float(others.mean()), p, low, high)


_KEY = ("claim", "ours", "against")
