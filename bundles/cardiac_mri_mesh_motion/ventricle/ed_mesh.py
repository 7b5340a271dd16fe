"""The mesh at end-diastole: the template moved by the network, fitted to labels, or the user's own."""

from __future__ import annotations

from pathlib import Path

import torch

from cardiac_mri_mesh_motion.ventricle.fit_to_labels import fit_to_labels
from cardiac_mri_mesh_motion.ventricle.lv_mesh import ENDOCARDIUM, EPICARDIUM, RIM, LvMesh
from clinbundles.motion.displacement_field import sample_field
from clinbundles.motion.plane_slicing import planes_from_poses
from clinbundles.rasterizer.closed_mesh_checks import check_closed_mesh, check_extent
from clinbundles.rasterizer.mesh_file import read_mesh
from clinbundles.rasterizer.mesh_topology import weld
from clinbundles.rasterizer.mesh_volume import signed_volume

SOURCES = ("network", "labels", "mesh")
WELD_MM = 1e-3
_FURTHEST_MM = 35.0
_BASE_HEIGHT, _FACES_UP = 0.75, 0.6
_BORDER_SHARE = 0.4  # of its faces that make a vertex of a border one of a wall


def network_mesh(template: LvMesh, field: torch.Tensor) -> LvMesh:
    """The template, moved to the subject's end-diastole by a field (3, I, J, K)."""
    vertices = template.vertices[None]
    moved = vertices + sample_field(field[None].float(), vertices)
    return template.at(moved[0], "network")


def labelled_mesh(start: LvMesh, planes_label: torch.Tensor | None, planes_pose: torch.Tensor) -> LvMesh:
    """The mesh of labels at end-diastole, starting from the network's.

    Args:
        start: the network's mesh.
        planes_label: (P, H, W); None or 255 everywhere: there are none.
        planes_pose: (P, 3, 4).

    Raises:
        ValueError: an exam without labels.
    """
    if planes_label is None or bool((planes_label == 255).all()):
        raise ValueError(
            "ed_mesh is 'labels', but the exam has no label map: put sax_label.nii.gz (0 background, 1 LV cavity, 2 LV "
            "myocardium, 3 RV cavity) beside its images, or set ed_mesh to network"
        )
    return fit_to_labels(start, planes_label, planes_pose)


def user_mesh(
    path: str | Path,
    frame_to_world: torch.Tensor,
    like: LvMesh,
    planes_pose: torch.Tensor,
    size: tuple[int, int],
    space: str | None = None,
) -> LvMesh:
    """A user's mesh of the muscle at end-diastole; duplicated vertices of its rim are welded.

    Its surfaces are told by where its faces look; the right ventricular insertion is that of the network's mesh.

    Args:
        path: .vtp, .vtk, .obj or .ply.
        frame_to_world: (4, 4) exam frame to RAS mm.
        like: the network's mesh of this exam.
        planes_pose: (P, 3, 4) of the scanned planes, of which it must meet one at least.
        size: pixels of the planes.
        space: "RAS" or "LPS" for files that do not say.

    Raises:
        MeshFileError: a file that cannot be read.
        ValueError: a mesh that is not closed, turned inward, of implausible size, or somewhere else than the heart.
    """
    name = Path(path).name
    found = read_mesh(path, space)
    to_frame = torch.linalg.inv(torch.as_tensor(frame_to_world).double())
    places = torch.from_numpy(found.vertices).double() @ to_frame[:3, :3].T + to_frame[:3, 3]
    check_extent(places, name)
    kept, faces = weld(places, torch.from_numpy(found.faces), WELD_MM)
    vertices = places[kept].float()
    planes, present = planes_from_poses(torch.as_tensor(planes_pose).float())
    check_closed_mesh(vertices, faces, planes[present], size, name=name)
    offset = float((vertices.mean(dim=0) - like.vertices.mean(dim=0)).norm())
    if offset > _FURTHEST_MM:
        raise ValueError(
            f"{name}: lies {offset:.0f} mm from the left ventricle in the images: is it of this exam, and of the right "
            "coordinate system (space: RAS or LPS)?"
        )
    surface = surfaces_of(vertices, faces)
    insertion = int((vertices - like.vertices[like.insertion]).norm(dim=1).argmin())
    return LvMesh(vertices, faces, surface, insertion, name)


def surfaces_of(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Which surface each vertex of a closed ventricle belongs to: (V,) 1 endocardium, 0 epicardium, 2 rim.

    Seen from the middle of the ventricle, which lies in the cavity, endocardial faces look towards it and epicardial
    ones away from it; those that look away, and up, near the base are the rim.

    Args:
        vertices: (V, 3) mm of the exam frame (z from apex to base).
        faces: (F, 3), turned outward from the muscle.
    """
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a, dim=1), dim=1)
    centres = (a + b + c) / 3
    away = (normals * (centres - vertices.mean(dim=0))).sum(dim=1)
    low, high = vertices[:, 2].min(), vertices[:, 2].max()
    upper = (centres[:, 2] - low) / (high - low) > _BASE_HEIGHT
    rim = (away > 0) & (normals[:, 2] > _FACES_UP) & upper
    kind = torch.where(rim, RIM, torch.where(away < 0, ENDOCARDIUM, EPICARDIUM))
    votes = torch.zeros(len(vertices), 3)
    for corner in range(3):
        votes.index_add_(0, faces[:, corner], torch.nn.functional.one_hot(kind, 3).float())
    share = votes / votes.sum(dim=1, keepdim=True).clamp(min=1)
    border = torch.where(share[:, ENDOCARDIUM] >= _BORDER_SHARE, ENDOCARDIUM, share.argmax(dim=1))
    return torch.where((border != ENDOCARDIUM) & (share[:, EPICARDIUM] >= _BORDER_SHARE), EPICARDIUM, border)


def refuse_implausible(mesh: LvMesh) -> None:
    """Refuse a mesh that is no ventricle's.

    Raises:
        ValueError: a muscle or cavity volume that no adult heart has.
    """
    muscle = float(signed_volume(mesh.vertices.double(), mesh.faces)) / 1000
    cavity = float(mesh.cavity_ml(mesh.vertices[None])[0])
    if not (20 < muscle < 500 and 20 < cavity < 600):
        raise ValueError(
            f"the mesh at end-diastole ({mesh.source}) has {muscle:.0f} mL of muscle and a cavity of {cavity:.0f} mL: "
            "no left ventricle was found; check the images, or give a mesh or labels of end-diastole"
        )
