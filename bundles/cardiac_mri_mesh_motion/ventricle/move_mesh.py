"""Every vertex followed over the whole cycle."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from cardiac_mri_mesh_motion.ventricle.ed_mesh import (
    SOURCES,
    labelled_mesh,
    network_mesh,
    refuse_implausible,
    user_mesh,
)
from cardiac_mri_mesh_motion.ventricle.lv_mesh import LvMesh
from cardiac_mri_mesh_motion.ventricle.template import read_template
from clinbundles.motion.displacement_field import at_rest_at_ed, sample_field
from clinbundles.motion.kinematic_model import KinematicModel
from clinbundles.motion.kinematic_refinement import Motion, Refinement, refine_motion
from clinbundles.rasterizer.long_axis import LongAxis, long_axis_of
from clinbundles.rasterizer.mesh_file import read_mesh
from clinbundles.rasterizer.surface_mesh import SurfaceMesh

MESH_KEY, VERTICES_KEY, TRACKED_KEY, MOTION_KEY = "lv_mesh", "lv_vertices", "tracked", "motion"


def field_motion(fields: torch.Tensor) -> Motion:
    """The motion of fields (T, 3, I, J, K) on the domain "ed"; end-diastole stays at rest."""

    def move(points: torch.Tensor) -> torch.Tensor:
        return at_rest_at_ed(sample_field(fields, points[None].expand(len(fields), -1, -1)))

    return move


def axis_of(mesh: LvMesh) -> LongAxis:
    """The long axis of a mesh at end-diastole."""
    vertices = mesh.vertices.double().numpy()
    return long_axis_of(vertices, mesh.endo_faces.numpy(), vertices[mesh.insertion])


def wall_between(mesh: LvMesh) -> torch.Tensor:
    """(N, 3) points of the wall: between each endocardial vertex and the epicardial one that is nearest."""
    inner, outer = (mesh.vertices[mesh.surface == side] for side in (1, 0))
    nearest = torch.cdist(inner, outer).argmin(dim=1)
    return torch.cat([inner + share * (outer[nearest] - inner) for share in (0.25, 0.75)])


class MoveMeshd(MapTransform):
    """Make the mesh at end-diastole and move it.

    ``pred`` (T, 6, I, J, K) becomes the motion fields (T, 3, I, J, K), a MetaTensor in mm on the domain "ed". Added:
    ``lv_mesh`` (:class:`LvMesh` at end-diastole), ``lv_vertices`` (T, V, 3) mm of the exam frame,
    ``motion`` (a function: points at end-diastole to their displacements at all frames), and ``tracked``: name ->
    (vertices (T, N, 3), faces) of the files in ``track``.

    Args:
        keys: the prediction.
        ed_mesh: "network": the template moved by stage 1; "labels": the template fitted to the exam's labels at
            end-diastole; "mesh": the file ``mesh_file``.
        mesh_file: the user's mesh of the muscle at end-diastole.
        space: "RAS" or "LPS" for mesh files that do not declare it.
        track: further surfaces at end-diastole, to be carried along.
        refinement: test-time refinement by the exam's own pictures; None: none.
        template: file of the template; None: the bundle's own.
        check: whether a mesh that is no ventricle's is refused.
    """

    def __init__(
        self,
        keys: str = "pred",
        ed_mesh: str = "network",
        mesh_file: str | None = None,
        space: str | None = None,
        track: Sequence[str] = (),
        refinement: Refinement | None = None,
        template: str | None = None,
        check: bool = True,
    ) -> None:
        super().__init__(keys)
        if ed_mesh not in SOURCES:
            raise ValueError(f"ed_mesh is '{ed_mesh}', expected one of {', '.join(SOURCES)}")
        if (ed_mesh == "mesh") != (mesh_file is not None):
            raise ValueError("ed_mesh 'mesh' and mesh_file belong together: set both or none")
        self.ed_mesh = ed_mesh
        self.mesh_file = mesh_file
        self.space = space
        self.track = [track] if isinstance(track, str) else list(track)
        self.refinement = refinement
        self.template = read_template(template)
        self.check = check

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Move the mesh of one exam."""
        sample = dict(data)
        key = self.keys[0]
        prediction = torch.as_tensor(sample[key]).as_subclass(torch.Tensor).detach().cpu().float()
        mesh = self._mesh_at_ed(sample, prediction[0, 3:])
        motion = self._motion(sample, prediction[:, :3], mesh)
        sample[MESH_KEY] = mesh
        sample[VERTICES_KEY] = mesh.vertices + motion(mesh.vertices)
        sample[MOTION_KEY] = motion
        sample[TRACKED_KEY] = self._tracked(sample, motion)
        image = sample["image"]
        fields = prediction[:, :3]
        sample[key] = MetaTensor(fields, meta=dict(image.meta)) if isinstance(image, MetaTensor) else fields
        return sample

    def _mesh_at_ed(self, sample: Mapping[Hashable, Any], field: torch.Tensor) -> LvMesh:
        mesh = network_mesh(self.template, field)
        pose = _plain(sample["planes_pose"])
        if self.ed_mesh == "labels":
            label = sample.get("planes_label")
            mesh = labelled_mesh(mesh, None if label is None else _plain(label)[0], pose)
        elif self.mesh_file is not None:
            size = tuple(sample["planes"].shape[2:])
            mesh = user_mesh(self.mesh_file, _plain(sample["frame_to_world"]), mesh, pose, size, self.space)
        if self.check:
            refuse_implausible(mesh)
        return mesh

    def _motion(self, sample: Mapping[Hashable, Any], fields: torch.Tensor, mesh: LvMesh) -> Motion:
        motion = field_motion(fields)
        if self.refinement is None or self.refinement.steps == 0:
            return motion
        axis = axis_of(mesh)
        apex, base = (torch.from_numpy(place).float() for place in (axis.apex, axis.base))
        model = KinematicModel(apex, base, mesh.vertices[mesh.surface == 1])
        with torch.enable_grad():
            return refine_motion(
                motion,
                model,
                wall_between(mesh),
                _plain(sample["image"]),
                _plain(sample["planes"]),
                _plain(sample["planes_pose"]),
                int(sample["lax"].shape[1]),
                self.refinement,
            )

    def _tracked(self, sample: Mapping[Hashable, Any], motion: Motion) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        to_world = _plain(sample["frame_to_world"]).double()
        for file in self.track:
            surface: SurfaceMesh = read_mesh(file, self.space)
            name, number = Path(file).stem, 1
            while name in found:
                number += 1
                name = f"{Path(file).stem}_{number}"
            to_frame = torch.linalg.inv(to_world)
            places = torch.from_numpy(surface.vertices).double() @ to_frame[:3, :3].T + to_frame[:3, 3]
            places = places.float()
            found[name] = places + motion(places), torch.from_numpy(surface.faces)
        return found


def _plain(value: Any) -> torch.Tensor:
    tensor = torch.as_tensor(value).as_subclass(torch.Tensor).detach().cpu()
    return tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor
