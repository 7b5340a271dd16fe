"""Files of surfaces: VTP, legacy VTK, OBJ and PLY, with their coordinate system declared.

3D Slicer writes and expects LPS unless a file says otherwise (``SPACE=RAS`` or ``SPACE=LPS`` in the comment of legacy
VTK, OBJ and PLY files, a field ``SPACE`` in VTP files); other programs say nothing. A file that says nothing is read
only when ``space`` is given: nothing is guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import itk
import numpy as np
import trimesh
from numpy.typing import NDArray

from clinbundles.data.atomic_file import atomic_path
from clinbundles.rasterizer.surface_mesh import SurfaceMesh
from clinbundles.rasterizer.vtp_file import read_vtp, write_vtp

SPACES = ("RAS", "LPS")
ENDINGS = (".vtp", ".vtk", ".obj", ".ply")
_HEAD_BYTES = 2048
_FLIP = np.array([-1.0, -1.0, 1.0])
_NO_FIELDS: Mapping[str, str | float] = MappingProxyType({})


class MeshFileError(ValueError):
    """A mesh file that cannot be used; says in which file, what was found and what to do."""


def read_mesh(path: str | os.PathLike[str], space: str | None = None) -> SurfaceMesh:
    """Read a surface of triangles; RAS mm.

    Args:
        path: .vtp, .vtk (legacy PolyData), .obj or .ply.
        space: "RAS" or "LPS": the coordinate system of files that do not declare it. A file that declares another one
            is refused.

    Raises:
        MeshFileError: no such file, unknown ending, no triangles, not finite, or a coordinate system that is not
            declared or declared differently.
    """
    file = Path(path).expanduser()
    if space is not None and space not in SPACES:
        raise ValueError(f"space is '{space}', expected RAS or LPS")
    if not file.is_file():
        raise MeshFileError(f"{file}: there is no such mesh file")
    ending = file.suffix.lower()
    if ending not in ENDINGS:
        raise MeshFileError(f"{file.name}: ends in '{ending}'; meshes are read from {', '.join(ENDINGS)}")
    try:
        vertices, faces, point_data, cell_data, declared = _READERS[ending](file)
    except MeshFileError:
        raise
    except ValueError as error:
        raise MeshFileError(str(error)) from None
    except Exception as error:  # whatever a library says of a broken file
        raise MeshFileError(
            f"{file.name}: cannot be read as a mesh ({str(error).strip() or type(error).__name__})"
        ) from error
    if len(faces) == 0:
        raise MeshFileError(f"{file.name}: has no triangles")
    if not np.isfinite(vertices).all():
        raise MeshFileError(f"{file.name}: {int((~np.isfinite(vertices)).any(1).sum())} vertices are not finite")
    if declared is None and space is None:
        raise MeshFileError(
            f"{file.name}: does not say whether it is in LPS or RAS coordinates: give space (3D Slicer and ITK write "
            "LPS, NIfTI tools RAS)"
        )
    if declared is not None and space is not None and declared != space:
        raise MeshFileError(f"{file.name}: declares {declared} coordinates, but space is {space}: leave space out")
    if (declared or space) == "LPS":
        vertices = vertices * _FLIP
        point_data = {name: _flipped(name, values) for name, values in point_data.items()}
    return SurfaceMesh(vertices, faces.astype(np.int64), point_data, cell_data)


def write_mesh(
    path: str | os.PathLike[str],
    mesh: SurfaceMesh,
    space: str = "LPS",
    about: Mapping[str, str | float] = _NO_FIELDS,
) -> None:
    """Write a surface, whole or not at all; the coordinate system is declared in the file.

    Args:
        path: .vtp keeps all arrays; .vtk, .obj and .ply keep the surface alone.
        mesh: RAS mm.
        space: coordinates in the file; "LPS" opens rightly in 3D Slicer, which also reads the declaration.
        about: further texts and numbers for the field data of .vtp.
    """
    file = Path(path).expanduser()
    if space not in SPACES:
        raise ValueError(f"space is '{space}', expected RAS or LPS")
    if file.suffix.lower() not in ENDINGS:
        raise ValueError(f"{file.name}: ends in '{file.suffix}'; meshes are written to {', '.join(ENDINGS)}")
    points = np.asarray(mesh.vertices, np.float64)
    point_data = dict(mesh.point_data)
    if space == "LPS":
        points = points * _FLIP
        point_data = {name: _flipped(name, np.asarray(values)) for name, values in point_data.items()}
    with atomic_path(file) as temporary:
        ending = file.suffix.lower()
        if ending == ".vtp":
            write_vtp(temporary, points, mesh.faces, point_data, mesh.cell_data, {"SPACE": space, **about})
        elif ending == ".vtk":
            _write_legacy(temporary, points, mesh.faces, space)
        else:
            _write_by_trimesh(temporary, points, mesh.faces, space)


def _flipped(name: str, values: NDArray) -> NDArray:
    """Vectors turn with the axes: displacements, velocities, normals. Other triples are numbers."""
    is_vector = values.ndim == 2 and values.shape[1] == 3 and re.search("displacement|velocity|normal", name.lower())
    return (values * _FLIP).astype(values.dtype) if is_vector else values


Read = tuple[NDArray, NDArray, dict[str, NDArray], dict[str, NDArray], str | None]


def _read_vtp(file: Path) -> Read:
    content = read_vtp(file)
    declared = content.field_data.get("SPACE")
    if declared is not None and declared not in SPACES:
        raise MeshFileError(f"{file.name}: declares the coordinate system '{declared}', expected RAS or LPS")
    return content.points, content.faces, content.point_data, content.cell_data, str(declared) if declared else None


def _declared_in_head(file: Path) -> str | None:
    """SPACE=RAS or SPACE=LPS in the head of a file, as 3D Slicer writes it."""
    with file.open("rb") as stream:
        found = re.search(rb"SPACE\s*=\s*(RAS|LPS)", stream.read(_HEAD_BYTES))
    return found[1].decode() if found else None


def _read_legacy(file: Path) -> Read:
    mesh: Any = itk.dict_from_mesh(itk.meshread(str(file)))
    points = np.asarray(mesh["points"], np.float64).reshape(-1, 3)
    return points, _triangles(file, np.asarray(mesh["cells"])), {}, {}, _declared_in_head(file)


def _triangles(file: Path, cells: NDArray) -> NDArray:
    """(F, 3) of ITK's cells: kind, number of corners, corners, and so on."""
    if len(cells) % 5 == 0 and (cells.reshape(-1, 5)[:, 1] == 3).all():
        return cells.reshape(-1, 5)[:, 2:]
    raise MeshFileError(f"{file.name}: has cells that are not triangles: triangulate it first")


