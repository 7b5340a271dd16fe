"""The bundle's inference as a user runs it: files, broken images, resuming, constant memory."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from python_fork_server import SERVER

from retinal_octa_vessel_segmentation import demo
from retinal_octa_vessel_segmentation.networks import VesselUNet

BUNDLE = Path(demo.__file__).parent
NAMES = ("vessels", "larger_vessels", "labels", "faz", "overlay")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights: what the run does with its files does not depend on them."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(VesselUNet().state_dict(), path)
    return path


def vessel_like(seed, side=104):
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    lines = 0.5 + 0.5 * np.sin(rows / 4 + 3 * np.sin(columns / 15 + seed))
    return (255 * np.clip(lines * 0.7 + 0.2 * generator.random((side, side)), 0, 1)).astype(np.uint8)


def run(folder, *arguments, check=None):
    command = [SERVER.python(), "-m", "monai.bundle", "run", "--bundle_root", str(BUNDLE)]
    command += ["--config_file", str(BUNDLE / "configs" / "inference.yaml"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if check is not None:
        assert result.returncode == check, result.stdout + result.stderr
    return result


def test_a_folder_with_a_broken_file_among_good_ones(tmp_path, weights):
    data = tmp_path / "my images"
    (data / "second visit").mkdir(parents=True)
    Image.fromarray(vessel_like(1)).save(data / "a.png")
    Image.fromarray(vessel_like(2)).save(
        data / "second visit" / "b.tif", resolution_unit=3, x_resolution=1000, y_resolution=1000
    )
    Image.fromarray(vessel_like(3)).save(data / "unknown_size.png")
    (data / "broken.png").write_bytes(b"not an image")
    (data / "studies.csv").write_text("file,fov_mm,eye,layer\na.png,1.04 1.04,OD,SVC\n")
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    arguments = ("--dataset_dir", "my images", "--output_dir", "my results", "--ckpt_path", weights)
    result = run(tmp_path, *arguments, check=3)

    out = tmp_path / "my results"
    with (out / "failures.csv").open(newline="") as file:
        failures = {row["study"]: row["error"] for row in csv.DictReader(file)}
    assert set(failures) == {"broken", "unknown_size"}
    assert "cannot be read as an image" in failures["broken"]
    assert "fov_mm" in failures["unknown_size"]
    assert "Research use only" in result.stdout
    with (out / "results.csv").open(newline="") as file:
        rows = {row["study"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"a", "second visit/b"}
    assert float(rows["a"]["fov_width_mm"]) == pytest.approx(1.04)
    assert float(rows["second visit/b"]["fov_width_mm"]) == pytest.approx(1.04)
    assert rows["a"]["eye"] == "OD"
    assert 0 <= float(rows["a"]["vessel_area_density"]) <= 1

    stem = out / "a" / "a"
    for name in NAMES:
        with Image.open(f"{stem}_{name}.png") as picture:
            if name != "overlay":
                assert picture.size == (104, 104)
                assert picture.info["dpi"][0] == pytest.approx(2540, rel=1e-3)
    vessels = np.asarray(Image.open(f"{stem}_vessels.png"))
    labels = np.asarray(Image.open(f"{stem}_labels.png"))
    assert set(np.unique(vessels)) <= {0, 255}
    assert set(np.unique(labels)) <= {0, 1, 2}
    np.testing.assert_array_equal(vessels > 0, labels > 0)
    with Image.open(f"{stem}_probability.tiff") as picture:
        probability = np.asarray(picture)
        assert float(picture.tag_v2[282]) == pytest.approx(1000)
    assert probability.dtype == np.float32
    assert 0 <= probability.min() <= probability.max() <= 1
    report = json.loads(Path(f"{stem}_biomarkers.json").read_text())
    assert all(row["unit"] for row in report["biomarkers"])
    assert "simulated data" in report["caution"]
    assert not list(out.rglob(".unfinished_*"))
    assert before == {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my images", "my results"]

    # the broken file is mended: only what was missing is done
    stamp = Path(f"{stem}_done.json").stat().st_mtime_ns
    (data / "broken.png").unlink()
    (data / "studies.csv").write_text("file,fov_mm,eye,layer\na.png,1.04 1.04,OD,SVC\nunknown_size.png,1.04,OS,\n")
    result = run(tmp_path, *arguments, check=0)
    assert "2 of 3 studies are finished already" in result.stdout
    assert Path(f"{stem}_done.json").stat().st_mtime_ns == stamp
    assert not (out / "failures.csv").exists()

    # other settings never mix with these results
    result = run(tmp_path, *arguments, "--threshold", "0.6")
    assert result.returncode not in (0, 3)
    assert "threshold differs (0.5 then, 0.6 now)" in result.stderr


def test_an_empty_folder_ends_with_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    result = run(tmp_path, "--dataset_dir", "empty")
    assert result.returncode not in (0, 3)
    assert "dataset_dir 'empty' holds no study: no file ends in .png" in result.stderr


MEMORY = """
import json, re, sys
from monai.bundle import ConfigWorkflow
bundle, data, out, weights = sys.argv[1:]
peaks = {}
workflow = ConfigWorkflow(bundle + "/configs/inference.yaml", workflow_type="infer", logging_file=False,
    dataset_dir=data, output_dir=out, ckpt_path=weights, bundle_root=bundle, fov_mm=1.0, overlay=False,
    **{"network_def#features": [4, 4, 4, 4, 4, 4], "inferer#roi_size": [112, 112]})
workflow.initialize()
from ignite.engine import Events
def note(engine):
    peaks[engine.state.iteration] = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
workflow.parser.get_parsed_content("evaluator").add_event_handler(Events.ITERATION_COMPLETED, note)
workflow.run()
print(json.dumps(peaks))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_is_constant_over_a_folder(tmp_path):
    """Largest resident memory of the whole process after 10 and after 40 images: the difference is noise.

    VmHWM, because getrusage of a child starts at the peak of the process that started it.
    """
    (tmp_path / "in").mkdir()
    for number in range(40):
        Image.fromarray(vessel_like(number)).save(tmp_path / "in" / f"{number:02d}.png")
    torch.save(VesselUNet(features=(4, 4, 4, 4, 4, 4)).state_dict(), tmp_path / "model.pt")
    arguments = [str(BUNDLE), str(tmp_path / "in"), str(tmp_path / "out"), str(tmp_path / "model.pt")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    peaks = {int(key): value / 1024 for key, value in json.loads(result.stdout.splitlines()[-1]).items()}
    print(f"peak memory: {peaks[10]:.0f} MB after 10 images, {peaks[40]:.0f} MB after 40")
    assert peaks[40] - peaks[10] < 20


def test_the_demonstration_explains_itself_and_its_command_is_a_users_command(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        demo.parse_arguments(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for word in ("--input", "--fov-mm", "Research use only", "studies.csv"):
        assert word in text
    options = demo.parse_arguments(["--input", str(tmp_path), "--fov-mm", "3", "4.5"])
    command = demo.inference_command(options, tmp_path, tmp_path / "out")
    assert command[1:5] == ["-m", "monai.bundle", "run", "--bundle_root"]
    assert command[command.index("--fov_mm") + 1] == "[3.0, 4.5]"
    assert command[command.index("--tracking") + 1] == "mlflow"
    with pytest.raises(SystemExit):
        demo.parse_arguments(["--input", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit):
        demo.parse_arguments(["--fov-mm", "1", "2", "3"])
