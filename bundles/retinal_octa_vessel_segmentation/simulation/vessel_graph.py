"""The vessel graph: a forest of straight vessel segments with radii, and its CSV and GraphML files."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd

COLUMNS = ("x0", "y0", "z0", "x1", "y1", "z1", "radius", "parent", "artery", "stage")


@dataclass(frozen=True)
class VesselGraph:
    """Straight vessel segments (edges) of rooted arterial and venous trees.

    Lengths are in units of the field of view: x and y lie in [0, 1], and one unit is ``field_mm`` millimetres.
    x runs along image rows (downwards), y along columns.

    Args:
        start: (E, 3) end of each segment that is nearer to the root.
        end: (E, 3) end of each segment that is farther from the root.
        radius: (E,) radius in units of the field; ``radius * field_mm`` is in mm.
        parent: (E,) index of the segment upstream, -1 at a root; always smaller than the segment's own index.
        artery: (E,) true for arterial, false for venous segments.
        stage: (E,) index of the growth stage (0 = superficial, 1 = deep complex).
        field_mm: side of the square field of view in mm.
    """

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    parent: np.ndarray
    artery: np.ndarray
    stage: np.ndarray
    field_mm: float

    def __len__(self) -> int:
        return len(self.radius)

    @property
    def radius_mm(self) -> np.ndarray:
        """(E,) radius in mm."""
        return self.radius * self.field_mm

    @property
    def length_mm(self) -> np.ndarray:
        """(E,) length of each segment in mm."""
        return np.linalg.norm(self.end - self.start, axis=1) * self.field_mm

    def select(self, keep: np.ndarray) -> VesselGraph:
        """Only the segments where ``keep`` (E,) is true; a segment that lost its parent becomes a root."""
        keep = np.asarray(keep, dtype=bool)
        new_index = np.cumsum(keep) - 1
        parent = self.parent[keep]
        has_parent = (parent >= 0) & keep[parent]
        return VesselGraph(
            start=self.start[keep],
            end=self.end[keep],
            radius=self.radius[keep],
            parent=np.where(has_parent, new_index[parent], -1),
            artery=self.artery[keep],
            stage=self.stage[keep],
            field_mm=self.field_mm,
        )

    def downstream_of(self, seeds: np.ndarray) -> np.ndarray:
        """(E,) true for the segments in ``seeds`` (E, bool) and for everything that they feed."""
        reached = np.asarray(seeds, dtype=bool).copy()
        parent = self.parent
        for edge in np.flatnonzero(parent >= 0):  # parents come before their children
            if reached[parent[edge]]:
                reached[edge] = True
        return reached

    def write_csv(self, path: str | Path) -> None:
        """Write one row per segment; the first line, a comment, states units and ``field_mm``."""
        table = pd.DataFrame(np.hstack([self.start, self.end, self.radius[:, None]]), columns=COLUMNS[:7])
        table["parent"] = self.parent
        table["artery"] = self.artery.astype(int)
        table["stage"] = self.stage
        with open(path, "w", newline="\n", encoding="utf-8") as file:
            file.write(f"# vessel segments; lengths in units of the field of view; field_mm={self.field_mm!r}\n")
            table.to_csv(file, index=False, float_format="%.9g", lineterminator="\n")

    @classmethod
    def read_csv(cls, path: str | Path) -> VesselGraph:
        """Read a graph written by :meth:`write_csv`.

        Raises:
            ValueError: missing columns or field size, coordinates outside [-0.1, 1.1], radius not positive, or a
                parent that does not come before its child.
        """
        with open(path, encoding="utf-8") as file:
            head = file.readline()
            if "field_mm=" not in head:
                raise ValueError(
                    f"{path}: the first line must be a comment that states field_mm=<mm>, found {head.strip()!r}"
                )
            field_mm = float(head.split("field_mm=")[1])
            table = pd.read_csv(file)
        missing = [name for name in COLUMNS if name not in table.columns]
        if missing:
            raise ValueError(f"{path}: columns {missing} are missing; expected {list(COLUMNS)}")
        values = table.to_numpy(dtype=np.float64)
        graph = cls(
            start=np.ascontiguousarray(values[:, 0:3]),
            end=np.ascontiguousarray(values[:, 3:6]),
            radius=np.ascontiguousarray(values[:, 6]),
            parent=np.nan_to_num(values[:, 7], nan=-2).astype(np.int64),
            artery=values[:, 8] > 0,
            stage=np.nan_to_num(values[:, 9], nan=0).astype(np.int64),
            field_mm=field_mm,
        )
        graph.check(str(path))
        return graph

    def check(self, name: str = "vessel graph") -> None:
        """Raise ValueError if the graph breaks an invariant; ``name`` opens the message."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "field_mm" and len(value) != len(self.radius):
                raise ValueError(f"{name}: {field.name} has {len(value)} rows, radius has {len(self.radius)}")
        bad = np.flatnonzero(~(np.isfinite(self.radius) & (self.radius > 0)))
        if len(bad):
            raise ValueError(
                f"{name}: segment {bad[0]} has radius {self.radius[bad[0]]}; every radius must be a number above 0"
            )
        lateral = np.stack([self.start[:, :2], self.end[:, :2]], axis=1)
        inside = (np.isfinite(lateral) & (lateral >= -0.1) & (lateral <= 1.1)).all(axis=(1, 2))
        bad = np.flatnonzero(~inside)
        if len(bad):
            raise ValueError(
                f"{name}: segment {bad[0]} has coordinates {lateral[bad[0]].tolist()} outside [-0.1, 1.1]; x and y are "
                "in units of the field of view: divide millimetres by field_mm"
            )
        bad = np.flatnonzero((self.parent < -1) | (self.parent >= np.arange(len(self))))
        if len(bad):
            raise ValueError(
                f"{name}: segment {bad[0]} names parent {self.parent[bad[0]]}; "
                "a parent must be -1 (root) or an earlier row"
            )

    def write_graphml(self, path: str | Path) -> None:
        """Write the graph for network tools: nodes carry x, y, z in mm; edges radius_um, length_mm, vessel, stage."""
        graph = nx.DiGraph(field_mm=float(self.field_mm), units="mm")
        start, end, length = self.start * self.field_mm, self.end * self.field_mm, self.length_mm
        for edge in range(len(self)):
            parent = int(self.parent[edge])
            source = f"n{parent}" if parent >= 0 else f"root{edge}"
            if parent < 0:
                graph.add_node(source, **_position(start[edge]))
            graph.add_node(f"n{edge}", **_position(end[edge]))
            graph.add_edge(
                source,
                f"n{edge}",
                radius_um=float(self.radius[edge] * self.field_mm * 1e3),
                length_mm=float(length[edge]),
                vessel="artery" if self.artery[edge] else "vein",
                stage=int(self.stage[edge]),
            )
        nx.write_graphml(graph, path)


def _position(point: np.ndarray) -> dict[str, float]:
    return {"x": float(point[0]), "y": float(point[1]), "z": float(point[2])}
