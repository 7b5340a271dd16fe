"""Pictures of a classifier's scores: reliability, confusion, equivariance, privacy against utility."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dp_equivariant_classification.evaluation.calibration import ReliabilityBins

CAPTION = "Research use only; the shipped weights were trained on simulated images."
_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)  # Okabe and Ito, for all eyes


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.supxlabel(CAPTION, fontsize=7, color="dimgrey")
    return figure


def reliability_figure(bins: ReliabilityBins, error: float, title: str) -> Figure:
    """Accuracy against confidence, with the number of predictions of each bin below."""
    figure = _figure(4.6, 5.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    used = bins.count > 0
    centre = (bins.edges[1:] + bins.edges[:-1]) / 2
    width = bins.edges[1] - bins.edges[0]
    upper.bar(centre[used], bins.accuracy[used], width, color=_COLOURS[0], edgecolor="white", label="accuracy")
    upper.plot(bins.confidence[used], bins.accuracy[used], "o", color="black", markersize=3)
    upper.plot([0, 1], [0, 1], "--", color="grey", label="perfectly calibrated")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    upper.set_title(f"{title}\nexpected calibration error {error:.3f}", fontsize=9)
    upper.legend(fontsize=8, loc="upper left", frameon=False)
    lower.bar(centre, bins.count, width, color="silver", edgecolor="white")
    lower.set(xlabel="probability of the predicted class", ylabel="images")
    return figure


def confusion_figure(confusion: NDArray, names: Sequence[str], title: str) -> Figure:
    """Shares of each true class that were predicted as each class, with the counts."""
    figure = _figure(1.8 + 0.95 * len(names), 1.5 + 0.85 * len(names))
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*confusion.shape):
        colour = "white" if shares[row, column] > 0.55 else "black"
        text = f"{100 * shares[row, column]:.0f} %\n{confusion[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, fontsize=9)
    return figure


def equivariance_figure(
    angles: Sequence[float], errors: Sequence[float], mirrored: Sequence[float], scale: float, title: str
) -> Figure:
    """Largest change of a logit when the image is turned, against the angle, on a logarithmic axis.

    Args:
        angles: degrees.
        errors, mirrored: largest changes of the turned image, and of the mirrored and turned one.
        scale: standard deviation of the logits over images, for comparison.
        title: of the figure.
    """
    figure = _figure(6.2, 3.8)
    axes = figure.subplots()
    floor = 1e-8
    for values, colour, label, style in (
        (errors, _COLOURS[0], "turned", "o-"),
        (mirrored, _COLOURS[1], "mirrored, then turned", "x--"),
    ):
        axes.semilogy(angles, np.maximum(values, floor), style, color=colour, label=label, markersize=4)
    axes.axhline(scale, color="grey", linestyle=":", label="spread of the logits over images")
    axes.set_xticks(list(angles)[:: max(len(angles) // 8, 1)])
    axes.set(xlabel="angle in degrees", ylabel="largest change of a logit")
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    return figure


def privacy_utility_figure(curves: Mapping[str, Mapping[float, Sequence[float]]], metric: str, title: str) -> Figure:
    """A score against epsilon, one line per network; the non-private runs stand at the right.

    Args:
        curves: network -> epsilon (infinity: not private) -> scores of its runs.
        metric: name of the score.
        title: of the figure.
    """
    figure = _figure(6.2, 4.2)
    axes = figure.subplots()
    finite = sorted({epsilon for curve in curves.values() for epsilon in curve if np.isfinite(epsilon)})
    right = 4 * max(finite, default=1.0)
    for number, (name, curve) in enumerate(sorted(curves.items())):
        points = sorted(curve)
        places = [epsilon if np.isfinite(epsilon) else right for epsilon in points]
        means = np.asarray([np.mean(curve[epsilon]) for epsilon in points])
        low = np.asarray([np.min(curve[epsilon]) for epsilon in points])
        high = np.asarray([np.max(curve[epsilon]) for epsilon in points])
        colour = _COLOURS[number % len(_COLOURS)]
        bars = np.stack([means - low, high - means])
        axes.errorbar(places, means, yerr=bars, marker="o", capsize=3, color=colour, label=name, markersize=4)
    axes.set_xscale("log")
    ticks = [*finite, right] if any(np.inf in curve for curve in curves.values()) else finite
    axes.set_xticks(ticks, [f"{tick:g}" if tick != right or tick in finite else "not private" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="epsilon (smaller: more private)", ylabel=metric.replace("_", " "))
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    return figure
