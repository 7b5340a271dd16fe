"""Pictures of a cine with the contours of a mesh on it: a sheet of slices and phases, and a film of all phases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from clinbundles.data.atomic_file import atomic_path

CONTOUR_COLOURS = ("tab:red", "gold", "tab:cyan", "tab:green")
_MARGIN_MM = 70.0  # to each side of the projected origin


def mesh_contours(vertices: npt.ArrayLike, faces: npt.ArrayLike, pose: npt.ArrayLike) -> np.ndarray:
    """(M, 2, 2) the segments in which a mesh meets a slice, in pixels (i, j).

    A vertex on the plane counts as above it, so that the outlines of a closed mesh are closed.

    Args:
        vertices: (V, 3) mm, in the frame of the pose.
        faces: (F, 3).
        pose: (3, 4) (x, y, z, 1) to (i, j, n), n the signed distance to the slice.
    """
    points, triangles, matrix = np.asarray(vertices, float), np.asarray(faces), np.asarray(pose, float)
    local = points @ matrix[:, :3].T + matrix[:, 3]
    corners = local[triangles]
    above = corners[:, :, 2] >= 0
    crossed = above.any(axis=1) & ~above.all(axis=1)
    corners, above = corners[crossed], above[crossed]
    # the lone corner first
    alone = np.where(above.sum(axis=1) == 1, above.argmax(axis=1), (~above).argmax(axis=1))
    order = (alone[:, None] + np.arange(3)) % 3
    a, b, c = (np.take_along_axis(corners, order[:, n : n + 1, None], axis=1)[:, 0] for n in range(3))
    ends = [a + (a[:, 2] / (a[:, 2] - other[:, 2]))[:, None] * (other - a) for other in (b, c)]
    return np.stack(ends, axis=1)[:, :, :2]


def cine_contact_sheet(
    native: Mapping[str, Mapping[str, npt.ArrayLike]],
    meshes: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    phases: Sequence[int] = (0,),
    *,
    most_slices: int = 6,
    title: str = "",
) -> Figure:
    """Slices of every view (columns) at some phases (rows), with the contours of meshes.

    Args:
        native: ``sample["native"]`` of :class:`clinbundles.cine.LoadImageCineExamd`: view to "image" (K, T, I, J) and
            "pose" (K, 3, 4), exam mm.
        meshes: name -> (vertices (T, V, 3) in exam mm, or (V, 3) at rest; faces (F, 3)); a colour each.
        phases: which to show.
        most_slices: of the short axis, evenly chosen.
        title: above all.

    Returns:
        The figure; the caller saves it (``savefig``).
    """
    panels = _panels(native, most_slices)
    figure = Figure(figsize=(1.9 * len(panels), 2.05 * len(phases) + 0.35))
    axes = figure.subplots(len(phases), len(panels), squeeze=False)
    for row, phase in zip(axes, phases, strict=True):
        for axis, panel in zip(row, panels, strict=True):
            _show(axis, panel, meshes, phase)
        row[0].set_ylabel(f"phase {phase}")
    for axis, panel in zip(axes[0], panels, strict=True):
        axis.set_title(panel[0], fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    figure.tight_layout(pad=0.4)
    return figure


def save_cine_film(
    path: str | os.PathLike[str],
    native: Mapping[str, Mapping[str, npt.ArrayLike]],
    meshes: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    most_slices: int = 3,
    frames_per_second: int = 12,
) -> Path:
    """An animated GIF of all phases, slices side by side, with the contours of meshes.

    Args:
        path: of the GIF.
        native, meshes, most_slices: as in :func:`cine_contact_sheet`.
        frames_per_second: of the film.
    """
    panels = _panels(native, most_slices)
    phases = np.asarray(panels[0][1]).shape[0]
    figure = Figure(figsize=(1.9 * len(panels), 2.1))
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=0.9, wspace=0.02)

    def draw(phase: int) -> list[Axes]:
        for axis, panel in zip(axes[0], panels, strict=True):
            axis.clear()
            _show(axis, panel, meshes, phase)
            axis.set_title(panel[0], fontsize=8)
        return list(axes[0])

    target = Path(path)
    film = FuncAnimation(figure, draw, frames=phases)
    with atomic_path(target) as draft:
        film.save(str(draft), writer=PillowWriter(fps=frames_per_second), dpi=80)
    return target


def _panels(
    native: Mapping[str, Mapping[str, npt.ArrayLike]], most_slices: int
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Title, images (T, I, J) and pose (3, 4) of the slices to show."""
    panels = []
    for name, view in native.items():
        images, poses = np.asarray(view["image"]), np.asarray(view["pose"], float)
        chosen = np.unique(np.linspace(0, len(images) - 1, min(most_slices, len(images))).round().astype(int))
        for k in chosen:
            words = name.replace("lax_", "").upper() if len(images) == 1 else f"{name.upper()} {k + 1}"
            panels.append((words, images[k], poses[k]))
    return panels


def _show(
    axis: Axes,
    panel: tuple[str, np.ndarray, np.ndarray],
    meshes: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    phase: int,
) -> None:
    _, images, pose = panel
    axis.imshow(images[phase].T, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    for (vertices, faces), colour in zip(meshes.values(), CONTOUR_COLOURS * len(meshes), strict=False):
        moving = np.asarray(vertices)
        now = moving[phase] if moving.ndim == 3 else moving
        axis.add_collection(LineCollection(list(mesh_contours(now, faces, pose)), colors=colour, linewidths=1.0))
    centre = pose[:2, 3]
    reach = _MARGIN_MM * np.linalg.norm(pose[:2, :3], axis=1)
    axis.set_xlim(max(centre[0] - reach[0], -0.5), min(centre[0] + reach[0], images.shape[1] - 0.5))
    axis.set_ylim(min(centre[1] + reach[1], images.shape[2] - 0.5), max(centre[1] - reach[1], -0.5))
    axis.set_xticks([])
    axis.set_yticks([])
