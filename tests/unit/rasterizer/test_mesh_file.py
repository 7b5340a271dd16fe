"""Mesh files: what is written is read, also by other readers; coordinate systems are declared, never guessed."""

from __future__ import annotations

import base64
import struct
import zlib

import itk
import numpy as np
import pytest
import trimesh

from clinbundles.rasterizer.mesh_file import MeshFileError, read_mesh, write_mesh
from clinbundles.rasterizer.mesh_series import read_mesh_series, write_mesh_series
from clinbundles.rasterizer.surface_mesh import SurfaceMesh


@pytest.fixture
def mesh():
    ball = trimesh.creation.icosphere(subdivisions=2, radius=30.0)
    vertices = np.asarray(ball.vertices) + [5.0, -20.0, 40.0]
    data = {
        "displacement": np.tile([1.0, 2.0, 3.0], (len(vertices), 1)).astype(np.float32),
        "E_cc": np.linspace(-0.3, 0.1, len(vertices), dtype=np.float32),
        "segment": np.arange(len(vertices), dtype=np.uint8) % 17,
    }
    return SurfaceMesh(vertices, np.asarray(ball.faces), data)


@pytest.mark.parametrize("space", ["LPS", "RAS"])
@pytest.mark.parametrize("ending", [".vtp", ".vtk", ".obj", ".ply"])
def test_what_was_written_is_read_in_ras_whatever_the_file_declares(tmp_path, mesh, ending, space):
    file = tmp_path / f"a heart{ending}"
    write_mesh(file, mesh, space)
    found = read_mesh(file)
    np.testing.assert_allclose(found.vertices, mesh.vertices, atol=2e-4)
    np.testing.assert_array_equal(found.faces, mesh.faces)


def test_vtp_keeps_every_array_and_turns_vectors_with_the_axes(tmp_path, mesh):
    file = tmp_path / "heart.vtp"
    write_mesh(file, mesh, "LPS", {"time": 0.25, "domain": "ed"})
    found = read_mesh(file)
    assert set(found.point_data) == {"displacement", "E_cc", "segment"}
    for name, values in mesh.point_data.items():
        np.testing.assert_array_equal(found.point_data[name], values)
        assert found.point_data[name].dtype == values.dtype
    ras = tmp_path / "ras.vtp"
    ras.write_text(file.read_text().replace("76 80 83 0", "82 65 83 0"))  # the same numbers taken as RAS
    np.testing.assert_array_equal(read_mesh(ras).point_data["displacement"][0], [-1, -2, 3])


def test_lps_file_holds_the_negated_first_two_coordinates(tmp_path, mesh):
    write_mesh(tmp_path / "heart.vtk", mesh, "LPS")
    points = itk.array_from_vector_container(itk.meshread(str(tmp_path / "heart.vtk")).GetPoints())
    np.testing.assert_allclose(np.asarray(points), mesh.vertices * [-1, -1, 1], atol=1e-3)


def _appended_vtp(mesh, encoding, compressed):
    """A file as ParaView writes it by default: arrays appended behind the XML."""
    arrays = [
        mesh.vertices.astype("<f8").ravel(),
        mesh.faces.astype("<i8").ravel(),
        3 * np.arange(1, len(mesh.faces) + 1, dtype="<i8"),
    ]
    blob, offsets = b"", []
    for array in arrays:
        offsets.append(len(blob))
        data = array.tobytes()
        if compressed:
            blocks = [data[start : start + 1024] for start in range(0, len(data), 1024)]
            packed = [zlib.compress(block) for block in blocks]
            head = struct.pack(f"<{3 + len(blocks)}I", len(blocks), 1024, len(blocks[-1]) % 1024, *map(len, packed))
            parts = [head, b"".join(packed)]
        else:
            parts = [struct.pack("<I", len(data)) + data]
        blob += b"".join(base64.b64encode(part) for part in parts) if encoding == "base64" else b"".join(parts)
    compressor = ' compressor="vtkZLibDataCompressor"' if compressed else ""
    text = f"""<?xml version="1.0"?>
<VTKFile type="PolyData" version="0.1" byte_order="LittleEndian" header_type="UInt32"{compressor}><PolyData>
<Piece NumberOfPoints="{len(mesh.vertices)}" NumberOfPolys="{len(mesh.faces)}"><Points>
<DataArray type="Float64" Name="Points" NumberOfComponents="3" format="appended" offset="{offsets[0]}"/></Points><Polys>
<DataArray type="Int64" Name="connectivity" format="appended" offset="{offsets[1]}"/>
<DataArray type="Int64" Name="offsets" format="appended" offset="{offsets[2]}"/></Polys></Piece></PolyData>
<AppendedData encoding="{encoding}">_""".encode()
    return text + blob + b"</AppendedData></VTKFile>"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("encoding", ["raw", "base64"])
