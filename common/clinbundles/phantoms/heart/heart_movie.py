"""Moving picture of a simulated heart: cine images with the outline of its mesh."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clinbundles.phantoms.heart.cine_image import draw_cine, draw_scan
from clinbundles.phantoms.heart.heart import Heart
from clinbundles.phantoms.heart.heart_mesh import ENDOCARDIUM, EPICARDIUM, heart_mesh
from clinbundles.phantoms.heart.scanner_planes import LONG_AXIS_DEGREES, View
from clinbundles.phantoms.heart.tissue_signal import draw_signals

_PIXELS, _PIXEL_MM, _ZOOM, _GREYS = 80, 1.6, 3, 40
_COLOURS = {ENDOCARDIUM: (255, 80, 80), EPICARDIUM: (255, 220, 60)}


def heart_movie(heart: Heart, path: Path, *, seed: int = 0, frames: int = 16) -> None:
    """Write an animated GIF of one beat: a mid-ventricular short-axis slice, 4CH, 2CH and 3CH; endocardium red.

    Args:
        heart: what to show.
        path: of the GIF.
        seed: of contrast, texture and noise.
        frames: of the beat.
    """
    rng = np.random.default_rng(seed)
    scan = draw_scan(rng, draw_signals(rng), noise=(0.006, 0.006), texture=(0.05, 0.05))
    times = np.arange(frames) / frames
    views = _straight_views(heart)
    cines = [draw_cine(heart, view, times, scan, rng)[0][:, :, 0] for view in views]
    mesh = heart_mesh(heart, rows=30, columns=72)
    side = _PIXELS * _ZOOM
    palette, pages = _palette(), []
    for t, time in enumerate(times):
        page = Image.new("RGB", (side * len(views), side))
        points = mesh.at(heart, float(time))
        for n, (view, cine) in enumerate(zip(views, cines, strict=True)):
            white = np.percentile(cine, 99.5)
            grey = np.clip(255.0 * cine[:, :, t].T / white, 0.0, 255.0).astype(np.uint8)
            panel = Image.fromarray(grey).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
            pen = ImageDraw.Draw(panel)
            for surface, colour in _COLOURS.items():
                faces = mesh.faces[(mesh.surface[mesh.faces] == surface).all(1)]
                for line in (_cut(points, faces, view.affine) + 0.5) * _ZOOM:
                    pen.line([tuple(line[0]), tuple(line[1])], fill=colour, width=1)
            page.paste(panel, (n * side, 0))
        pages.append(page.quantize(palette=palette, dither=Image.Dither.NONE))
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=round(1000 / frames), loop=0, optimize=True)


def _palette() -> Image.Image:
    """Few greys and the outline's colours: a small file."""
    greys = np.repeat(np.linspace(0, 255, _GREYS).astype(np.uint8), 3)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*greys.tolist(), *(part for colour in _COLOURS.values() for part in colour)])
    return palette


def _straight_views(heart: Heart) -> list[View]:
    """Planes through the middle of the ventricle without a plan's errors; lateral to the right, apex up."""
    axes = {"sax": np.eye(3)}
    for name in ("lax_4ch", "lax_2ch", "lax_3ch"):
        angle = math.radians(LONG_AXIS_DEGREES[name])
        out = np.array([math.cos(angle), math.sin(angle), 0.0])
        axes[name] = np.stack([out, [0.0, 0.0, 1.0], np.cross(out, [0.0, 0.0, 1.0])], axis=1)
    views = []
    for name, columns in axes.items():
        middle = np.array([0.0, 0.0, -0.45 if name == "sax" else -0.3]) * heart.anatomy.length
        affine = np.eye(4)
        affine[:3, :3] = heart.rotation @ columns * [_PIXEL_MM, _PIXEL_MM, 8.0]
        affine[:3, 3] = heart.to_world(middle[None], 0.0)[0] - affine[:3, :2] @ np.full(2, (_PIXELS - 1) / 2)
        views.append(View(name, affine, (_PIXELS, _PIXELS, 1), 6.0, np.zeros((1, 3))))
    return views


def _cut(points: NDArray[np.float64], faces: NDArray[np.int32], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Segments (S, 2, 2), pixels, in which triangles meet the plane k = 0 of an affine."""
    inverse = np.linalg.inv(affine)
    corners = (points @ inverse[:3, :3].T + inverse[:3, 3])[faces]  # (F, 3 corners, ijk)
    height = corners[..., 2]
    crossed = corners[(height > 0.0).any(1) & (height <= 0.0).any(1)]
    segments = []
    for triangle in crossed:
        ends = [
            a[:2] + (b[:2] - a[:2]) * a[2] / (a[2] - b[2])
            for a, b in zip(triangle, np.roll(triangle, -1, 0), strict=True)
            if (a[2] > 0.0) != (b[2] > 0.0)
        ]
        segments.append(ends)
    return np.array(segments).reshape(-1, 2, 2)
