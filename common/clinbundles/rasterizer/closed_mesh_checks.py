"""Is this mesh one that can be drawn and measured? Each check says what it found and what to do."""

from __future__ import annotations

import torch

from clinbundles.rasterizer.mesh_topology import MeshTopology, weld
from clinbundles.rasterizer.mesh_volume import signed_volume
from clinbundles.rasterizer.plane_coverage import plane_coverage


def check_closed_mesh(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    planes: torch.Tensor | None = None,
    size: tuple[int, int] | None = None,
    extent_mm: tuple[float, float] = (50.0, 200.0),
    weld_mm: float = 1e-4,
    name: str = "the mesh",
) -> None:
    """Refuse a mesh that is not a closed surface of plausible size with outward faces.

    Args:
        vertices: [V, 3] in mm.
        faces: [F, 3].
        planes: [P, 3 or 4, 4] image planes, of which one at least must meet the mesh; `size` (I, J) goes with them.
        size: see planes.
        extent_mm: smallest and largest plausible length of the longest side of the bounding box.
        weld_mm: vertices nearer than this are the same.
        name: begins the message: a file name, or whose mesh it is.

    Raises:
        ValueError: with the number of vertices, faces or edges at fault, or the volume or size found.
    """
    vertices = vertices.detach()
    planes = None if planes is None else planes.detach()
    check_finite(vertices, name)
    check_faces(vertices, faces, name, weld_mm)
    check_extent(vertices, name, extent_mm)
    check_watertight(vertices, faces, name, weld_mm)
    check_outward(vertices, faces, name)
    if planes is not None:
        if size is None:
            raise ValueError("planes need the size (I, J) of their images")
        check_in_view(vertices, faces, planes, size, name)


def check_finite(vertices: torch.Tensor, name: str = "the mesh") -> None:
    """Refuse vertices that are NaN or infinite."""
    broken = (~torch.isfinite(vertices)).any(-1).nonzero()
    if len(broken):
        raise ValueError(
            f"{name}: {len(broken)} of {len(vertices)} vertices are not finite (the first is vertex "
            f"{int(broken[0])}): look at what wrote or moved it last"
        )


def check_faces(vertices: torch.Tensor, faces: torch.Tensor, name: str = "the mesh", weld_mm: float = 1e-4) -> None:
    """Refuse faces with less than three different corners, and faces that are there twice."""
    if not len(faces):
        raise ValueError(f"{name}: it has no faces, but a closed surface is needed: was it saved as points?")
    _, welded = weld(vertices, faces, weld_mm)
    a, b, c = welded.unbind(1)
    flat = ((a == b) | (b == c) | (c == a)).nonzero()
    if len(flat):
        raise ValueError(
            f"{name}: {len(flat)} of {len(faces)} faces have two corners at the same place (the first is face "
            f"{int(flat[0])}): remove degenerate faces"
        )
    different = torch.unique(welded.sort(1).values, dim=0)
    if len(different) < len(faces):
        raise ValueError(
            f"{name}: {len(faces) - len(different)} of {len(faces)} faces are there twice: remove duplicate faces"
        )


def check_extent(
    vertices: torch.Tensor, name: str = "the mesh", extent_mm: tuple[float, float] = (50.0, 200.0)
) -> None:
    """Refuse a bounding box that looks like metres, centimetres or voxels."""
    box = (vertices.amax(0) - vertices.amin(0)).tolist()
    low, high = extent_mm
    longest = max(box)
    if low <= longest <= high:
        return
    if low <= 1000 * longest <= high:
        guess = "these look like metres: multiply by 1000"
    elif low <= 10 * longest <= high:
        guess = "these look like centimetres (multiply by 10) or voxels (apply the affine of the image)"
    elif low <= longest / 1000 <= high:
        guess = "these look like micrometres: divide by 1000"
    else:
        guess = "these look like voxels of an image: apply its affine; or it is not a mesh of this organ"
    sides = " x ".join(f"{side:.3g}" for side in box)
    raise ValueError(f"{name}: its bounding box is {sides}, but {low:g} to {high:g} mm are expected; {guess}")


def check_watertight(
    vertices: torch.Tensor, faces: torch.Tensor, name: str = "the mesh", weld_mm: float = 1e-4
) -> None:
    """Refuse a surface with holes, or with faces of opposite orientation side by side."""
    kept, welded = weld(vertices, faces, weld_mm)
    topology = MeshTopology(welded, len(kept))
    if len(topology.boundary_edges):
        raise ValueError(
            f"{name}: it is not closed: {len(topology.boundary_edges)} boundary edges after welding vertices within "
            f"{weld_mm:g} mm. Close its openings (a valve plane by a fan of triangles), or join its sheets at their rim"
        )
    if len(topology.unbalanced_edges):
        raise ValueError(
            f"{name}: the faces at {len(topology.unbalanced_edges)} of {len(topology.edges)} edges are not oriented "
            "alike: turn the faces so that neighbours run through their edge in opposite directions"
        )


def check_outward(vertices: torch.Tensor, faces: torch.Tensor, name: str = "the mesh") -> None:
    """Refuse a mesh turned inside out: its sections would have negative areas."""
    volume = float(signed_volume(vertices.detach().double(), faces)) / 1000
    if volume <= 0:
        raise ValueError(
            f"{name}: its volume is {volume:.4g} mL, so its faces look inward. Exchange two corners of every face "
            "(faces[:, [0, 2, 1]]), or see whether it was mirrored between LPS and RAS"
        )


def check_in_view(
    vertices: torch.Tensor, faces: torch.Tensor, planes: torch.Tensor, size: tuple[int, int], name: str = "the mesh"
) -> None:
    """Refuse a mesh that no image plane meets: nothing could pull it into view."""
    if bool((plane_coverage(vertices.double(), faces, planes, size) != 0).any()):
        return
    low, high = (corner.tolist() for corner in (vertices.amin(0), vertices.amax(0)))
    middle = torch.tensor([0.5 * (size[0] - 1), 0.5 * (size[1] - 1), 0.0, 1.0]).to(planes)
    centres = [[round(value, 1) for value in (plane[:3] @ middle).tolist()] for plane in planes]
    raise ValueError(
        f"{name}: none of the {len(planes)} planes meets it in its image. The mesh reaches from "
        f"{[round(value, 1) for value in low]} to {[round(value, 1) for value in high]} mm, the images have their "
        f"centres at {centres}: are both in the same space (RAS or LPS, same exam)?"
    )
