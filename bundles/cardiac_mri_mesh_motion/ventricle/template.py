"""The template: the mesh of the mean simulated heart, made by us, and its file.

python -m cardiac_mri_mesh_motion.ventricle.template FILE.vtp    # makes the file anew
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from cardiac_mri_mesh_motion.ventricle.lv_mesh import EPICARDIUM, LvMesh
from clinbundles.phantoms.heart import mean_heart
from clinbundles.phantoms.heart.heart_mesh import heart_mesh
from clinbundles.rasterizer.mesh_file import MeshFileError, read_mesh, write_mesh
from clinbundles.rasterizer.surface_mesh import SurfaceMesh

ROWS, COLUMNS, SEED = 20, 48, 1
"""As the meshes of simulated exams (truth.npz): the same faces; rows and columns jittered."""
BASE_HEIGHT_MM = 44.0
"""Of the template's base above the centre of the exam frame, as in the mean of simulated exams."""


def make_template() -> LvMesh:
    """The mean heart at end-diastole in the exam frame: x lateral, y inferior, z to the base."""
    heart = mean_heart()
    mesh = heart_mesh(heart, ROWS, COLUMNS, SEED)
    world = heart.to_spatial(mesh.material, 0.0)
    vertices = (world - heart.base) @ heart.rotation + [0.0, 0.0, BASE_HEIGHT_MM]
    insertion = (heart.landmark("rv_insertion_anterior") - heart.base) @ heart.rotation + [0.0, 0.0, BASE_HEIGHT_MM]
    epicardium = np.flatnonzero(mesh.surface == EPICARDIUM)
    nearest = epicardium[np.linalg.norm(vertices[epicardium] - insertion, axis=1).argmin()]
    return LvMesh(
        torch.from_numpy(vertices).float(),
        torch.from_numpy(mesh.faces.astype(np.int64)),
        torch.from_numpy(mesh.surface.astype(np.int64)),
        int(nearest),
        "template",
    )


def write_template(path: str | Path, template: LvMesh) -> None:
    """Write a template; its coordinates are those of the exam frame, in the file called RAS."""
    mark = np.zeros(len(template.vertices), np.uint8)
    mark[template.insertion] = 1
    data = {"surface": template.surface.numpy().astype(np.uint8), "rv_insertion": mark}
    mesh = SurfaceMesh(template.vertices.numpy(), template.faces.numpy(), data)
    write_mesh(path, mesh, "RAS", {"frame": "exam frame: x septum to lateral, y to inferior, z apex to base"})


def read_template(path: str | Path | None = None) -> LvMesh:
    """A template file with the vertex arrays ``surface`` and ``rv_insertion``; None: the bundle's own.

    Raises:
        MeshFileError: a file without these arrays.
    """
    if path is None:
        return _own_template()
    mesh = read_mesh(path)
    missing = [name for name in ("surface", "rv_insertion") if name not in mesh.point_data]
    if missing or not np.any(mesh.point_data["rv_insertion"]):
        raise MeshFileError(
            f"{Path(path).name}: lacks the vertex array {' and '.join(missing) or 'rv_insertion (1 at one vertex)'}: a "
            "template says of each vertex surface (1 endocardium, 0 epicardium, 2 rim) and marks rv_insertion"
        )
    return LvMesh(
        torch.from_numpy(np.asarray(mesh.vertices, np.float32)),
        torch.from_numpy(np.asarray(mesh.faces, np.int64)),
        torch.from_numpy(mesh.point_data["surface"].astype(np.int64)),
        int(np.argmax(mesh.point_data["rv_insertion"])),
        "template",
    )


@cache
def _own_template() -> LvMesh:
    return read_template(Path(str(resources.files(__package__))) / "lv_template.vtp")


if __name__ == "__main__":
    write_template(sys.argv[1], make_template())
