"""The one real heart: an exam in DICOM with surfaces fitted to the phases 0, 2, ... 24 (biv-me, Apache-2.0).

The surfaces lie in patient coordinates, LPS; drawn over the cine they fit the images, and their frame number is the
number of the phase in every series. They follow automatic contours, not hand-drawn ones: guide points lie 1 to 1.6 mm
(median) from them. Errors below that say nothing.

Any motion is scored: a function ``track(points, phase)`` that takes points of the end-diastolic heart (N, 3), RAS mm,
to where they are at a phase of 0 ... 24.
"""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from scipy.spatial import cKDTree

from clinbundles.cine.exam_frame import exam_axes
from clinbundles.motion.displacement_field import DisplacementField
from clinbundles.phantoms.heart import draw_heart, heart_mesh

PHASES = 25
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_LV_WALL_MM = 16.0  # the fitted epicardium is of both ventricles: the LV's part lies near the LV endocardium

Track = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class RealHeart:
    """Fitted surfaces, vertices corresponding over time; RAS mm.

    Attributes:
        dicom: folder with a folder of DICOM files per series.
        phases: (P,) numbers of the fitted phases, the first is end-diastole.
        endocardium: (P, V, 3) of the LV, open at the valves.
        endocardium_faces: (F, 3).
        epicardium: (P, W, 3) of the LV's free wall.
    """

    dicom: Path
    phases: np.ndarray
    endocardium: np.ndarray
    endocardium_faces: np.ndarray
    epicardium: np.ndarray


def unpack_real_heart(real_data: Path, folder: Path) -> RealHeart:
    """Unpack the exam and its surfaces into a folder and read the surfaces."""
    dicom, surfaces = folder / "dicom", folder / "surfaces"
    for archive in sorted((real_data / "cardiac_cine" / "bivme_patient1").glob("*_Se*.tar.xz")):
        _unpack(archive, dicom / archive.name.removesuffix(".tar.xz"))
    _unpack(real_data / "cardiac_mesh" / "bivme_patient1" / "meshes_vtk_even_frames.tar.xz", surfaces)
    return read_real_heart(dicom, surfaces)


def _unpack(archive: Path, folder: Path) -> None:
    if not folder.is_dir():
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")


def read_real_heart(dicom: Path, surfaces: Path) -> RealHeart:
    """The surfaces of a folder."""
    endo = sorted(surfaces.rglob("*_LV_ENDOCARDIAL_*.vtk"))
    epi = sorted(surfaces.rglob("*_EPICARDIAL_*.vtk"))
    read = [read_surface(file) for file in endo]
    endocardium = np.stack([vertices for vertices, _ in read])
    both = np.stack([read_surface(file)[0] for file in epi])
    gaps = np.linalg.norm(both[0][:, None] - endocardium[0][None], axis=-1).min(axis=1)
    phases = np.array([int(file.stem.rsplit("_", 1)[1]) for file in endo])
    return RealHeart(dicom, phases, endocardium, read[0][1], both[:, gaps < _LV_WALL_MM])