def _read_by_trimesh(file: Path) -> Read:
    found: Any = trimesh.load(file, process=False, force="mesh", maintain_order=True)
    if not isinstance(found, trimesh.Trimesh):
        raise MeshFileError(f"{file.name}: has no triangles")
    return np.asarray(found.vertices, np.float64), np.asarray(found.faces), {}, {}, _declared_in_head(file)


def _write_legacy(path: Path, points: NDArray, faces: NDArray, space: str) -> None:
    lines = ["# vtk DataFile Version 4.2", f"clinbundles SPACE={space}", "ASCII", "DATASET POLYDATA"]
    lines += [f"POINTS {len(points)} float", *(f"{x:.6g} {y:.6g} {z:.6g}" for x, y, z in points)]
    lines += [f"POLYGONS {len(faces)} {4 * len(faces)}", *(f"3 {a} {b} {c}" for a, b, c in faces)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _write_by_trimesh(path: Path, points: NDArray, faces: NDArray, space: str) -> None:
    surface = trimesh.Trimesh(points, faces, process=False)
    if path.suffix.lower() == ".obj":
        text = trimesh.exchange.obj.export_obj(surface, header=f"SPACE={space}", include_normals=False)
        path.write_text(text, encoding="utf-8")
        return
    head, _, body = trimesh.exchange.ply.export_ply(surface, encoding="binary").partition(b"\n")
    form, _, body = body.partition(b"\n")
    path.write_bytes(b"\n".join([head, form, f"comment SPACE={space}".encode(), body]))


_READERS = {".vtp": _read_vtp, ".vtk": _read_legacy, ".obj": _read_by_trimesh, ".ply": _read_by_trimesh}
