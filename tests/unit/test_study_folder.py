"""Which studies a folder holds, what a table says of them, and which are finished."""

import pytest

from clinbundles.data.study_folder import StudyFolder


def folder_of(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def studies(dataset, output, **changes):
    settings = {"extensions": (".png", ".nii", ".nii.gz", ""), "case_keys": ("fov_mm", "eye"), **changes}
    return StudyFolder(dataset, output, **settings)


def finish_all(folder):
    for case in list(folder.pending):
        folder.finish(case, {"density": 0.4})


def test_files_are_found_in_all_folders_in_a_fixed_order(tmp_path):
    data = folder_of(tmp_path / "in", "b.png", "a.PNG", "sub/c.nii.gz", "notes.txt", ".hidden.png", "sub/.git/d.png")
    found = studies(data, tmp_path / "out")
    assert [case["study"] for case in found] == ["a", "b", "sub/c"]
    assert [case["study"] for case in studies(data, tmp_path / "out", recursive=False)] == ["a", "b"]


def test_a_single_file_is_a_folder_of_one_study(tmp_path):
    data = folder_of(tmp_path / "in", "a.png", "b.png")
    assert [case["study"] for case in studies(data / "b.png", tmp_path / "out")] == ["b"]


def test_files_that_differ_only_in_their_ending_keep_apart(tmp_path):
    data = folder_of(tmp_path / "in", "a.png", "a.nii.gz", "b.png")
    assert {case["study"] for case in studies(data, tmp_path / "out")} == {"a_png", "a_nii_gz", "b"}


def test_dicom_without_an_ending_is_known_by_its_preamble(tmp_path):
    data = folder_of(tmp_path / "in", "README")
    (data / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(10))
    (data / "1.2.840.99").write_bytes(bytes(128) + b"DICM" + bytes(10))
    assert [case["study"] for case in studies(data, tmp_path / "out")] == ["1.2.840.99", "IM0001"]


def test_results_inside_the_data_folder_are_not_taken_for_studies(tmp_path):
    data = folder_of(tmp_path / "in", "a.png", "results/a/a_mask.png")
    assert [case["study"] for case in studies(data, data / "results")] == ["a"]
    with pytest.raises(ValueError, match="choose another output_dir"):
        len(studies(data, data))


def test_a_missing_or_empty_folder_is_an_error_and_not_an_empty_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset_dir .* does not exist"):
        len(studies(tmp_path / "nowhere", tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no study: no file ends in \.png"):
        len(studies(tmp_path / "empty", tmp_path / "out"))


def test_nothing_is_read_before_the_first_use(tmp_path):
    StudyFolder(tmp_path / "nowhere", tmp_path / "out", extensions=(".png",), settings_files={"weights": "none.pt"})


def test_the_table_adds_numbers_and_text_to_single_files(tmp_path):
    data = folder_of(tmp_path / "in", "a.png", "b.png", "c.png")
    (data / "studies.csv").write_text("file, fov_mm, eye\na.png, 6, OD\nb.png, 3 4.5,\n")
    cases = {case["study"]: case for case in studies(data, tmp_path / "out")}
    assert cases["a"]["fov_mm"] == [6.0]
    assert cases["a"]["eye"] == "OD"
    assert cases["b"]["fov_mm"] == [3.0, 4.5]
    assert "eye" not in cases["b"]
    assert "fov_mm" not in cases["c"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,fov\na.png,6\n", "may name fov_mm, eye; found file, fov"),
        ("file,fov_mm\na.png,six\n", "line 2, column fov_mm: expected a number .* found 'six'"),
        ("file,fov_mm\nz.png,6\n", "names files that are not there: z.png"),
        ("file,fov_mm\na.png,6\na.png,3\n", "stands in the table twice"),
        ("file,fov_mm\na.png,6,7,8\n", "expected the 2 values"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(tmp_path, table, message):
    data = folder_of(tmp_path / "in", "a.png")
    (data / "studies.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        len(studies(data, tmp_path / "out"))


def test_finished_studies_are_left_out_and_an_interrupted_run_goes_on(tmp_path):
    data = folder_of(tmp_path / "in", "a.png", "b.png", "c.png")
    first = studies(data, tmp_path / "out", settings={"threshold": 0.5})
    first.finish(first[1], {"density": 0.4})
    second = studies(data, tmp_path / "out", settings={"threshold": 0.5})
    assert [case["study"] for case in second] == ["a", "c"]
    assert len(second.cases) == 3
    # a record broken off in the middle counts as none
    second.record_path("b").write_text('{"study": ')
    assert len(studies(data, tmp_path / "out", settings={"threshold": 0.5})) == 3


def test_results_of_other_settings_weights_inputs_or_tables_are_never_mixed(tmp_path):
    data = folder_of(tmp_path / "in", "a.png")
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"one")
    files = {"weights": weights}
    finish_all(studies(data, tmp_path / "out", settings={"threshold": 0.5}, settings_files=files))
    assert len(studies(data, tmp_path / "out", settings={"threshold": 0.5}, settings_files=files)) == 0

    other = studies(data, tmp_path / "out", settings={"threshold": 0.7}, settings_files=files)
    with pytest.raises(
        ValueError, match=r"threshold differs \(0.5 then, 0.7 now\).*another output_dir, or set overwrite"
    ):
        len(other)
    assert len(studies(data, tmp_path / "out", settings={"threshold": 0.7}, settings_files=files, overwrite=True)) == 1

    weights.write_bytes(b"two")
    with pytest.raises(ValueError, match="weights differs"):
        len(studies(data, tmp_path / "out", settings={"threshold": 0.5}, settings_files=files))
    weights.write_bytes(b"one")
    (data / "studies.csv").write_text("file,fov_mm\na.png,6\n")
    with pytest.raises(ValueError, match="fov_mm differs"):
        len(studies(data, tmp_path / "out", settings={"threshold": 0.5}, settings_files=files))
    (data / "studies.csv").unlink()
    (data / "a.png").write_bytes(b"another image of the same name")
    with pytest.raises(ValueError, match="the input file differs"):
        len(studies(data, tmp_path / "out", settings={"threshold": 0.5}, settings_files=files))


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_processes_share_a_folder_without_gap_or_overlap_whatever_is_finished(tmp_path, processes):
    data = folder_of(tmp_path / "in", *(f"{number}.png" for number in range(5)))
    earlier = studies(data, tmp_path / "out", share=(1, 2))  # an interrupted run with another number of processes
    earlier.finish(earlier[0], {})
    shares = [studies(data, tmp_path / "out", share=(process, processes)) for process in range(processes)]
    assert [len(share.cases) for share in shares] == [5] * processes
    shares[0].finish(shares[0][0], {})  # what one finishes moves nothing to another
    assert sorted(case["study"] for share in shares for case in share) == ["0", "2", "3", "4"]


def test_a_share_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"share is \[2, 2\]: expected a process from 0 to 1"):
        studies(tmp_path, tmp_path / "out", share=(2, 2))