def read_surface(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) in RAS mm and faces (F, 3) of a surface as biv-me writes it (VTK 5.1, ASCII, LPS)."""
    words = file.read_text(encoding="ascii").split()
    at = words.index("POINTS")
    count = int(words[at + 1])
    vertices = np.array(words[at + 3 : at + 3 + 3 * count], dtype=float).reshape(count, 3)
    corners = int(words[words.index("POLYGONS") + 2])
    at = words.index("CONNECTIVITY") + 2
    faces = np.array(words[at : at + corners], dtype=np.int64).reshape(-1, 3)
    return vertices * _LPS_TO_RAS, faces


def volume_ml(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Volume inside a surface whose openings (valves) are closed by fans to the middle of their rims."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {(a, b) for a, b in edges.tolist()}
    following = {b: a for a, b in known if (b, a) not in known}  # rims, against the direction of their faces
    total = _signed(vertices, faces)
    while following:
        start = next(iter(following))
        rim = [start]
        while (after := following.pop(rim[-1])) != start:
            rim.append(after)
        fan = np.concatenate([vertices[rim], vertices[rim].mean(axis=0, keepdims=True)])
        number = np.arange(len(rim))
        total += _signed(fan, np.stack([number, np.roll(number, -1), np.full_like(number, len(rim))], axis=1))
    return abs(total) / 1000


def _signed(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, n]] for n in range(3))
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


@dataclass(frozen=True)
class Score:
    """Errors of one way to track the heart; phases as in :class:`RealHeart`.

    Attributes:
        name: of the way.
        endocardium_mm, epicardium_mm: (P,) mean distance of a vertex from where it is.
        volume_ml: (P,) inside the tracked LV endocardium.
        across_mm, along_mm: (P,) of the endocardium, across and along the long axis.
        surface_mm: (P,) mean distance of a tracked vertex from the nearest true vertex: sliding along does not count.
    """

    name: str
    endocardium_mm: np.ndarray
    epicardium_mm: np.ndarray
    volume_ml: np.ndarray
    across_mm: np.ndarray
    along_mm: np.ndarray
    surface_mm: np.ndarray

    @property
    def ejection_fraction(self) -> float:
        """Largest loss of volume against end-diastole."""
        return float(1 - self.volume_ml.min() / self.volume_ml[0])

    @property
    def mean_mm(self) -> float:
        """Mean endocardial vertex error of all fitted phases but end-diastole."""
        return float(self.endocardium_mm[1:].mean())


def score(heart: RealHeart, track: Track, name: str) -> Score:
    """Track the end-diastolic surfaces and compare them with those of every phase."""
    axis = long_axis(heart)
    endo, epi, volumes, across, along, surface = [], [], [], [], [], []
    for number, phase in enumerate(heart.phases):
        inner = np.asarray(track(heart.endocardium[0], int(phase)), dtype=float)
        outer = np.asarray(track(heart.epicardium[0], int(phase)), dtype=float)
        gap = inner - heart.endocardium[number]
        endo.append(np.linalg.norm(gap, axis=1).mean())
        epi.append(np.linalg.norm(outer - heart.epicardium[number], axis=1).mean())
        volumes.append(volume_ml(inner, heart.endocardium_faces))
        along.append(np.abs(gap @ axis).mean())
        across.append(np.linalg.norm(gap - (gap @ axis)[:, None] * axis, axis=1).mean())
        surface.append(cKDTree(heart.endocardium[number]).query(inner)[0].mean())
    return Score(name, *(np.array(values) for values in (endo, epi, volumes, across, along, surface)))


def staying(points: np.ndarray, phase: int) -> np.ndarray:
    """No motion."""
    return points


def track_by_field(file: Path) -> Track:
    """The motion of a displacement file (I, J, K, T, 3), mm RAS, as the bundles write it; on either domain."""
    image: Any = nibabel.load(file)
    values = np.asarray(image.dataobj, dtype=np.float32)
    affine = np.asarray(image.affine, dtype=float)
    domain = str(image.header["descrip"].astype(str)).rsplit(" ", 1)[-1]
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    spacing = tuple(float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    middle = affine[:3, :3] @ ((np.array(values.shape[:3]) - 1) / 2) + affine[:3, 3]
    # world components to those along the axes of the grid, (T, 3, I, J, K)
    vectors = torch.from_numpy(np.einsum("wc,ijktw->tcijk", axes, values)).float()

    def track(points: np.ndarray, phase: int) -> np.ndarray:
        field = DisplacementField(vectors[phase : phase + 1], domain, (spacing[0], spacing[1], spacing[2]))
        local = torch.from_numpy((points - middle) @ axes).float()[None]
        return field.from_ed(local)[0].numpy().astype(float) @ axes.T + middle

    return track


def track_by_mesh(vertices: np.ndarray, nearest: int = 6) -> Track:
    """The motion of a moving mesh: a point moves as the vertices that are nearest to it at end-diastole.

    Args:
        vertices: (T, V, 3) RAS mm, T = 25 phases.
        nearest: how many, weighted by the inverse of their distance.
    """
    tree = cKDTree(vertices[0])

    def track(points: np.ndarray, phase: int) -> np.ndarray:
        distance, index = tree.query(points, k=range(1, nearest + 1))
        weight = 1 / np.maximum(distance, 0.5)
        weight /= weight.sum(axis=1, keepdims=True)
        moved = (vertices[phase] - vertices[0])[index]
        return points + np.einsum("nk,nka->na", weight, moved)

    return track


def true_motion(heart: RealHeart) -> Score:
    """The fitted surfaces themselves: no error, and their volumes."""
    none = np.zeros(len(heart.phases))
    volumes = np.array([volume_ml(vertices, heart.endocardium_faces) for vertices in heart.endocardium])
    return Score("fitted surfaces", none, none, volumes, none, none, none)


def long_axis(heart: RealHeart) -> np.ndarray:
    """(3,) unit, from apex to base: the direction from the vertex farthest from the rims to the rims' middle."""
    faces = heart.endocardium_faces
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    rim = heart.endocardium[0][np.unique(unique[counts == 1])].mean(axis=0)
    apex = heart.endocardium[0][np.linalg.norm(heart.endocardium[0] - rim, axis=1).argmax()]
    return (rim - apex) / np.linalg.norm(rim - apex)


