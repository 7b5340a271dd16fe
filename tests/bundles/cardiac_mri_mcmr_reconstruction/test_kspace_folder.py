"""A folder of raw data as cases: which files belong together, slices, and what is broken."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from cardiac_mri_mcmr_reconstruction.case_files import FindCaseFilesd, files_of_case
from cardiac_mri_mcmr_reconstruction.kspace_folder import KspaceFolder
from clinbundles.kspace import KspaceError


def folder_of(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return KspaceFolder(root, root.parent / "results")


def test_a_folder_with_kspace_is_one_case_and_other_files_are_one_each(tmp_path):
    root = tmp_path / "raw"
    folder = folder_of(
        root, "p1/kspace.npy", "p1/maps.npy", "p1/reference.npy", "p2.npy", "p3.cfl", "p3.hdr", "notes.txt"
    )
    assert [case["study"] for case in folder.cases] == ["p1", "p2", "p3"]
    assert folder.cases[0]["image"] == [str(root / "p1" / name) for name in ("kspace.npy", "maps.npy", "reference.npy")]
    assert folder.cases[1]["image"] == str(root / "p2.npy")


def test_one_case_folder_can_be_the_whole_input(tmp_path):
    folder = folder_of(tmp_path / "only one", "kspace.npy", "maps.npy")
    assert [case["study"] for case in folder.cases] == ["only one"]


def test_each_slice_of_a_file_is_a_case(tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    with h5py.File(root / "patient.mat", "w") as file:  # MATLAB's axes (kx, ky, coil, slice, t), reversed in HDF5
        file["kspace_full"] = np.zeros((3, 2, 4, 18, 20), dtype=[("real", "<f4"), ("imag", "<f4")])
    cases = KspaceFolder(root, tmp_path / "results").cases
    assert [(case["study"], case["slice"]) for case in cases] == [("patient_s00", 0), ("patient_s01", 1)]


def test_a_file_that_cannot_be_read_stays_in_the_list_and_stops_no_other(tmp_path):
    folder = folder_of(tmp_path / "raw", "broken.h5", "broken.mat", "fine.npy")
    assert [case["study"] for case in folder.cases] == ["broken_h5", "broken_mat", "fine"]


def test_a_folder_without_kspace_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"holds no study: no file ends in \.h5, \.hdf5, \.mrd, \.mat, \.cfl, \.npy"
    ):
        _ = folder_of(tmp_path / "raw", "notes.txt").cases


def test_the_table_says_more_of_a_file(tmp_path):
    root = tmp_path / "raw"
    folder = folder_of(root, "a.npy")
    (root / "studies.csv").write_text("file,axes,spacing_mm,cyclic\na.npy,NTXY,2.0 1.5,false\n")
    assert folder.cases[0] | {"image": ""} == {
        "image": "", "study": "a", "axes": "NTXY", "spacing_mm": [2.0, 1.5], "cyclic": "false"
    }  # fmt: skip


def test_companions_are_told_by_their_names():
    files = ["/in/kspace.cfl", "/in/csm.mat", "/in/mask.npy", "/in/truth.npz", "/in/other.npy"]
    found = {"kspace": "/in/kspace.cfl", "sensitivity_maps": "/in/csm.mat", "mask": "/in/mask.npy"}
    assert files_of_case(files) == found
    assert FindCaseFilesd()({"image": files, "study": "p1"}) == {"study": "p1", **found}
    assert FindCaseFilesd()({"image": "/in/p1.h5"}) == {"kspace": "/in/p1.h5"}
    assert FindCaseFilesd()({"kspace": "/in/a.npy", "case": "a"}) == {"kspace": "/in/a.npy", "case": "a"}


def test_a_case_folder_that_is_not_clear_is_refused():
    with pytest.raises(KspaceError, match=r"case 'p1': maps\.npy and sensitivity_maps\.npy are both sensitivity_maps"):
        files_of_case(["kspace.npy", "maps.npy", "sensitivity_maps.npy"], "p1")
    with pytest.raises(KspaceError, match=r"case 'p1': no file is called kspace \(maps\.npy\), expected kspace with"):
        files_of_case(["maps.npy"], "p1")
    with pytest.raises(KspaceError, match="the case has study: name its k-space under 'kspace' or 'image'"):
        FindCaseFilesd()({"study": "p1"})
