"""The bull's-eye figure of the 17 segments, as cardiologists read it: apex in the middle, septum on the left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Wedge
from numpy.typing import NDArray

# radii of a ring, first angle (degrees, counter-clockwise from the right), width, segments in that direction
_RINGS = (
    ((0.75, 1.0), 60.0, 60.0, (1, 2, 3, 4, 5, 6)),
    ((0.5, 0.75), 60.0, 60.0, (7, 8, 9, 10, 11, 12)),
    ((0.25, 0.5), 45.0, 90.0, (13, 14, 15, 16)),
    ((0.0, 0.25), 0.0, 360.0, (17,)),
)


def draw_bulls_eye(
    axes: Axes,
    values: NDArray[np.floating] | Sequence[float],
    *,
    title: str = "",
    unit: str = "",
    limits: tuple[float, float] | None = None,
    colours: str = "viridis",
    decimals: int = 0,
) -> dict[int, Wedge]:
    """Draw 17 values into axes; returns the patch of each segment. Segments without a value (NaN) are grey.

    Args:
        axes: of Matplotlib.
        values: (17,) of segments 1 to 17.
        title: above the figure.
        unit: at the colour bar.
        limits: values of the ends of the colour scale; None: least and greatest value.
        colours: name of a Matplotlib colour map.
        decimals: of the numbers in the figure.
    """
    numbers = np.asarray(values, float)
    if numbers.shape != (17,):
        raise ValueError(f"values have the shape {numbers.shape}, expected (17,): one of each segment")
    known = numbers[np.isfinite(numbers)]
    low, high = limits or ((float(known.min()), float(known.max())) if len(known) else (0.0, 1.0))
    scale = ScalarMappable(Normalize(low, high if high > low else low + 1e-9), colormaps[colours])
    patches = {}
    for (inner, outer), first, width, segments in _RINGS:
        for place, segment in enumerate(segments):
            start = first + place * width
            value = numbers[segment - 1]
            colour = scale.to_rgba(value) if np.isfinite(value) else (0.8, 0.8, 0.8, 1.0)
            patch = Wedge((0, 0), outer, start, start + width, width=outer - inner, facecolor=colour, edgecolor="white")
            axes.add_patch(patch)
            patches[segment] = patch
            middle, radius = np.radians(start + width / 2), 0.0 if inner == 0 else (inner + outer) / 2
            dark = float(np.dot(colour[:3], (0.299, 0.587, 0.114))) < 0.5
            text = f"{value:.{decimals}f}" if np.isfinite(value) else "-"
            axes.text(
                radius * np.cos(middle), radius * np.sin(middle), text, ha="center", va="center", fontsize=8,
                color="white" if dark else "black",
            )  # fmt: skip
    for text, x, y in (("anterior", 0, 1.08), ("septal", -1.08, 0), ("inferior", 0, -1.08), ("lateral", 1.08, 0)):
        axes.text(x, y, text, ha="center", va="center", fontsize=7, rotation=90 * (y == 0))
    axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10, pad=10)
    axes.figure.colorbar(scale, ax=axes, label=unit, shrink=0.7)
    return patches


def bulls_eye_figure(
    panels: Sequence[tuple[str, NDArray[np.floating], str, tuple[float, float] | None]],
    decimals: int = 0,
    colours: str = "viridis",
) -> Figure:
    """A figure of bull's-eyes side by side: (title, (17,) values, unit, limits) each."""
    figure = Figure(figsize=(4.2 * len(panels), 4.0), layout="constrained")
    for axes, (title, values, unit, limits) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        draw_bulls_eye(axes, values, title=title, unit=unit, limits=limits, decimals=decimals, colours=colours)
    return figure
