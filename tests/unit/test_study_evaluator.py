"""Inference over a folder: a broken study is named, the others are done, memory does not grow, the exit code tells."""

import csv
import json
import tracemalloc

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Lambdad

from clinbundles.data.study_dataset import StudyDataset, StudyFailure, StudyLoader, collate_studies
from clinbundles.data.study_folder import StudyFolder
from clinbundles.engines.study_evaluator import StudyEvaluator
from clinbundles.handlers.study_progress import StudyProgress
from clinbundles.handlers.study_summary import StudySummary


def read_array(path):
    array = np.load(path)
    if array.max() > 9:
        raise ValueError("grey values above 9: another scanner?")
    return MetaTensor(torch.from_numpy(array)[None].float())


def refuse_negative(pred):
    if pred.min() < 0:
        raise ArithmeticError("negative\nprediction")
    return pred


class Doubling(torch.nn.Module):
    def forward(self, image):
        if image.max() == 9:
            raise RuntimeError("out of memory")
        return 2 * image


class Measure:
    def __call__(self, data):
        return {**data, "results": {"mean": float(data["pred"].mean())}}


def make_run(tmp_path, num_workers=0, **changes):
    studies = StudyFolder(tmp_path / "in", tmp_path / "out", extensions=(".npy",), **changes)
    dataset = StudyDataset(studies, Compose([Lambdad("image", read_array)]))
    lines: list[str] = []
    evaluator = StudyEvaluator(
        device="cpu",
        val_data_loader=StudyLoader(dataset, num_workers=num_workers),
        network=Doubling(),
        postprocessing=Compose([Lambdad("pred", refuse_negative), Measure()]),
        studies=studies,
        val_handlers=[StudyProgress(), StudySummary(studies, notice="research only", print_line=lines.append)],
    )
    return evaluator, lines


def write_arrays(tmp_path, **values):
    (tmp_path / "in").mkdir(exist_ok=True)
    for name, value in values.items():
        np.save(tmp_path / "in" / f"{name}.npy", np.full((8, 8), value, dtype=np.float32))


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_kind_of_failure_is_named_and_the_others_are_done(tmp_path, num_workers, caplog):
    write_arrays(tmp_path, a=1, b=2, preprocess=50, network=9, postprocess=-1, z=3)
    (tmp_path / "in" / "broken.npy").write_bytes(b"no array")
    evaluator, lines = make_run(tmp_path, num_workers)
    evaluator.run()

    failures = {row["study"]: row for row in read_csv(tmp_path / "out" / "failures.csv")}
    assert set(failures) == {"broken", "preprocess", "network", "postprocess"}
    assert failures["preprocess"]["error"] == "grey values above 9: another scanner?"
    assert failures["preprocess"]["stage"] == "reading"
    assert failures["network"]["error"] == "RuntimeError: out of memory"
    assert failures["postprocess"]["error"] == "ArithmeticError: negative prediction"
    assert read_csv(tmp_path / "out" / "results.csv") == [
        {"study": "a", "mean": "2.0"},
        {"study": "b", "mean": "4.0"},
        {"study": "z", "mean": "6.0"},
    ]
    assert evaluator.state.completed == 3
    assert evaluator.state.metrics == {"completed_studies": 3, "failed_studies": 4}
    assert "3 of 7 studies have results" in lines[0]
    assert lines[-1] == "research only"
    assert all("Traceback" not in record.getMessage() for record in caplog.records)
    with pytest.raises(SystemExit) as stopped:
        evaluator.exit_if_failed()
    assert stopped.value.code == 3


def test_without_failures_there_is_no_list_of_them_and_the_exit_code_is_zero(tmp_path):
    write_arrays(tmp_path, a=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "failures.csv").write_text("study,stage,error\nold,,\n")
    evaluator, _ = make_run(tmp_path)
    evaluator.run()
    evaluator.exit_if_failed()
    assert not (tmp_path / "out" / "failures.csv").exists()


def test_an_interrupted_run_goes_on_and_the_table_holds_all(tmp_path):
    write_arrays(tmp_path, a=1, b=50)
    make_run(tmp_path)[0].run()
    record = tmp_path / "out" / "a" / "a_done.json"
    before = record.stat().st_mtime_ns
    assert json.loads(record.read_text())["results"] == {"mean": 2.0}
    write_arrays(tmp_path, b=4)
    evaluator, _ = make_run(tmp_path)
    evaluator.run()
    assert evaluator.state.completed == 1
    assert record.stat().st_mtime_ns == before
    assert [row["study"] for row in read_csv(tmp_path / "out" / "results.csv")] == ["a", "b"]


def test_a_folder_that_is_finished_already_is_no_error_and_gets_its_table_again(tmp_path):
    write_arrays(tmp_path, a=1)
    make_run(tmp_path)[0].run()
    (tmp_path / "out" / "results.csv").unlink()
    evaluator, lines = make_run(tmp_path)
    evaluator.run()
    evaluator.exit_if_failed()
    assert "1 of 1 studies" in lines[0]
    assert len(read_csv(tmp_path / "out" / "results.csv")) == 1


def test_a_study_that_fails_when_it_is_redone_no_longer_counts_as_finished(tmp_path):
    write_arrays(tmp_path, a=1, b=2)
    make_run(tmp_path, settings={"threshold": 0.5})[0].run()
    write_arrays(tmp_path, a=50, b=9)  # the one fails in reading, the other in the network
    evaluator, _ = make_run(tmp_path, settings={"threshold": 0.7}, overwrite=True)
    evaluator.run()
    assert len(evaluator.state.failures) == 2
    assert read_csv(tmp_path / "out" / "results.csv") == []
    assert not list((tmp_path / "out").rglob("*_done.json"))


def test_an_interruption_by_the_user_ends_the_run_and_keeps_what_is_done(tmp_path):
    write_arrays(tmp_path, a=1, b=2)
    evaluator, _ = make_run(tmp_path)
    original = evaluator.network.forward
    calls = []

    def forward(image):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(image)

    evaluator.network.forward = forward
    with pytest.raises(KeyboardInterrupt):
        evaluator.run()
    assert (tmp_path / "out" / "a" / "a_done.json").exists()
    assert not (tmp_path / "out" / "b").exists()


def test_a_batch_of_several_studies_is_refused():
    with pytest.raises(ValueError, match="one at a time, got a batch of 2"):
        collate_studies([StudyFailure("a", "", ""), StudyFailure("b", "", "")])


def test_memory_does_not_grow_with_the_number_of_studies(tmp_path):
    """Peak of Python's allocations, tensors from numpy included, over 60 studies against 10 of 0.26 MB each."""
    peaks = []
    for count in (10, 60):
        root = tmp_path / str(count)
        (root / "in").mkdir(parents=True)
        for number in range(count):
            np.save(root / "in" / f"{number:03d}.npy", np.full((256, 256), 1.0, dtype=np.float32))
        evaluator, _ = make_run(root)
        tracemalloc.start()
        evaluator.run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000, f"peak {peaks[0]} bytes for 10 studies, {peaks[1]} for 60"
