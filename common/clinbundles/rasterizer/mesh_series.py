"""A moving surface in files: a VTP per frame and a .pvd collection with their times, for ParaView and 3D Slicer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from clinbundles.data.atomic_file import atomic_path
from clinbundles.rasterizer.mesh_file import MeshFileError, read_mesh, write_mesh
from clinbundles.rasterizer.surface_mesh import SurfaceMesh


def write_mesh_series(
    folder: str | os.PathLike[str],
    name: str,
    vertices: NDArray,
    faces: NDArray,
    times: Sequence[float] | NDArray,
    point_data: Mapping[str, NDArray] | None = None,
    space: str = "LPS",
    about: Mapping[str, str | float] | None = None,
) -> Path:
    """Write ``name_000.vtp`` ... and, last, the collection ``name.pvd``.

    Args:
        folder: where the files go; made when it does not exist.
        name: their stem.
        vertices: (T, V, 3) RAS mm.
        faces: (F, 3), of all frames.
        times: (T,) as ParaView shows them.
        point_data: name -> (T, V) or (T, V, C), or (V,) or (V, C) for values that stay.
        space: "LPS" or "RAS", of the files.
        about: texts and numbers for the field data of every frame.

    Returns:
        the path of the collection.
    """
    frames = len(vertices)
    if len(times) != frames:
        raise ValueError(f"{frames} frames have {len(times)} times")
    place = Path(folder)
    width = max(3, len(str(frames - 1)))
    lines = []
    for frame in range(frames):
        arrays = {}
        for key, values in (point_data or {}).items():
            per_frame = values.ndim >= 2 and values.shape[:2] == (frames, vertices.shape[1])
            arrays[key] = values[frame] if per_frame else values
        file = f"{name}_{frame:0{width}d}.vtp"
        mesh = SurfaceMesh(vertices[frame], faces, arrays)
        write_mesh(place / file, mesh, space, {"TimeValue": float(times[frame]), **(about or {})})
        lines.append(f'<DataSet timestep="{float(times[frame])!r}" group="" part="0" file={quoteattr(file)}/>')
    text = ['<?xml version="1.0"?>', '<VTKFile type="Collection" version="0.1">', "<Collection>", *lines]
    text += ["</Collection>", "</VTKFile>"]
    with atomic_path(place / f"{name}.pvd") as temporary:
        temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
    return place / f"{name}.pvd"


def read_mesh_series(path: str | os.PathLike[str], space: str | None = None) -> tuple[list[SurfaceMesh], NDArray]:
    """The surfaces (RAS mm) and times (T,) of a .pvd collection, in the order of time."""
    file = Path(path)
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise MeshFileError(f"{file}: cannot be read as a collection of surfaces ({error})") from None
    entries = sorted((float(one.get("timestep") or 0), str(one.get("file"))) for one in root.iter("DataSet"))
    if not entries:
        raise MeshFileError(f"{file.name}: lists no surfaces")
    return [read_mesh(file.parent / name, space) for _, name in entries], np.array([time for time, _ in entries])
