"""The picture of a result: vessels by class, FAZ outline, ETDRS rings and a scale bar over the angiogram."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch

from retinal_octa_vessel_segmentation.enface.vessel_label_map import CAPILLARY, LARGER_VESSEL
from retinal_octa_vessel_segmentation.measurement.etdrs_grid import EtdrsGrid

CAPTION = "Research use only; the network was trained on simulated data."
CAPILLARY_COLOUR, LARGER_COLOUR = (0.0, 0.75, 1.0), (1.0, 0.55, 0.0)  # blue and orange: safe for colour-blind readers
FAZ_COLOUR, GRID_COLOUR = "yellow", "white"
OPACITY = 0.65


def vessel_overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(H, W, 3) in [0, 1]: the grey image with capillaries in blue and larger vessels in orange.

    Args:
        image: (H, W) in [0, 1].
        labels: (H, W): 0 background, 1 capillary, 2 larger vessel.
    """
    picture = np.repeat(np.clip(image, 0, 1)[..., None], 3, axis=-1)
    for value, colour in ((CAPILLARY, CAPILLARY_COLOUR), (LARGER_VESSEL, LARGER_COLOUR)):
        inside = labels == value
        picture[inside] = (1 - OPACITY) * picture[inside] + OPACITY * np.asarray(colour)
    return picture


def overlay_figure(
    image: np.ndarray,
    labels: np.ndarray,
    faz_mask: np.ndarray,
    grid: EtdrsGrid,
    pixel_mm: tuple[float, float],
    title: str = "",
    remarks: str = "",
) -> Figure:
    """The angiogram beside its result, both with a scale bar in mm.

    Args:
        image: (H, W) in [0, 1].
        labels: (H, W): 0 background, 1 capillary, 2 larger vessel.
        faz_mask: (H, W) boolean; may be empty.
        grid: the ETDRS grid that the biomarkers were measured on.
        pixel_mm: (row, column) pixel size.
        title: name of the study.
        remarks: a line on quality; shown in red above the caption.
    """
    height, width = image.shape[0] * pixel_mm[0], image.shape[1] * pixel_mm[1]
    figure = Figure(figsize=(11.0, 1.2 + 5.2 * height / width), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    extent = (0.0, width, height, 0.0)
    low, high = np.percentile(image, (0.5, 99.5))
    shown = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    left.imshow(shown, cmap="gray", extent=extent, vmin=0, vmax=1)
    left.set_title(f"angiogram  {title}".rstrip(), fontsize=10)
    right.imshow(vessel_overlay(shown, labels), extent=extent)
    right.set_title("segmentation", fontsize=10)
    handles: list[Patch | Line2D] = [
        Patch(color=CAPILLARY_COLOUR, label="capillary"),
        Patch(color=LARGER_COLOUR, label="larger vessel"),
    ]
    if faz_mask.any() and not faz_mask.all():
        rows = (np.arange(image.shape[0]) + 0.5) * pixel_mm[0]
        columns = (np.arange(image.shape[1]) + 0.5) * pixel_mm[1]
        right.contour(columns, rows, faz_mask.astype(float), levels=[0.5], colors=FAZ_COLOUR, linewidths=1.5)
        handles.append(Line2D([], [], color=FAZ_COLOUR, label="foveal avascular zone"))
    for radius in grid.radii_mm:
        centre = (grid.centre_mm[1], grid.centre_mm[0])
        right.add_patch(Circle(centre, radius, fill=False, color=GRID_COLOUR, linewidth=0.8, linestyle="--"))
    handles.append(Line2D([], [], color="grey", linestyle="--", label="ETDRS rings"))
    right.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=4, fontsize=8, frameon=False)
    for axes in (left, right):
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_axis_off()
        _scale_bar(axes, width, height)
    caption = "\n".join([*textwrap.wrap(remarks, 150), CAPTION])
    figure.supxlabel(caption, fontsize=8, color="darkred" if remarks else "dimgrey")
    return figure


def _scale_bar(axes, width: float, height: float) -> None:  # type: ignore[no-untyped-def]
    length = 1.0 if width >= 4 else 0.5
    start, level = 0.04 * width, 0.96 * height
    for colour, thickness in (("black", 5), ("white", 3)):
        axes.plot([start, start + length], [level, level], color=colour, linewidth=thickness, solid_capstyle="butt")
    axes.text(
        start + length / 2, level - 0.015 * height, f"{length:g} mm", color="white", ha="center", va="bottom",
        fontsize=8, bbox={"facecolor": "black", "alpha": 0.6, "pad": 1.5, "linewidth": 0},
    )  # fmt: skip


def save_overlay_figure(figure: Figure, path: Path, dpi: int = 130) -> None:
    """Write the figure as PNG."""
    figure.savefig(path, dpi=dpi, format="png")
