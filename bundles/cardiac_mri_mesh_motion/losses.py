"""The training loss: the mesh, cut by the scanned planes, against their labels; images; what is known of muscle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from cardiac_mri_mesh_motion.ventricle.lv_mesh import ENDOCARDIUM, EPICARDIUM
from cardiac_mri_mesh_motion.ventricle.template import read_template
from clinbundles.motion.displacement_field import sample_field, warp
from clinbundles.motion.field_losses import diffusion_energy, incompressibility_at
from clinbundles.motion.motion_grid import GRID_SPACING_MM
from clinbundles.motion.plane_slicing import planes_from_poses
from clinbundles.rasterizer.mesh_regularity import mesh_laplacian_smoothing
from clinbundles.rasterizer.mesh_volume import signed_volume
from clinbundles.rasterizer.nearest_points import nearest_by_tree
from clinbundles.rasterizer.plane_coverage import plane_coverage
from clinbundles.rasterizer.triangle_mesh import TriangleMesh

MYOCARDIUM, UNKNOWN = 2, 255


def coverage_loss(
    vertices: torch.Tensor, faces: torch.Tensor, labels: torch.Tensor, poses: torch.Tensor
) -> torch.Tensor:
    """Where the mesh's section and the labelled myocardium differ: sum (c - l)^2 / sum (c^2 + l^2), 0 to 1.

    Soft Dice with squares: 1 - 2 sum c l / sum (c^2 + l^2). The section c is the exact area coverage of the pixels.

    Args:
        vertices: (B, V, 3) mm of the exam frame.
        faces: (F, 3).
        labels: (B, P, H, W); 255 where unknown.
        poses: (B, P, 3, 4) of the planes, zeros for none.
    """
    planes, present = planes_from_poses(poses)
    # a plane that is not there is put far away, where no mesh is
    nowhere = torch.eye(4, dtype=planes.dtype, device=planes.device)[:3].clone()
    nowhere[2, 3] = 1e4
    planes = torch.where(present[..., None, None], planes, nowhere)
    coverage = plane_coverage(vertices, faces, planes, (labels.shape[-2], labels.shape[-1]))
    known = ((labels != UNKNOWN) & present[..., None, None]).to(vertices.dtype)
    wanted = (labels == MYOCARDIUM).to(vertices.dtype) * known
    found = coverage * known
    return ((found - wanted).square().sum() / (found.square() + wanted.square()).sum().clamp(min=1.0)).clamp(max=1.0)


class MeshMotionLoss(torch.nn.Module):
    """Loss of both fields (B, 6, I, J, K) against one pair of frames.

    Motion, each term with its weight (0 leaves it out):

    - ``coverage``: the moved mesh in all planes against the labels at t (:func:`coverage_loss`);
    - ``image``: MSE of I_t(x + Phi) and I_ED;
    - ``laplacian``: uniform Laplacian of the displacement on the mesh, mm (``laplacian_of: mesh`` is the paper's:
      of the moved mesh, which also shrinks it);
    - ``diffusion``: squared gradient of the motion field;
    - ``incompressibility``: (det(I + grad Phi) - 1)^2 in the middle of the wall;
    - ``volume``: squared relative change of the muscle's volume;
    - ``truth``: distance in mm to the exact displacement of points of the wall, where it is known.

    Template: ``template_coverage`` at end-diastole; ``template_surface``, mean distance in mm of each of its surfaces
    to that of the mesh at end-diastole and back (paper: squared, both surfaces together); ``template_vertices``, mean
    distance of its vertices to their own, which turns the template about the long axis; ``template_laplacian`` and
    ``template_diffusion``.

    Args:
        template: file of the template; None: the bundle's own.
        spacing_mm: of the motion grid.
        laplacian_of: "displacement" or "mesh".
    """

    def __init__(
        self,
        coverage: float = 1.0,
        image: float = 5.0,
        laplacian: float = 0.02,
        diffusion: float = 0.1,
        incompressibility: float = 0.1,
        volume: float = 0.0,
        truth: float = 0.2,
        template_coverage: float = 1.0,
        template_surface: float = 0.3,
        template_vertices: float = 0.02,
        template_laplacian: float = 0.02,
        template_diffusion: float = 0.1,
        laplacian_of: str = "displacement",
        template: str | None = None,
        spacing_mm: Sequence[float] = GRID_SPACING_MM,
    ) -> None:
        super().__init__()
        if laplacian_of not in ("displacement", "mesh"):
            raise ValueError(f"laplacian_of is '{laplacian_of}', expected displacement or mesh")
        self.weights = {
            "coverage": coverage,
            "image": image,
            "laplacian": laplacian,
            "diffusion": diffusion,
            "incompressibility": incompressibility,
            "volume": volume,
            "truth": truth,
            "template_coverage": template_coverage,
            "template_surface": template_surface,
            "template_vertices": template_vertices,
            "template_laplacian": template_laplacian,
            "template_diffusion": template_diffusion,
        }
        self.laplacian_of = laplacian_of
        self.spacing_mm = tuple(float(step) for step in spacing_mm)
        mesh = read_template(template)
        self.register_buffer("vertices", mesh.vertices, persistent=False)
        self.register_buffer("faces", mesh.faces, persistent=False)
        self.register_buffer("surface", mesh.surface, persistent=False)

    def terms(self, fields: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The terms with a weight, unweighted.

        Args:
            fields: (B, 6, I, J, K).
            targets: ``image`` (B, 2, I, J, K), ``planes_label`` (B, 2, M, H, W), ``planes_pose`` (B, M, 3, 4),
                ``ed_vertices`` (B, V, 3) the mesh at end-diastole, ``wall_points`` (B, N, 3) and
                ``wall_displacements`` (B, N, 3) at t (NaN where unknown).
        """
        terms = self._motion(fields[:, :3], targets) | self._template(fields[:, 3:], targets)
        return {name: value for name, value in terms.items() if self.weights[name]}

    def forward(self, fields: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The weighted sum of the terms."""
        total = fields.new_zeros(())
        for name, value in self.terms(fields, targets).items():
            total = total + self.weights[name] * value
        return total

    def _motion(self, field: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        image, start = targets["image"], targets["ed_vertices"]
        displacement = sample_field(field, start, self.spacing_mm)
        moved = start + displacement
        terms = {}
        if self.weights["coverage"]:
            labels = targets["planes_label"][:, 1]
            terms["coverage"] = coverage_loss(moved, self.faces, labels, targets["planes_pose"])
        if self.weights["image"]:
            terms["image"] = (warp(image[:, 1:], field, self.spacing_mm) - image[:, :1]).square().mean()
        if self.weights["laplacian"]:
            smooth = displacement if self.laplacian_of == "displacement" else moved
            terms["laplacian"] = mesh_laplacian_smoothing(TriangleMesh(smooth, self.faces))
        if self.weights["diffusion"]:
            terms["diffusion"] = diffusion_energy(field, self.spacing_mm)
        if self.weights["incompressibility"]:
            terms["incompressibility"] = incompressibility_at(field, mid_wall(start), self.spacing_mm)
        if self.weights["volume"]:
            before, after = signed_volume(start, self.faces), signed_volume(moved, self.faces)
            terms["volume"] = (after / before.clamp(min=1.0) - 1).square().mean()
        if self.weights["truth"]:
            found = sample_field(field, targets["wall_points"], self.spacing_mm)
            true = targets["wall_displacements"]
            known = torch.isfinite(true).all(dim=-1)
            error = (found - torch.where(known[..., None], true, found.detach())).square().sum(-1)
            terms["truth"] = ((error + 1e-4).sqrt() * known).sum() / known.sum().clamp(min=1)
        return terms

    def _template(self, field: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        start = self.vertices.expand(len(field), -1, -1)
        displacement = sample_field(field, start, self.spacing_mm)
        vertices = start + displacement
        terms = {}
        if self.weights["template_coverage"]:
            labels = targets["planes_label"][:, 0]
            terms["template_coverage"] = coverage_loss(vertices, self.faces, labels, targets["planes_pose"])
        if self.weights["template_surface"]:
            terms["template_surface"] = surface_distance(vertices, targets["ed_vertices"], self.surface)
        if self.weights["template_vertices"]:
            error = (vertices - targets["ed_vertices"]).square().sum(-1)
            terms["template_vertices"] = (error + 1e-4).sqrt().mean()
        if self.weights["template_laplacian"]:
            terms["template_laplacian"] = mesh_laplacian_smoothing(TriangleMesh(displacement, self.faces))
        if self.weights["template_diffusion"]:
            terms["template_diffusion"] = diffusion_energy(field, self.spacing_mm)
        return terms


def surface_distance(first: torch.Tensor, second: torch.Tensor, surface: torch.Tensor) -> torch.Tensor:
    """Mean distance in mm of the vertices of each surface to the nearest ones of the other mesh's, both ways.

    Args:
        first, second: (B, V, 3).
        surface: (V,) of both; endocardium and epicardium are compared apart, as they lie near each other.
    """
    parts = []
    for side in (ENDOCARDIUM, EPICARDIUM):
        ours, theirs = first[:, surface == side], second[:, surface == side]
        for points, others in ((ours, theirs), (theirs, ours)):
            nearest = torch.stack([nearest_by_tree(a, b) for a, b in zip(points, others, strict=True)])
            gap = points - others.gather(1, nearest[..., None].expand(-1, -1, 3))
            parts.append((gap.square().sum(-1) + 1e-2).sqrt().mean())
    return torch.stack(parts).mean()


def mid_wall(vertices: torch.Tensor) -> torch.Tensor:
    """Points (B, N, 3) halfway between endocardium and epicardium of meshes with the bundle's topology.

    Their vertices are the epicardium, the endocardium in the same order, then the rim.
    """
    count = (vertices.shape[1] - _RIM) // 2
    return 0.5 * (vertices[:, :count] + vertices[:, count : 2 * count])


_RIM = 48
