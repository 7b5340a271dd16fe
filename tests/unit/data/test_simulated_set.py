from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clinbundles.data import MissingDataError, SimulatedSetError, datalist


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_cases_are_generated_on_first_use_and_then_only_read(write_manifest, simulated_content, tmp_path, capsys):
    path = write_manifest(simulated_content)
    cases = datalist(path, tmp_path / "sets", "training")
    assert "simulating toy" in capsys.readouterr().err
    assert [case["case"] for case in cases] == ["000010", "000011", "000012", "000013"]
    assert np.load(cases[0]["image"]).shape == (4, 4)
    assert cases[0]["layer"] == "SVC"
    stamps = {file: os.stat(file).st_mtime_ns for file in (case["image"] for case in cases)}
    assert datalist(path, tmp_path / "sets", "training") == cases
    assert capsys.readouterr().err == ""
    assert stamps == {file: os.stat(file).st_mtime_ns for file in stamps}


def test_same_seeds_give_the_same_bytes(write_manifest, simulated_content, tmp_path):
    path = write_manifest(simulated_content)
    datalist(path, tmp_path / "a")
    datalist(path, tmp_path / "b", workers=2)
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")


def test_no_two_cases_are_alike(write_manifest, simulated_content, tmp_path):
    cases = datalist(write_manifest(simulated_content), tmp_path)
    assert len({Path(case["image"]).read_bytes() for case in cases}) == 6


def test_records_of_a_case_are_listed_one_by_one_and_limit_counts_cases(write_manifest, simulated_content, tmp_path):
    simulated_content["simulator"] = {"_target_": "toy_simulators.simulate_two_records"}
    path = write_manifest(simulated_content)
    records = datalist(path, tmp_path, "training", limit=2)
    assert [record["case"] for record in records] == ["000010_0", "000010_1", "000011_0", "000011_1"]
    assert [record["label"] for record in records] == [0, 1, 0, 1]
    assert [record["patient"] for record in records] == ["P10", "P10", "P11", "P11"]
    assert len({Path(record["image"]).read_bytes() for record in records}) == 4
    Path(records[3]["image"]).unlink()
    with pytest.raises(MissingDataError, match=r"000011/1\.npy is missing"):
        datalist(path, tmp_path, "training")


def test_broken_off_generation_leaves_no_half_made_case_and_is_resumed(write_manifest, simulated_content, tmp_path):
    fail_at = tmp_path / "fail_at"
    fail_at.write_text("12")
    simulated_content["simulator"] = {
        "_target_": "toy_simulators.simulate_until_broken_off",
        "fail_at": str(fail_at),
    }
    path = write_manifest(simulated_content)
    with pytest.raises(KeyboardInterrupt):
        datalist(path, tmp_path / "sets", "training")
    made = tmp_path / "sets" / "toy"
    assert sorted(entry.name for entry in made.iterdir() if entry.is_dir()) == ["000010", "000011"]
    kept = os.stat(made / "000010" / "image.npy").st_mtime_ns
    fail_at.write_text("-1")
    assert len(datalist(path, tmp_path / "sets", "training")) == 4
    assert os.stat(made / "000010" / "image.npy").st_mtime_ns == kept


def test_leftovers_of_a_killed_process_are_not_taken_for_cases(write_manifest, simulated_content, tmp_path):
    half = tmp_path / "toy" / ".making-11-dead"
    half.mkdir(parents=True)
    (half / "image.npy").write_bytes(b"half")
    cases = datalist(write_manifest(simulated_content), tmp_path, "training")
    assert len(cases) == 4
    assert not half.exists()


def test_killed_process_is_taken_over(write_manifest, simulated_content, tmp_path):
    (tmp_path / "calls").mkdir()
    simulated_content["simulator"] = {"_target_": "toy_simulators.simulate_slowly", "calls": str(tmp_path / "calls")}
    path = write_manifest(simulated_content)
    process = _start(path, tmp_path / "sets")
    while not list((tmp_path / "calls").iterdir()):
        assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    assert len(datalist(path, tmp_path / "sets", "training")) == 4
    assert not list((tmp_path / "sets" / "toy").glob(".making-*"))


