"""The animated cine: methods side by side, in real time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cardiac_mri_mcmr_reconstruction.results.grey_window import in_one_grey_scale, shown_region
from cardiac_mri_mcmr_reconstruction.results.reconstruction_figure import REFERENCE
from clinbundles.data.atomic_file import atomic_path

_GREYS = 48  # noise in finer steps makes the file large, not the picture better
_HEIGHT, _LABEL, _GAP = 200, 20, 4  # pixels: of a picture, of its label, between pictures
_FALLBACK_MS, _SHORTEST_MS = 40.0, 20.0  # viewers slow down films with shorter frames


def save_cine_film(
    path: str | os.PathLike[str],
    cines: Mapping[str, NDArray],
    *,
    roi: Sequence[int] | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0),
    frame_ms: float = float("nan"),
) -> Path:
    """An endless GIF of cines side by side, labelled, in one grey scale, at the speed of the heart.

    Args:
        path: of the GIF; written whole or not at all.
        cines: name -> complex or real (T, X, Y); "reference" sets the grey scale, else the last one.
        roi: (x0, y0, x1, y1) of the heart: the film shows it with a margin.
        spacing_mm: pixel size along X and Y.
        frame_ms: time between frames; NaN: 40.
    """
    standard = REFERENCE if REFERENCE in cines else list(cines)[-1]
    part = shown_region(cines[standard].shape, roi)
    scaled = in_one_grey_scale(cines, standard, part)
    rows, columns = (edge.stop - edge.start for edge in part)
    size = (round(_HEIGHT * columns * spacing_mm[1] / (rows * spacing_mm[0])), _HEIGHT)
    label = _labels(list(cines), size[0])
    frames = []
    for number in range(len(cines[standard])):
        sheet = label.copy()
        for place, images in enumerate(scaled.values()):
            picture = Image.fromarray(np.rint(255 * np.clip(images[number][part], 0, 1)).astype(np.uint8))
            smooth = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
            grey = np.rint(smooth * ((_GREYS - 1) / 255)) * (255 / (_GREYS - 1))
            sheet.paste(Image.fromarray(np.rint(grey).astype(np.uint8)), (place * (size[0] + _GAP), _LABEL))
        frames.append(sheet)
    wanted = frame_ms if np.isfinite(frame_ms) else _FALLBACK_MS
    duration = max(10 * round(max(wanted, _SHORTEST_MS) / 10), 20)  # a GIF counts hundredths of a second
    target = Path(path)
    with atomic_path(target) as draft:
        frames[0].save(
            draft, format="GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0, optimize=False
        )
    return target


def _labels(names: Sequence[str], width: int) -> Image.Image:
    sheet = Image.new("L", (len(names) * width + (len(names) - 1) * _GAP, _LABEL + _HEIGHT), 0)
    pen = ImageDraw.Draw(sheet)
    file = font_manager.findfont("DejaVu Sans")
    for place, name in enumerate(names):
        points = 13
        while points > 6 and pen.textlength(name, ImageFont.truetype(file, points)) > width - 4:
            points -= 1
        middle = place * (width + _GAP) + width / 2
        pen.text((middle, _LABEL / 2), name, fill=255, font=ImageFont.truetype(file, points), anchor="mm")
    return sheet
