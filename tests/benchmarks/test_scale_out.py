"""Speed of two processes against one, each with one thread: inference over a folder, and training.

Times are those between results, so that the start of Python, which costs each process seconds, is left out.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

import retinal_octa_vessel_segmentation

pytestmark = [
    pytest.mark.benchmarks,
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores"),
]

BUNDLE = Path(retinal_octa_vessel_segmentation.__file__).parent
STUDIES = 24
EPOCHS = 4


def run(folder: Path, processes: int, configs: tuple[str, str], **overrides: object) -> None:
    files = str([str(BUNDLE / "configs" / f"{name}.yaml") for name in configs])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command += ["-m", "monai.bundle", "run", "--bundle_root", str(BUNDLE), "--config_file", files]
    command += [word for name, value in overrides.items() for word in (f"--{name}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


def studies_per_second(folder: Path, processes: int) -> float:
    """Sum of the processes' rates, each from its first study to its last."""
    results = folder / f"results of {processes}"
    options = {"dataset_dir": folder / "images", "output_dir": results, "fov_mm": 3, "overlay": "False"}
    run(folder, processes, ("inference", "multi_gpu_inference"), **options)
    times = [path.stat().st_mtime for path in sorted(results.rglob("*_done.json"))]
    assert len(times) == STUDIES
    shares = [times[process::processes] for process in range(processes)]
    return sum((len(share) - 1) / (max(share) - min(share)) for share in shares)


def seconds_per_epoch(folder: Path, processes: int) -> float:
    """The same number of windows whatever the number of processes: each does its part of them, in batches of four."""
    results = folder / f"training of {processes}"
    options = {"dataset_dir": folder / "sets", "output_dir": results, "epochs": EPOCHS, "val_interval": EPOCHS}
    run(folder, processes, ("train", "multi_gpu_train"), **options, train_cases=4, val_cases=2, workers=0)
    with (results / "history.csv").open(newline="") as file:
        return statistics.median(float(row["seconds"]) for row in list(csv.DictReader(file))[1:-1])


def test_two_processes_do_a_folder_in_little_more_than_half_the_time(
    benchmark: BenchmarkFixture, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    generator = np.random.default_rng(0)
    for number in range(STUDIES):
        picture = generator.integers(0, 255, (304, 304), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "images" / f"{number:02d}.png")
    one = studies_per_second(tmp_path, 1)
    two = benchmark.pedantic(studies_per_second, args=(tmp_path, 2), rounds=1)
    benchmark.extra_info.update(studies_per_second_of_1=one, studies_per_second_of_2=two, speedup=two / one)
    assert two / one >= 1.5


def test_two_processes_train_an_epoch_in_little_more_than_half_the_time(
    benchmark: BenchmarkFixture, tmp_path: Path
) -> None:
    one = seconds_per_epoch(tmp_path, 1)
    two = benchmark.pedantic(seconds_per_epoch, args=(tmp_path, 2), rounds=1)
    benchmark.extra_info.update(seconds_per_epoch_of_1=one, seconds_per_epoch_of_2=two, speedup=one / two)
    assert one / two >= 1.5
