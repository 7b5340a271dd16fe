from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import scipy.io
import torch

from clinbundles.kspace import KspaceError, LoadKspaced, cases_by_slice
from clinbundles.kspace.bart_cfl import read_cfl, write_cfl

from .conftest import COILS, FRAMES, LINES, READOUT, write_mat73


def test_a_case_folder_brings_maps_reference_mask_and_facts(tmp_path, kspace, maps, images):
    folder = tmp_path / "P007"
    folder.mkdir()
    np.save(folder / "kspace.npy", kspace.numpy())
    np.save(folder / "maps.npy", maps.numpy())
    np.save(folder / "reference.npy", images.numpy())
    np.savez(folder / "truth.npz", roi=[2, 3, 20, 18], frame_ms=36.0, spacing_mm=2.25, noise_sd=0.1, flow=np.ones(3))
    found = LoadKspaced(truth=True)({"kspace": str(folder)})
    assert found["case"] == "P007"
    torch.testing.assert_close(found["kspace"], kspace, rtol=0, atol=0)
    torch.testing.assert_close(found["sensitivity_maps"], maps, rtol=0, atol=0)
    torch.testing.assert_close(found["reference"], images, rtol=0, atol=0)
    assert found["mask"].shape == (FRAMES, LINES)
    assert bool((found["mask"] == 1).all())
    assert (found["roi"], found["frame_ms"], found["noise_sd"]) == ((2, 3, 20, 18), 36.0, 0.1)
    assert found["spacing_mm"].tolist() == [2.25, 2.25]
    assert found["flow"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(found["affine"].numpy() @ np.array([READOUT // 2, LINES // 2, 0, 1.0]), [0, 0, 0, 1])


def test_reference_and_maps_can_be_left_out_or_be_missing(tmp_path, kspace, maps):
    np.save(tmp_path / "kspace.npy", kspace.numpy())
    np.save(tmp_path / "maps.npy", maps.numpy())
    found = LoadKspaced(sensitivity_maps=False)({"kspace": str(tmp_path / "kspace.npy"), "spacing_mm": 2})
    assert "sensitivity_maps" not in found
    assert "reference" not in found


def test_the_case_wins_over_the_file(tmp_path, kspace):
    np.save(tmp_path / "kspace.npy", kspace.numpy())
    np.savez(tmp_path / "truth.npz", roi=[0, 0, 1, 1], frame_ms=36.0)
    case = {
        "kspace": tmp_path,
        "case": "A",
        "frame_ms": "40",
        "spacing_mm": [2, 1.5],
        "cyclic": "false",
        "heart_bbox": [1, 2, 3, 4],
    }
    found = LoadKspaced()(case)
    assert (found["frame_ms"], found["cyclic"], found["roi"]) == (40.0, False, (1, 2, 3, 4))
    assert found["spacing_mm"].tolist() == [2, 1.5]
    assert "heart_bbox" not in found


def test_axes_put_another_order_right(tmp_path, kspace):
    np.save(tmp_path / "a.npy", kspace[0].numpy().transpose(0, 2, 1))  # coil, ky, kx
    found = LoadKspaced(axes="NYX", spacing_mm=(2, 2))({"kspace": tmp_path / "a.npy"})
    torch.testing.assert_close(found["kspace"], kspace[:1], rtol=0, atol=0)
    with pytest.raises(KspaceError, match=r"case 'a': kspace has 3 axes \(4, 20, 24\).*say the order.*'NYX'"):
        LoadKspaced()({"kspace": tmp_path / "a.npy"})
    with pytest.raises(KspaceError, match=r"names 4: correct axes"):
        LoadKspaced(axes="TNXY")({"kspace": tmp_path / "a.npy"})
    with pytest.raises(KspaceError, match=r"with Q unknown"):
        LoadKspaced(axes="NYQ")({"kspace": tmp_path / "a.npy"})


def test_the_mask_says_what_is_not_zero(tmp_path, kspace):
    kspace[1, :, :, 3] = 0
    np.save(tmp_path / "a.npy", kspace.numpy())
    found = LoadKspaced(spacing_mm=(2, 2))({"kspace": tmp_path / "a.npy"})
    assert found["mask"].shape == (FRAMES, LINES)
    assert (found["mask"] == 0).nonzero().tolist() == [[1, 3]]
    kspace[:, :, :5] = 0
    np.save(tmp_path / "a.npy", kspace.numpy())
    found = LoadKspaced(spacing_mm=(2, 2))({"kspace": tmp_path / "a.npy"})
    assert found["mask"].shape == (FRAMES, READOUT, LINES)
    assert not found["mask"][:, :5].any()


def test_real_values_are_refused_and_pairs_are_recognised(tmp_path, kspace):
    np.save(tmp_path / "a.npy", kspace.abs().numpy())
    with pytest.raises(KspaceError, match=r"case 'a': kspace has real values \(float32.*magnitude images \(DICOM\)"):
        LoadKspaced()({"kspace": tmp_path / "a.npy"})
    np.save(tmp_path / "a.npy", torch.view_as_real(kspace[:, 0]).numpy())
    with pytest.raises(KspaceError, match="looks like real and imaginary part"):
        LoadKspaced()({"kspace": tmp_path / "a.npy"})


def test_unknown_pixel_size_is_said(tmp_path, kspace, caplog):
    np.save(tmp_path / "a.npy", kspace.numpy())
    with caplog.at_level(logging.WARNING):
        found = LoadKspaced()({"kspace": tmp_path / "a.npy"})
    assert "case 'a': the pixel size is not known" in caplog.text
    assert not found["spacing_known"]


def test_missing_and_foreign_files_are_named_without_their_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^case 'a': a.npy does not exist$"):
        LoadKspaced()({"kspace": tmp_path / "a.npy"})
    (tmp_path / "a.dcm").touch()
    with pytest.raises(KspaceError, match=r"case 'a': kspace is a file of the kind '.dcm', expected one of .npy"):
        LoadKspaced()({"kspace": tmp_path / "a.dcm"})
    for name in ("b.npy", "b.mat", "b.h5"):
        (tmp_path / name).write_bytes(b"no such format")
        with pytest.raises(KspaceError) as caught:
            LoadKspaced()({"kspace": tmp_path / name})
        assert "case 'b'" in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


def test_noise_of_the_case_whitens_the_coils(tmp_path, kspace, maps):
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(COILS, COILS)) + 1j * generator.normal(size=(COILS, COILS))
    white = (generator.normal(size=(COILS, 5000)) + 1j * generator.normal(size=(COILS, 5000))) / np.sqrt(2)
    np.save(tmp_path / "noise.npy", mixing @ white)
    np.save(tmp_path / "k.npy", kspace.numpy())
    case = {"kspace": tmp_path / "k.npy", "noise": tmp_path / "noise.npy", "sensitivity_maps": maps, "spacing_mm": 2}
    found = LoadKspaced()(case)
    again = LoadKspaced()({"kspace": tmp_path / "k.npy", "spacing_mm": 2, "noise": mixing @ white})
    torch.testing.assert_close(found["kspace"], again["kspace"])
    assert found["noise_sd"] == 1.0
    torch.testing.assert_close(torch.linalg.vector_norm(found["sensitivity_maps"], dim=0), torch.ones(READOUT, LINES))
    expected = torch.linalg.vector_norm(found["kspace"])
    matrix = np.linalg.inv(np.linalg.cholesky(np.cov(mixing @ white)))
    direct = np.einsum("mn,tnxy->tmxy", matrix, kspace.numpy())
    assert float(expected) == pytest.approx(np.linalg.norm(direct), rel=1e-4)
    assert float(LoadKspaced(whiten=False)(case)["kspace"].abs().sum()) == pytest.approx(float(kspace.abs().sum()))
    with pytest.raises(KspaceError, match=r"noise has the shape \(3, 5000\), expected \(4, samples\)"):
        LoadKspaced()({**case, "noise": white[:3]})


# --- BART ---


def test_bart_files_come_back_as_written(tmp_path, kspace):
    bart = kspace.numpy().transpose(2, 3, 1, 0)[:, :, None, :, None, None, None, None, None, None, :]
    write_cfl(tmp_path / "cine", bart)
    assert (tmp_path / "cine.hdr").read_text().splitlines()[1] == "24 20 1 4 1 1 1 1 1 1 5 1 1 1 1 1"
    np.testing.assert_array_equal(read_cfl(tmp_path / "cine.cfl").squeeze(), bart.squeeze())
    for ending in (".cfl", ".hdr"):
        found = LoadKspaced(spacing_mm=(2, 2))({"kspace": (tmp_path / "cine").with_suffix(ending)})
        torch.testing.assert_close(found["kspace"], kspace, rtol=0, atol=0)


def test_bart_header_and_data_must_fit(tmp_path, kspace):
    path = write_cfl(tmp_path / "cine", kspace.numpy())
    with pytest.raises(KspaceError, match=r"BART dimensions \(5, 4, 24, 20.*above 1 in 2 \(a second phase encoding"):
        LoadKspaced()({"kspace": path})
    (tmp_path / "cine.hdr").write_text("# Dimensions\n5 4 24\n")
    with pytest.raises(KspaceError, match=r"has 76800 bytes, but the dimensions \[5, 4, 24\].*need 3840"):
        LoadKspaced()({"kspace": path})
    (tmp_path / "cine.hdr").unlink()
    with pytest.raises(FileNotFoundError, match=r"case 'cine': cine.hdr does not exist"):
        LoadKspaced()({"kspace": path})


# --- CMRxRecon ---


@pytest.mark.parametrize("name", ["kspace", "kspace_full", "kspace_sub04"])
def test_matlab_files_are_read_in_matlabs_order(tmp_path, kspace, name):
    slices = torch.stack([kspace, 2 * kspace, 3 * kspace])  # Z T N X Y
    path = write_mat73(tmp_path / "cine_sax.mat", **{name: slices.numpy().transpose(3, 4, 2, 0, 1)})
    found = LoadKspaced(slice=1, spacing_mm=(2, 2))({"kspace": path})
    torch.testing.assert_close(found["kspace"], 2 * kspace, rtol=0, atol=0)
    found = LoadKspaced(spacing_mm=(2, 2))({"kspace": path, "slice": 2})
    torch.testing.assert_close(found["kspace"], 3 * kspace, rtol=0, atol=0)
    with pytest.raises(KspaceError, match=r"holds 3 slices, expected one slice per case: set slice to 0 ... 2"):
        LoadKspaced()({"kspace": path})
    with pytest.raises(KspaceError, match=r"slice is 7, but the file holds the slices 0 ... 2"):
        LoadKspaced(slice=7)({"kspace": path})


def test_one_case_becomes_one_per_slice(tmp_path, kspace):
    slices = torch.stack([kspace, 2 * kspace]).numpy().transpose(3, 4, 2, 0, 1)
    path = write_mat73(tmp_path / "P1.mat", kspace_full=slices)
    np.save(tmp_path / "P2.npy", kspace.numpy())
    cases = cases_by_slice([{"kspace": str(path), "case": "P1"}, {"kspace": str(tmp_path / "P2.npy"), "case": "P2"}])
    assert [(case["case"], case.get("slice")) for case in cases] == [("P1_s00", 0), ("P1_s01", 1), ("P2", None)]
    found = LoadKspaced(spacing_mm=(2, 2))(cases[1])
    torch.testing.assert_close(found["kspace"], 2 * kspace, rtol=0, atol=0)
    assert found["case"] == "P1_s01"


def test_masks_of_matlab_files_follow(tmp_path, kspace):
    lines = np.zeros(LINES)
    lines[::2] = 1
    sub = kspace.numpy() * lines
    matlab = sub.transpose(2, 3, 1, 0)[:, :, :, None]
    expected = torch.from_numpy(np.tile(lines, (FRAMES, 1))).float()
    path = write_mat73(tmp_path / "cine_sax.mat", kspace_sub04=matlab)
    mask = write_mat73(tmp_path / "cine_sax_mask.mat", mask04=np.tile(lines, (READOUT, 1)))
    old = tmp_path / "old_mask.mat"
    scipy.io.savemat(old, {"mask": np.tile(lines, (READOUT, 1))})
    both = write_mat73(tmp_path / "both.mat", kspace=matlab, mask=np.tile(lines[:, None], (READOUT, 1, FRAMES)))
    for case in ({"kspace": path, "mask": mask}, {"kspace": path, "mask": old}, {"kspace": path}, {"kspace": both}):
        found = LoadKspaced(spacing_mm=(2, 2))(case)
        torch.testing.assert_close(found["mask"], expected)


def test_unclear_matlab_files_say_what_they_hold(tmp_path, kspace):
    path = write_mat73(tmp_path / "a.mat", kspace_sub04=kspace.numpy(), kspace_sub08=kspace.numpy())
    with pytest.raises(
        KspaceError, match=r"2 variables that may be kspace \(kspace_sub04, kspace_sub08\).*by variable"
    ):
        LoadKspaced()({"kspace": path})
    found = LoadKspaced(variable="kspace_sub08", axes="TNXY", spacing_mm=(2, 2))({"kspace": path})
    torch.testing.assert_close(found["kspace"], kspace, rtol=0, atol=0)
    path = write_mat73(tmp_path / "b.mat", kspace=kspace[0].numpy())
    with pytest.raises(KspaceError, match=re.escape("has 3 axes (4, 24, 20) in MATLAB's order, expected 5")):
        LoadKspaced()({"kspace": path})
    with pytest.raises(KspaceError, match="no variable 'ksp'; it has kspace"):
        LoadKspaced(variable="ksp")({"kspace": path})


def test_a_mask_of_another_size_is_refused(tmp_path, kspace):
    np.save(tmp_path / "a.npy", kspace.numpy())
    with pytest.raises(KspaceError, match=r"mask has the shape \(7, 7\), expected \(5, 20\) for lines"):
        LoadKspaced(spacing_mm=(2, 2))({"kspace": tmp_path / "a.npy", "mask": np.ones((7, 7))})
