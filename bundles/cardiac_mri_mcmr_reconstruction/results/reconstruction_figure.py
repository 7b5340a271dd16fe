"""The picture of one reconstructed cine: frames, a line over time, errors and the motion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cardiac_mri_mcmr_reconstruction.results.grey_window import (
    heart_region,
    in_one_grey_scale,
    most_different_frame,
    shown_region,
)
from clinbundles.mcmr.flow_composition import compose_flow, invert_flow, jacobian_determinant
from clinbundles.mcmr.reconstruction_metrics import middle_line, xt_profile

REFERENCE = "reference"
ERROR_GAIN = 5
_ARROWS = 22  # at most, along the longer side
_SHORTEST_ARROW = 0.2  # pixels


def reconstruction_figure(
    cines: Mapping[str, NDArray],
    template_flow: NDArray | None = None,
    *,
    roi: Sequence[int] | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0),
    frame_ms: float = float("nan"),
    title: str = "",
) -> Figure:
    """A column for each cine and one for the motion; rows: end-diastole, end-systole, a line over time, errors.

    End-diastole is frame 0, end-systole the frame that differs most from it. All cines have one grey scale
    (:func:`in_one_grey_scale`). Errors are differences of magnitudes, five times as bright. The motion: arrows
    from each place at end-diastole to where its tissue is at end-systole, and the change of area on the way.

    Args:
        cines: name -> complex or real (T, X, Y); the one called "reference" brings the rows of errors, else the last
            one sets the grey scale.
        template_flow: (T, 2, X, Y) pixels, template -> frame; None: no motion is drawn.
        roi: (x0, y0, x1, y1) of the heart.
        spacing_mm: pixel size along X and Y.
        frame_ms: time between frames; NaN: the time axis counts frames.
        title: above all.

    Returns:
        The figure; the caller saves it (``savefig``).
    """
    names = list(cines)
    standard = REFERENCE if REFERENCE in cines else names[-1]
    size = cines[standard].shape
    part = shown_region(size, roi)
    scaled = in_one_grey_scale(cines, standard, part)
    phases = {"end-diastole": 0, "end-systole": most_different_frame(cines[standard], roi)}
    tested = [name for name in names if name != REFERENCE] if REFERENCE in cines else []
    aspect = spacing_mm[0] / spacing_mm[1]
    box = ((part[0].stop - part[0].start) * aspect) / (part[1].stop - part[1].start)
    columns = len(names) + (template_flow is not None)
    heights = [box, box, 0.6, *([box, box] if tested else [])]
    figure = Figure(
        figsize=(2.25 * columns + 0.6, 2.0 * sum(heights) + 0.25 * len(heights) + 0.5), layout="constrained"
    )
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for column, name in zip(axes.T, names, strict=False):
        column[0].set_title(name, fontsize=9)
        for axis, frame in zip(column, phases.values(), strict=False):
            _picture(axis, scaled[name][frame][part], aspect)
        _profile(column[2], scaled[name], roi, spacing_mm, frame_ms)
        if tested and name in tested:
            for axis, frame in zip(column[3:], phases.values(), strict=True):
                error = ERROR_GAIN * np.abs(scaled[name][frame] - scaled[REFERENCE][frame])
                _picture(axis, error[part], aspect, "inferno")
    line = middle_line(size, heart_region(size, roi))
    axes[0, names.index(standard)].plot(
        [line[0][1] - part[1].start, line[1][1] - part[1].start],
        [line[0][0] - part[0].start, line[1][0] - part[0].start],
        color="gold", linewidth=0.8, linestyle="--",
    )  # fmt: skip
    if template_flow is not None:
        background = names[-2] if names[-1] == REFERENCE and len(names) > 1 else names[-1]
        _motion(figure, axes[:, -1], template_flow, scaled[background], phases, part, aspect)
    for row, (when, frame) in enumerate(phases.items()):
        axes[row, 0].set_ylabel(f"{when}, frame {frame}", fontsize=8)
        if tested:
            axes[3 + row, 0].set_ylabel(f"|error| × {ERROR_GAIN}, frame {frame}", fontsize=8)
    axes[2, 0].set_ylabel("dashed line, mm", fontsize=8)
    for axis in axes.flat:
        if not axis.has_data():
            axis.axis("off")
    figure.suptitle(title, fontsize=10)
    return figure


def phase_motion(template_flow: NDArray, start: int, end: int) -> NDArray[np.float64]:
    """(2, X, Y) pixels: the way of the tissue from frame ``start`` to frame ``end``, on the grid of ``start``."""
    flow = torch.as_tensor(np.asarray(template_flow), dtype=torch.float64)
    return compose_flow(invert_flow(flow[start]), flow[end]).numpy()


def _picture(axis: Axes, values: NDArray, aspect: float, colours: str = "gray") -> None:
    axis.imshow(values, cmap=colours, vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def _profile(
    axis: Axes, images: NDArray, roi: Sequence[int] | None, spacing_mm: Sequence[float], frame_ms: float
) -> None:
    line = middle_line(images.shape, heart_region(images.shape, roi))
    values = xt_profile(torch.from_numpy(images), line).numpy()  # (T, L)
    known = np.isfinite(frame_ms)
    end = len(values) * (frame_ms if known else 1)
    axis.imshow(
        values.T, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
        extent=(0, end, values.shape[1] * spacing_mm[1], 0),
    )  # fmt: skip
    axis.tick_params(labelsize=6, length=2)
    axis.set_xlabel("ms" if known else "frame", fontsize=7, labelpad=1)


def _motion(
    figure: Figure,
    column: NDArray[np.object_],
    template_flow: NDArray,
    images: NDArray,
    phases: Mapping[str, int],
    part: tuple[slice, slice],
    aspect: float,
) -> None:
    start, end = phases.values()
    way = phase_motion(template_flow, start, end)
    shown = way[:, part[0], part[1]]
    _picture(column[0], 0.7 * images[start][part], aspect)
    column[0].set_title("motion", fontsize=9)
    step = max(1, -(-max(shown.shape[1:]) // _ARROWS))
    rows, columns = (axis[step // 2 :: step, step // 2 :: step] for axis in np.indices(shown.shape[1:]))
    moving = np.hypot(*shown[:, rows, columns]) > _SHORTEST_ARROW
    rows, columns = rows[moving], columns[moving]
    column[0].quiver(
        columns, rows, shown[1][rows, columns], shown[0][rows, columns],
        angles="xy", scale_units="xy", scale=1, color="gold", width=0.006, headwidth=4, headlength=4,
    )  # fmt: skip
    column[0].set_xlabel("way to end-systole, true length", fontsize=7)
    area = jacobian_determinant(torch.from_numpy(way)).numpy()[part]
    drawn = column[1].imshow(area, cmap="RdBu_r", vmin=0, vmax=2, aspect=aspect, interpolation="nearest")
    if (area <= 0).any():
        column[1].contour((area <= 0).astype(float), [0.5], colors="black", linewidths=0.8)
    column[1].set_xticks([])
    column[1].set_yticks([])
    column[1].set_xlabel("area at end-systole / end-diastole", fontsize=7)
    bar = figure.colorbar(drawn, ax=column[1], location="right", shrink=0.8, ticks=[0, 1, 2], pad=0.02)
    bar.ax.tick_params(labelsize=7)
