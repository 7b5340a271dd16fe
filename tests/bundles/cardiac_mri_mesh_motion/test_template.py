"""The template is ours, watertight, and what the file holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cardiac_mri_mesh_motion.ventricle.lv_mesh import inverted_share
from cardiac_mri_mesh_motion.ventricle.template import make_template, read_template, write_template
from clinbundles.phantoms.heart import mean_heart
from clinbundles.rasterizer.closed_mesh_checks import check_closed_mesh
from clinbundles.rasterizer.mesh_file import MeshFileError, write_mesh
from clinbundles.rasterizer.mesh_topology import MeshTopology
from clinbundles.rasterizer.surface_mesh import SurfaceMesh


def test_shipped_file_is_what_the_generator_makes():
    made, shipped = make_template(), read_template()
    torch.testing.assert_close(shipped.vertices, made.vertices, atol=1e-3, rtol=0)
    assert torch.equal(shipped.faces, made.faces)
    assert torch.equal(shipped.surface, made.surface)
    assert shipped.insertion == made.insertion


def test_template_is_one_closed_outward_surface_like_a_sphere():
    template = read_template()
    check_closed_mesh(template.vertices, template.faces)
    assert MeshTopology(template.faces, len(template.vertices)).euler_characteristic == 2
    assert float(inverted_share(template.vertices[None], template.faces)) == 0


def test_template_has_the_volumes_of_the_mean_heart():
    template, heart = read_template(), mean_heart()
    cavity, muscle, _ = heart.volumes(0.0)
    assert template.cavity_ml(template.vertices[None])[0] == pytest.approx(cavity, rel=0.03)
    assert template.myocardium_ml(template.vertices[None])[0] == pytest.approx(muscle, rel=0.03)


def test_template_stands_upright_in_the_exam_frame():
    """z from apex to base, the anterior insertion on the side of the septum (-x) and of the anterior wall (-y)."""
    template = read_template()
    rim = template.vertices[template.surface == 2]
    assert rim[:, 2].min() > 0.9 * template.vertices[:, 2].max()
    x, y, _ = template.vertices[template.insertion]
    assert x < 0
    assert y < 0


def test_own_template_is_read_as_it_was_written(tmp_path):
    write_template(tmp_path / "mine.vtp", read_template())
    again = read_template(tmp_path / "mine.vtp")
    torch.testing.assert_close(again.vertices, read_template().vertices)
    assert again.insertion == read_template().insertion


def test_template_without_its_arrays_is_refused_by_name(tmp_path):
    template = read_template()
    write_mesh(tmp_path / "plain.vtp", SurfaceMesh(template.vertices.numpy(), template.faces.numpy()))
    with pytest.raises(MeshFileError, match=r"plain\.vtp: lacks the vertex array surface and rv_insertion"):
        read_template(tmp_path / "plain.vtp")


def test_a_turned_over_triangle_is_counted():
    template = read_template()
    vertices = template.vertices.clone()
    spot = int(template.faces[100, 0])
    ring = template.faces[(template.faces == spot).any(1)].unique()
    vertices[spot] += 3 * (vertices[ring].mean(0) - vertices[spot]) + np.float32(12) * torch.tensor([0.3, 0.9, 0.2])
    assert float(inverted_share(vertices[None], template.faces)) > 0
