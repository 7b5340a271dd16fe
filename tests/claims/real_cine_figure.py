"""The real cine beside its reconstructions: end-systole, errors, and a line over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cardiac_mri_mcmr_reconstruction.results.grey_window import most_different_frame
from clinbundles.mcmr.reconstruction_metrics import magnitude_scale, middle_line, xt_profile

ERROR_GAIN = 5


def comparison_figure(
    reference: torch.Tensor, found: Mapping[str, Mapping[str, torch.Tensor]], pixel_mm: float, frame_ms: float
) -> Figure:
    """Rows: what the images were made from, each with its errors below; columns: reference, methods, lines over time.

    Args:
        reference: magnitudes (T, X, Y) in the heart's region.
        found: row -> method -> magnitudes (T, X, Y).
        pixel_mm: of a pixel, both directions alike.
        frame_ms: between frames.
    """
    methods = list(next(iter(found.values())))
    frame = most_different_frame(reference.numpy(), (0, 0, *reference.shape[1:]))
    top = float(torch.quantile(reference[frame], 0.995))
    line = middle_line(reference.shape)
    columns = 2 * (1 + len(methods))
    box = reference.shape[1] / reference.shape[2]
    figure = Figure(figsize=(1.3 * columns, 2.8 * box * len(found) + 0.7), layout="constrained")
    axes = figure.subplots(2 * len(found), columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, (row, images) in enumerate(found.items()):
        above, below = axes[2 * number], axes[2 * number + 1]
        shown = {"reference": reference}
        shown |= {name: one * magnitude_scale(one, reference) for name, one in images.items()}
        for column, (name, cine) in enumerate(shown.items()):
            profile, true_profile = xt_profile(cine, line).T, xt_profile(reference, line).T
            _picture(above[column], cine[frame], top, name if number == 0 else "")
            over_time = above[column + len(shown)]
            _picture(over_time, profile, top, f"{name}, line" if number == 0 else "", aspect="auto")
            if name == "reference":
                above[column].axhline(line[0][0], color="gold", linewidth=0.8, linestyle="--")
                below[column].text(
                    0.5, 0.5, f"{row}, frame {frame}\n|error| × {ERROR_GAIN}", ha="center", va="center", fontsize=9
                )
                extent = f"{profile.shape[0] * pixel_mm:.0f} mm down\n{profile.shape[1] * frame_ms:.0f} ms across"
                below[column + len(shown)].text(0.5, 0.5, extent, ha="center", va="center", fontsize=7)
            else:
                _picture(below[column], ERROR_GAIN * (cine - reference)[frame].abs(), top, "", "inferno")
                error = ERROR_GAIN * (profile - true_profile).abs()
                _picture(below[column + len(shown)], error, top, "", "inferno", "auto")
    return figure


def _picture(
    axis: Axes,
    values: torch.Tensor,
    top: float,
    title: str,
    colours: str = "gray",
    aspect: Literal["equal", "auto"] = "equal",
) -> None:
    axis.imshow(values.numpy(), cmap=colours, vmin=0, vmax=top, aspect=aspect, interpolation="nearest")
    axis.set_title(title, fontsize=8)