def population_mean(heart: RealHeart, seeds: Sequence[int] = range(40), times: int = 20) -> Track:
    """The mean motion of simulated hearts, as radial, circumferential and longitudinal mm at corresponding places.

    Place: height between apex (0) and base (1) of the endocardium, angle about the long axis in the exam frame, and
    whether a point lies on the endocardium or the epicardium. Each component is a polynomial of degree 3 in the height
    times 1, cos, sin of the angle, fitted to all hearts together.
    """
    rows, values = [], []
    for seed in seeds:
        simulated = draw_heart(np.random.default_rng(seed))
        mesh = heart_mesh(simulated, rows=12, columns=24)
        start = mesh.at(simulated, 0.0)
        inner = mesh.surface == 1
        axes = exam_axes(simulated.rotation[:, 2])
        place = _Place(axes, start[inner])
        rows.append(place.basis(start, inner))
        moved = [place.components(start, mesh.at(simulated, time / times) - start) for time in range(times)]
        values.append(np.stack(moved, axis=1))
    # (basis, times, 3)
    count = rows[0].shape[1]
    design, target = np.concatenate(rows), np.concatenate(values).reshape(-1, times * 3)
    coefficients = np.linalg.lstsq(design, target, rcond=None)[0].reshape(count, times, 3)
    real = _Place(exam_axes(long_axis(heart)), heart.endocardium[0])
    nearest = cKDTree(heart.endocardium[0])

    def track(points: np.ndarray, phase: int) -> np.ndarray:
        at = phase / PHASES * times
        before, share = int(at) % times, at % 1
        now = coefficients[:, before] * (1 - share) + coefficients[:, (before + 1) % times] * share
        inner = nearest.query(points)[0] < 1.0
        return points + real.vectors(points, real.basis(points, inner) @ now)

    return track


class _Place:
    """Heights and angles of points of one heart."""

    def __init__(self, axes: np.ndarray, endocardium: np.ndarray) -> None:
        self.axes = axes
        self.centre = endocardium.mean(axis=0)
        heights = (endocardium - self.centre) @ axes[:, 2]
        self.low, self.high = np.quantile(heights, [0.0, 0.98])

    def _cylinder(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        local = (points - self.centre) @ self.axes
        return (local[:, 2] - self.low) / (self.high - self.low), np.arctan2(local[:, 1], local[:, 0])

    def basis(self, points: np.ndarray, inner: np.ndarray) -> np.ndarray:
        height, angle = self._cylinder(points)
        height = np.clip(height, -0.1, 1.1)
        powers = np.stack([height**n for n in range(4)], axis=1)
        turns = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], axis=1)
        both = np.einsum("np,nq->npq", powers, turns).reshape(len(points), -1)
        return np.concatenate([both * inner[:, None], both * ~inner[:, None]], axis=1)

    def _directions(self, points: np.ndarray) -> np.ndarray:
        """(N, 3, 3) rows radial, circumferential, longitudinal, RAS."""
        _, angle = self._cylinder(points)
        radial = np.cos(angle)[:, None] * self.axes[:, 0] + np.sin(angle)[:, None] * self.axes[:, 1]
        along = np.broadcast_to(self.axes[:, 2], radial.shape)
        return np.stack([radial, np.cross(along, radial), along], axis=1)

    def components(self, points: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        return np.einsum("nab,nb->na", self._directions(points), vectors)

    def vectors(self, points: np.ndarray, components: np.ndarray) -> np.ndarray:
        return np.einsum("nab,na->nb", self._directions(points), components)


def report(heart: RealHeart, scores: Sequence[Score], folder: Path | None = None) -> str:
    """Markdown tables of the scores, by way and by phase; also written as CSV where a folder is given."""
    lines = ["| tracked by | endo mm | epi mm | across mm | along mm | surface mm | EDV mL | ESV mL | EF % |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for one in (true_motion(heart), *scores):
        means = [values[1:].mean() for values in _by_phase(one)]
        volumes = [one.volume_ml[0], one.volume_ml.min(), 100 * one.ejection_fraction]
        lines.append(f"| {one.name} | {' | '.join([f'{v:.2f}' for v in means] + [f'{v:.1f}' for v in volumes])} |")
    lines += ["", f"| LV endocardium, mm | {' | '.join(map(str, heart.phases))} |"]
    lines.append("|---" * (len(heart.phases) + 1) + "|")
    lines += [f"| {one.name} | {' | '.join(f'{v:.2f}' for v in one.endocardium_mm)} |" for one in scores]
    for one in (true_motion(heart), *scores):
        lines.append(f"| {one.name}, volume mL | {' | '.join(f'{v:.0f}' for v in one.volume_ml)} |")
    text = "\n".join(lines) + "\n"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "real_heart.md").write_text(text, encoding="utf-8")
        with (folder / "real_heart.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["tracked_by", "phase", "endo_mm", "epi_mm", "across_mm", "along_mm", "surface_mm", "ml"])
            for one in (true_motion(heart), *scores):
                for number, phase in enumerate(heart.phases):
                    values = [values[number] for values in (*_by_phase(one), one.volume_ml)]
                    table.writerow([one.name, phase, *(f"{value:.3f}" for value in values)])
    return text


def _by_phase(one: Score) -> tuple[np.ndarray, ...]:
    return one.endocardium_mm, one.epicardium_mm, one.across_mm, one.along_mm, one.surface_mm
