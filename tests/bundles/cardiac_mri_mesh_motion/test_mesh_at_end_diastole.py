"""Where the mesh at end-diastole comes from, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact_heart_case import exact_mesh, exact_vertices

from cardiac_mri_mesh_motion.results.save_mesh_motion import in_world
from cardiac_mri_mesh_motion.ventricle.fit_to_labels import fit_to_labels
from cardiac_mri_mesh_motion.ventricle.move_mesh import MESH_KEY, MoveMeshd
from cardiac_mri_mesh_motion.ventricle.template import read_template
from clinbundles.motion.motion_grid import GRID_SIZE, grid_points
from clinbundles.rasterizer.mesh_file import MeshFileError, write_mesh
from clinbundles.rasterizer.surface_mesh import SurfaceMesh
from clinbundles.rasterizer.wall_thickness import distance_to_surface

NOTHING = torch.zeros(3, 6, *GRID_SIZE)


def gap(mesh, true):
    """Mean distance in mm of each surface to the exact one."""
    parts = []
    for side, faces in ((1, true.endo_faces), (0, true.epi_faces)):
        ours = mesh.vertices[mesh.surface == side].numpy()
        parts.append(distance_to_surface(ours, true.vertices.numpy(), faces.numpy()))
    return float(np.concatenate(parts).mean())


def test_fit_to_labels_finds_the_heart(case, sample):
    true = exact_mesh(case, sample["frame_to_world"])
    template = read_template()
    fitted = fit_to_labels(template, sample["planes_label"][0], sample["planes_pose"])
    assert fitted.source == "labels"
    assert gap(fitted, true) < min(1.5, 0.6 * gap(template, true))
    assert fitted.cavity_ml(fitted.vertices[None])[0] == pytest.approx(case["edv_ml"], rel=0.1)


def test_fit_needs_a_labelled_ventricle(sample):
    empty = torch.zeros_like(sample["planes_label"][0])
    with pytest.raises(ValueError, match=r"have 0 pixels of myocardium \(value 2\).*check values and frame"):
        fit_to_labels(read_template(), empty, sample["planes_pose"])


def test_labels_are_asked_for_when_they_are_missing(sample):
    without = {key: value for key, value in sample.items() if key != "planes_label"}
    with pytest.raises(ValueError, match=r"ed_mesh is 'labels', but the exam has no label map: put sax_label"):
        MoveMeshd("pred", ed_mesh="labels")(without | {"pred": NOTHING})


@pytest.fixture
def written(case, sample, tmp_path):
    """Write a changed exact mesh in the scanner's coordinates; gives its path."""

    def write(change=lambda v, f: (v, f), name="heart.vtp", space="LPS"):
        mesh = exact_mesh(case, sample["frame_to_world"])
        vertices = in_world(mesh.vertices.numpy(), np.asarray(sample["frame_to_world"]))
        vertices, faces = change(vertices, mesh.faces.numpy())
        write_mesh(tmp_path / name, SurfaceMesh(vertices, faces), space)
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(("name", "space"), [("a.vtp", "LPS"), ("b.vtp", "RAS"), ("c.ply", "LPS"), ("d.obj", "RAS")])
def test_own_mesh_is_used_as_it_is_whatever_its_coordinates(case, sample, written, name, space):
    file = written(name=name, space=space)
    mesh = MoveMeshd("pred", "mesh", file)(sample | {"pred": NOTHING})[MESH_KEY]
    true = exact_vertices(case, sample["frame_to_world"])[0]
    torch.testing.assert_close(mesh.vertices, true, atol=2e-3, rtol=0)
    assert (mesh.surface == read_template().surface).float().mean() > 0.95
    assert mesh.cavity_ml(true[None])[0] == pytest.approx(case["edv_ml"], rel=0.03)
    assert mesh.source == name


def cut(vertices, faces):
    return vertices, faces[50:]


def inward(vertices, faces):
    return vertices, faces[:, ::-1]


def metres(vertices, faces):
    return vertices / 1000, faces


def elsewhere(vertices, faces):
    return vertices + [0.0, 60.0, 0.0], faces


def far_away(vertices, faces):
    return vertices + [0.0, 1000.0, 0.0], faces


def twice(vertices, faces):
    return vertices, np.concatenate([faces, faces[:5]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, r"heart\.vtp.*boundary edges"),
        (inward, r"heart\.vtp.*(inward|inside out)"),
        (metres, r"heart\.vtp.*(metres|mm)"),
        (far_away, r"heart\.vtp.*(plane|image)"),
        (elsewhere, r"heart\.vtp: lies \d+ mm from the left ventricle.*space: RAS or LPS"),
        (twice, r"heart\.vtp.*(duplicate|twice|same)"),
    ],
)
def test_a_mesh_that_cannot_be_moved_is_refused_by_name(sample, written, change, message):
    file = written(change)
    with pytest.raises(ValueError, match=message):
        MoveMeshd("pred", "mesh", file)(sample | {"pred": NOTHING})


def test_undeclared_coordinates_are_asked_for(sample, written, tmp_path):
    file = written(name="plain.ply")
    plain = tmp_path / "undeclared.ply"
    plain.write_bytes((tmp_path / "plain.ply").read_bytes().replace(b"comment SPACE=LPS\n", b""))
    with pytest.raises(MeshFileError, match=r"undeclared\.ply: does not say whether it is in LPS or RAS"):
        MoveMeshd("pred", "mesh", str(plain))(sample | {"pred": NOTHING})
    given = MoveMeshd("pred", "mesh", str(plain), space="LPS")(sample | {"pred": NOTHING})[MESH_KEY]
    declared = MoveMeshd("pred", "mesh", file)(sample | {"pred": NOTHING})[MESH_KEY]
    torch.testing.assert_close(given.vertices, declared.vertices)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="ed_mesh is 'labls', expected one of network, labels, mesh"):
        MoveMeshd("pred", "labls")
    with pytest.raises(ValueError, match="belong together"):
        MoveMeshd("pred", "mesh")
    with pytest.raises(ValueError, match="belong together"):
        MoveMeshd("pred", "network", "heart.vtp")


def test_a_network_that_finds_no_ventricle_is_not_believed(sample):
    collapsed = NOTHING.clone()
    collapsed[:, 3:] = -0.8 * grid_points().movedim(-1, 0)
    with pytest.raises(ValueError, match=r"of muscle and a cavity of \d+ mL: no left ventricle was found"):
        MoveMeshd("pred")(sample | {"pred": collapsed})
