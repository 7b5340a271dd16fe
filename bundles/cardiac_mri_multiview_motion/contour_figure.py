"""The figure of one exam's carried labels over the cine."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

_COLOURS = ("tab:red", "gold", "tab:cyan")  # cavity, myocardium, right cavity
_MOST_SLICES = 5


def contour_figure(
    images: NDArray[np.floating],
    labels: NDArray[np.integer],
    names: list[str],
    frames: dict[str, int],
    title: str = "",
) -> Figure:
    """Outlines of the carried labels over the cine: a column for each plane, a row for each frame.

    Args:
        images: (T, P, H, W) in [0, 1].
        labels: (T, P, H, W) 0 to 3.
        names: of the P planes; "" leaves a plane out.
        frames: name -> frame.
        title: above all.
    """
    shown = [plane for plane, name in enumerate(names) if name]
    figure = Figure(figsize=(1.7 * len(shown), 1.75 * len(frames) + 0.4), layout="constrained")
    axes = figure.subplots(len(frames), len(shown), squeeze=False)
    for row, (when, frame) in zip(axes, frames.items(), strict=True):
        for axis, plane in zip(row, shown, strict=True):
            axis.imshow(images[frame, plane].T, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
            for value, colour in enumerate(_COLOURS, start=1):
                mask = labels[frame, plane] == value
                if mask.any() and not mask.all():
                    axis.contour(mask.T.astype(float), [0.5], colors=colour, linewidths=0.9)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(when, fontsize=8)
    for axis, plane in zip(axes[0], shown, strict=True):
        axis.set_title(names[plane], fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def plane_names(views: tuple[str, ...], present: NDArray[np.bool_]) -> list[str]:
    """Names of the planes to show: all long-axis views that are there, and evenly chosen short-axis slices."""
    names = [name.replace("lax_", "").upper() if there else "" for name, there in zip(views, present, strict=False)]
    slices = np.flatnonzero(present[len(views) :])
    chosen = set(np.unique(np.linspace(0, len(slices) - 1, min(_MOST_SLICES, len(slices))).round().astype(int)))
    names += [f"SAX {number + 1}" if number in chosen else "" for number in range(len(slices))]
    return names + [""] * (len(present) - len(names))
