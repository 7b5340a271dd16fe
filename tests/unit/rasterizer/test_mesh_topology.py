"""What the faces say: edges, rims, neighbours, orientation; welding."""

import gc
import weakref

import pytest
import torch
from mesh_losses_by_loops import faces_at_edges, neighbours_of
from simple_meshes import sphere, torus, ventricle

from clinbundles.rasterizer.mesh_topology import MeshTopology, weld
from clinbundles.rasterizer.triangle_mesh import TriangleMesh


@pytest.mark.parametrize("mesh, euler", [(sphere(2), 2), (torus(), 0), (ventricle(), 2)])
def test_closed_surfaces_have_the_right_euler_characteristic_and_no_boundary(mesh, euler):
    vertices, faces = mesh
    topology = MeshTopology(faces, len(vertices))
    assert topology.euler_characteristic == euler
    assert len(topology.boundary_edges) == len(topology.unbalanced_edges) == 0
    assert (topology.faces_per_edge == 2).all()
    assert len(topology.face_pairs[0]) == len(topology.edges)
    assert (topology.face_pairs[1] == 1).all()


def test_edges_neighbours_and_pairs_are_those_found_one_by_one():
    vertices, faces = sphere(1)
    faces = torch.cat([faces[3:], faces[:1].flip(1), torch.tensor([[0, 1, 40]])])  # holes, a turned face, a fin
    topology = MeshTopology(faces, len(vertices))
    slow = faces_at_edges(faces.numpy())
    assert [tuple(edge) for edge in topology.edges.tolist()] == sorted(slow)
    assert topology.faces_per_edge.tolist() == [len(slow[edge]) for edge in sorted(slow)]
    near = neighbours_of(faces.numpy())
    assert topology.degree.tolist() == [len(near[i]) for i in range(len(vertices))]
    pairs = {tuple(sorted(pair)) for pair in topology.face_pairs[0].tolist()}
    assert pairs == {(a, b) for sharing in slow.values() for a in sharing for b in sharing if a < b}


def test_sheets_with_the_same_rim_are_welded_into_a_closed_surface():
    vertices, faces = ventricle(columns=40, welded=False)
    assert len(MeshTopology(faces, len(vertices)).boundary_edges) == 4 * 40
    kept, welded = weld(vertices, faces)
    topology = MeshTopology(welded, len(kept))
    assert len(kept) == len(vertices) - 80
    assert len(topology.boundary_edges) == 0
    assert topology.euler_characteristic == 2
    assert torch.allclose(vertices[kept][welded], vertices[faces])


def test_welding_a_mesh_without_doubles_changes_nothing():
    vertices, faces = sphere(1)
    kept, welded = weld(vertices, faces)
    assert torch.equal(kept, torch.arange(len(vertices)))
    assert torch.equal(welded, faces)


def test_the_topology_of_the_same_faces_is_computed_once():
    vertices, faces = sphere(1)
    first, second = TriangleMesh(vertices, faces), TriangleMesh(2 * vertices, faces)
    assert first.topology is second.topology
    assert first.with_vertices(vertices).topology is first.topology


def test_faces_changed_in_place_get_a_new_topology():
    vertices, faces = sphere(1)
    before = TriangleMesh(vertices, faces).topology
    faces[0] = faces[0].flip(0)
    after = TriangleMesh(vertices, faces).topology
    assert after is not before
    assert len(after.unbalanced_edges) == 3


def test_the_cache_keeps_no_faces_alive():
    vertices, faces = sphere(1)
    topology = weakref.ref(TriangleMesh(vertices, faces).topology)
    del faces
    gc.collect()
    assert topology() is None


def test_wrong_shapes_are_refused():
    vertices, faces = sphere(1)
    with pytest.raises(ValueError, match=r"vertices must be \[V, 3\] or \[B, V, 3\]"):
        TriangleMesh(vertices[0], faces)
    with pytest.raises(ValueError, match="faces name vertices 0 to 41, but there are 41"):
        TriangleMesh(vertices[:41], faces)
    with pytest.raises(ValueError, match=r"faces must be \[F, 3\] integers"):
        TriangleMesh(vertices, faces.double())
    with pytest.raises(ValueError, match="41 vertices for faces of a mesh of 42"):
        TriangleMesh(vertices, faces).with_vertices(vertices[:41])