def test_two_processes_at_once_make_each_case_once(write_manifest, simulated_content, tmp_path):
    (tmp_path / "calls").mkdir()
    simulated_content["simulator"] = {"_target_": "toy_simulators.simulate_slowly", "calls": str(tmp_path / "calls")}
    path = write_manifest(simulated_content)
    processes = [_start(path, tmp_path / "sets") for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert len(list((tmp_path / "calls").iterdir())) == 4


def _start(manifest: Path, folder: Path) -> subprocess.Popen[str]:
    code = (
        "import json, sys; from clinbundles.data import datalist; "
        "print(json.dumps(datalist(sys.argv[1], sys.argv[2], 'training')))"
    )
    command = [sys.executable, "-c", code, str(manifest), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_changed_arguments_do_not_reuse_the_old_cases(write_manifest, simulated_content, tmp_path):
    datalist(write_manifest(simulated_content), tmp_path, "test")
    simulated_content["simulator"].update(size=5, scale=2.0)
    path = write_manifest(simulated_content)
    for split in ("test", "training"):  # complete, and not yet begun
        with pytest.raises(SimulatedSetError) as caught:
            datalist(path, tmp_path, split)
        assert "size was 4, is now 5" in str(caught.value)
        assert "scale was 'not given', is now 2.0" in str(caught.value)
        assert "Delete that folder" in str(caught.value)
        assert str(tmp_path / "toy") in str(caught.value)


def test_changed_simulator_code_does_not_reuse_the_old_cases(write_manifest, simulated_content, tmp_path, monkeypatch):
    path = write_manifest(simulated_content)
    datalist(path, tmp_path, "test")
    monkeypatch.setattr("toy_simulators.SIMULATOR_REVISION", 2, raising=False)
    with pytest.raises(SimulatedSetError, match="revision was 1, is now 2"):
        datalist(path, tmp_path, "test")


def test_a_longer_split_keeps_the_cases_that_are_there(write_manifest, simulated_content, tmp_path):
    first = datalist(write_manifest(simulated_content), tmp_path, "training", limit=2)
    simulated_content["splits"]["training"]["cases"] = 6
    longer = datalist(write_manifest(simulated_content), tmp_path, "training")
    assert longer[:2] == first
    assert len(longer) == 6


@pytest.mark.parametrize("damage", ["missing", "3 bytes long"])
def test_damaged_case_is_named(write_manifest, simulated_content, tmp_path, damage):
    path = write_manifest(simulated_content)
    image = Path(datalist(path, tmp_path, "test")[1]["image"])
    if damage == "missing":
        image.unlink()
    else:
        image.write_bytes(b"cut")
    with pytest.raises(MissingDataError, match=f"000051/image.npy is {damage}.*delete the folder .*000051"):
        datalist(path, tmp_path, "test")


@pytest.mark.parametrize(
    "simulator, message",
    [
        ({"_target_": "os.system"}, "os.system is refused: the name of a simulator begins with 'simulate'"),
        ({"_target_": "toy_simulators.simulate_nothing"}, "toy_simulators has no function 'simulate_nothing'"),
        ({"_target_": "toy_simulatorz.simulate_noise"}, "cannot be imported"),
        ({"_target_": "toy_simulators.simulate_noise", "sise": 3}, "does not take the manifest's arguments.*'sise'"),
        ({"_target_": "toy_simulators.simulate_without_file"}, "'image' is the file image.npy, but wrote no such"),
        ({"_target_": "toy_simulators.simulate_text_only"}, "returned no file"),
    ],
)
def test_simulators_that_break_the_agreement_are_named(write_manifest, simulated_content, tmp_path, simulator, message):
    simulated_content["simulator"] = simulator
    with pytest.raises(SimulatedSetError, match=message):
        datalist(write_manifest(simulated_content), tmp_path, "test")
    assert not list(tmp_path.glob("toy/0*"))


def test_complete_set_is_read_from_a_read_only_folder(write_manifest, simulated_content, tmp_path):
    path = write_manifest(simulated_content)
    cases = datalist(path, tmp_path / "sets", "test")
    (tmp_path / "sets" / "toy" / ".lock").unlink(missing_ok=True)
    os.chmod(tmp_path / "sets" / "toy", 0o555)
    try:
        assert datalist(path, tmp_path / "sets", "test") == cases
        assert not (tmp_path / "sets" / "toy" / ".lock").exists()
    finally:
        os.chmod(tmp_path / "sets" / "toy", 0o755)


def test_default_folder_is_the_users_cache(write_manifest, simulated_content, tmp_path, monkeypatch):
    monkeypatch.setenv("CLINBUNDLES_CACHE", str(tmp_path / "cache"))
    cases = datalist(write_manifest(simulated_content), None, "test")
    assert Path(cases[0]["image"]).is_relative_to(tmp_path / "cache" / "toy")


def test_record_of_the_set_says_how_it_was_made(write_manifest, simulated_content, tmp_path):
    datalist(write_manifest(simulated_content), tmp_path, "test")
    record = json.loads((tmp_path / "toy" / "set.json").read_text())
    assert record["simulator"] == "toy_simulators.simulate_noise"
    assert record["arguments"] == {"size": 4}
    assert record["made_with"] == {"numpy": np.__version__}