def test_appended_arrays_of_other_programs_are_read(tmp_path, mesh, encoding, compressed):
    file = tmp_path / "paraview.vtp"
    file.write_bytes(_appended_vtp(mesh, encoding, compressed))
    found = read_mesh(file, "RAS")
    np.testing.assert_array_equal(found.vertices, mesh.vertices)
    np.testing.assert_array_equal(found.faces, mesh.faces)


def test_a_file_that_declares_no_coordinate_system_is_refused_unless_it_is_given(tmp_path, mesh):
    file = tmp_path / "plain.obj"
    trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(file)
    with pytest.raises(MeshFileError, match=r"plain\.obj: does not say whether it is in LPS or RAS.*give space"):
        read_mesh(file)
    np.testing.assert_allclose(read_mesh(file, "LPS").vertices, mesh.vertices * [-1, -1, 1], atol=1e-5)
    np.testing.assert_allclose(read_mesh(file, "RAS").vertices, mesh.vertices, atol=1e-5)


def test_a_wrong_declaration_is_not_overruled(tmp_path, mesh):
    write_mesh(tmp_path / "heart.vtp", mesh, "LPS")
    with pytest.raises(MeshFileError, match=r"heart\.vtp: declares LPS coordinates, but space is RAS"):
        read_mesh(tmp_path / "heart.vtp", "RAS")


def test_broken_files_are_refused_by_name(tmp_path, mesh):
    (tmp_path / "text.vtp").write_text("hello")
    with pytest.raises(MeshFileError, match=r"text\.vtp: is not XML"):
        read_mesh(tmp_path / "text.vtp", "RAS")
    with pytest.raises(MeshFileError, match="there is no such mesh file"):
        read_mesh(tmp_path / "nowhere.vtp", "RAS")
    (tmp_path / "heart.stl").write_text("solid")
    with pytest.raises(MeshFileError, match=r"ends in '\.stl'; meshes are read from \.vtp"):
        read_mesh(tmp_path / "heart.stl", "RAS")
    vertices = mesh.vertices.copy()
    vertices[3] = np.nan
    write_mesh(tmp_path / "nan.vtp", SurfaceMesh(vertices, mesh.faces))
    with pytest.raises(MeshFileError, match=r"nan\.vtp: 1 vertices are not finite"):
        read_mesh(tmp_path / "nan.vtp")


def test_squares_are_refused(tmp_path):
    text = "# vtk DataFile Version 3.0\nSPACE=RAS\nASCII\nDATASET POLYDATA\nPOINTS 4 float\n0 0 0 1 0 0 1 1 0 0 1 0\n"
    (tmp_path / "square.vtk").write_text(text + "POLYGONS 1 5\n4 0 1 2 3\n")
    with pytest.raises(MeshFileError, match=r"square\.vtk"):
        read_mesh(tmp_path / "square.vtk")


def test_a_series_is_read_as_it_was_written(tmp_path, mesh):
    moving = mesh.vertices + np.linspace(0, 9, 4)[:, None, None] * [0, 0, 1]
    data = {"thickness": np.arange(4 * len(mesh.vertices), dtype=np.float32).reshape(4, -1), "surface": np.ones(162)}
    index = write_mesh_series(tmp_path / "out", "heart", moving, mesh.faces, [0, 250, 500, 750], data)
    found, times = read_mesh_series(index)
    np.testing.assert_array_equal(times, [0, 250, 500, 750])
    for frame in range(4):
        np.testing.assert_allclose(found[frame].vertices, moving[frame], atol=1e-4)
        np.testing.assert_array_equal(found[frame].point_data["thickness"], data["thickness"][frame])
        np.testing.assert_array_equal(found[frame].point_data["surface"], data["surface"])
    assert sorted(path.name for path in index.parent.iterdir()) == [
        "heart.pvd",
        *(f"heart_00{n}.vtp" for n in range(4)),
    ]


def test_real_fitted_surface_is_read_in_lps(real_data):
    file = real_data / "patient1_LV_ENDOCARDIAL_000.vtk"
    found = read_mesh(file, "LPS")
    assert found.vertices.shape == (1572, 3)
    assert found.faces.shape == (3072, 3)
    assert found.vertices[0] == pytest.approx([-33.993694, 3.3514574, -93.516975], abs=1e-4)
