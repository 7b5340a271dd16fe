"""Meshes that must be refused, and what the message says."""

import pytest
import torch
from simple_meshes import axial_plane, sphere, ventricle

from clinbundles.rasterizer.closed_mesh_checks import check_closed_mesh


def test_a_good_mesh_passes_welded_or_not():
    plane = axial_plane(-30.0, 80)[None]
    check_closed_mesh(*ventricle(), planes=plane, size=(80, 80))
    check_closed_mesh(*ventricle(welded=False), planes=plane, size=(80, 80))
    vertices, faces = ventricle()
    check_closed_mesh(vertices.float(), faces, planes=plane.float(), size=(80, 80))


def test_a_hole_is_named_with_its_edges():
    vertices, faces = ventricle()
    with pytest.raises(
        ValueError, match=r"'ed.vtp': it is not closed: 3 boundary edges after welding .* fan of triangles"
    ):
        check_closed_mesh(vertices, torch.cat([faces[:10], faces[11:]]), name="'ed.vtp'")


def test_neighbours_turned_differently_are_named():
    vertices, faces = ventricle()
    faces[7] = faces[7].flip(0)
    with pytest.raises(ValueError, match=r"faces at 3 of .* edges are not oriented alike"):
        check_closed_mesh(vertices, faces)


def test_a_mesh_turned_inside_out_is_named_with_its_volume():
    vertices, faces = ventricle()
    with pytest.raises(ValueError, match=r"its volume is -1\d\d\.\d mL, so its faces look inward.* LPS and RAS"):
        check_closed_mesh(vertices, faces.flip(1))
    with pytest.raises(ValueError, match="look inward"):
        check_closed_mesh(vertices * torch.tensor([1.0, 1.0, -1.0]), faces)


def test_degenerate_faces_are_counted():
    vertices, faces = ventricle()
    faces[3, 1] = faces[3, 0]
    with pytest.raises(ValueError, match=r"1 of .* faces have two corners at the same place .* face 3"):
        check_closed_mesh(vertices, faces)
    vertices, faces = ventricle()
    vertices[50] = vertices[51]
    with pytest.raises(ValueError, match=r"2 of .* faces have two corners at the same place"):
        check_closed_mesh(vertices, faces)


def test_duplicate_faces_are_counted():
    vertices, faces = ventricle()
    with pytest.raises(ValueError, match=r"2 of .* faces are there twice"):
        check_closed_mesh(vertices, torch.cat([faces, faces[:2].roll(1, 1)]))


def test_nan_vertices_are_counted():
    vertices, faces = ventricle()
    vertices[[5, 9], 1] = float("nan")
    with pytest.raises(ValueError, match=r"2 of \d+ vertices are not finite \(the first is vertex 5\)"):
        check_closed_mesh(vertices, faces)


@pytest.mark.parametrize(
    "scale, guess",
    [(1e-3, "metres: multiply by 1000"), (0.1, "centimetres"), (1e3, "micrometres"), (5.0, "voxels of an image")],
)
def test_other_units_are_guessed(scale, guess):
    vertices, faces = ventricle()
    with pytest.raises(ValueError, match=f"bounding box is .* but 50 to 200 mm are expected; .*{guess}"):
        check_closed_mesh(vertices * scale, faces)


def test_another_organ_may_have_another_size():
    vertices, faces = sphere(2, radius=5.0)
    check_closed_mesh(vertices, faces, extent_mm=(5.0, 20.0))


def test_no_faces_are_refused():
    vertices, faces = ventricle()
    with pytest.raises(ValueError, match="it has no faces"):
        check_closed_mesh(vertices, faces[:0])


def test_a_mesh_that_no_plane_meets_is_refused_with_both_places():
    vertices, faces = ventricle()
    planes = torch.stack([axial_plane(40.0, 64), axial_plane(50.0, 64)])
    with pytest.raises(
        ValueError, match=r"none of the 2 planes .* \[-36.0, -36.0, -90.0\] .*\[0.0, 0.0, 40.0\].*RAS or LPS"
    ):
        check_closed_mesh(vertices, faces, planes, (64, 64))
    with pytest.raises(ValueError, match="planes need the size"):
        check_closed_mesh(vertices, faces, planes)
