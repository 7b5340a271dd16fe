"""Speed and memory of the multi-view bundle on one thread: a training step of 4 pairs, an exam of 25 phases.

CPU time, smallest of several rounds. The alternatives run in the same process on the same volumes: MONAI's VoxelMorph
as the claims train it (volume alone, squared differences and smoothness), and stacking of the views' channels, the
paper's fusion. Peak memory is that of a process of its own, PyTorch and MONAI included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import VoxelMorph, VoxelMorphUNet
from pytest_benchmark.fixture import BenchmarkFixture

import cardiac_mri_multiview_motion
from cardiac_mri_multiview_motion.losses import MultiViewLoss
from cardiac_mri_multiview_motion.networks import MotionAndShapes, MultiViewNet
from cardiac_mri_multiview_motion.postprocessing import postprocessing
from cardiac_mri_multiview_motion.preprocessing import preprocessing
from cardiac_mri_multiview_motion.training_pairs import TrainingTensorsd, prepare_pair
from clinbundles.cine.training_pairs import RandFramePaird
from clinbundles.motion.cycle_inferer import CycleInferer
from clinbundles.motion.field_losses import diffusion_energy
from clinbundles.motion.motion_grid import GRID_SPACING_MM
from clinbundles.phantoms.heart.simulated_exam import simulate_heart_exam

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(cardiac_mri_multiview_motion.__file__).parent
VIEWS = ("sax", "lax_2ch", "lax_3ch", "lax_4ch")
PEAK = "print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024)\n"
TRAINING = """
import sys, torch
from cardiac_mri_multiview_motion.losses import MultiViewLoss
from cardiac_mri_multiview_motion.networks import MotionAndShapes, MultiViewNet
torch.set_num_threads(1)
image, targets, extra = torch.load(sys.argv[1], weights_only=True)
network, loss = MotionAndShapes(MultiViewNet()), MultiViewLoss()
optimizer = torch.optim.AdamW(network.parameters())
for _ in range(2):
    optimizer.zero_grad()
    loss(network(image, **extra), targets).backward()
    optimizer.step()
"""
INFERENCE = """
import json, sys, torch
from monai.bundle import run
torch.set_num_threads(1)
run(**json.loads(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, dict[str, Any], dict[str, Any]]:
    """Image, targets and planes of 4 pairs of frames, as the trainer gets them."""
    folder = tmp_path_factory.mktemp("exam")
    case = simulate_heart_exam(folder, 900003, frames=[0.0, 0.2, 0.36], slice_spacing_mm=10.0, wall_points=500)
    files = {key: str(folder / case[key]) for view in VIEWS for key in (view, f"{view}_label")}
    sample = preprocessing(labels=True)(files | {"truth": str(folder / case["truth"])})
    pair = RandFramePaird("image", static=0.0).set_random_state(0)
    items = [pair(TrainingTensorsd("image")(sample)) for _ in range(4)]
    image, targets, _, extra = prepare_pair({key: torch.stack([item[key] for item in items]) for key in items[0]})
    return image, targets, extra


def training_step(network: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def best_s(function: Callable[[], object], rounds: int = 3) -> float:
    """Smallest CPU time: the machine may have other work."""
    times = []
    function()
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def report(benchmark: BenchmarkFixture, **figures: float) -> None:
    benchmark.extra_info.update({name: round(value, 3) for name, value in figures.items()})
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))


def peak_mb(program: str, argument: str) -> int:
    done = subprocess.run([sys.executable, "-c", program + PEAK, argument], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout.splitlines()[-1])


def test_training_step_against_voxelmorph_and_stacked_views(benchmark: BenchmarkFixture, batch: Any) -> None:
    image, targets, extra = batch
    criterion = MultiViewLoss()
    steps = {}
    for fusion in ("geometry", "stacked"):
        network = MotionAndShapes(MultiViewNet(fusion=fusion))
        steps[fusion] = training_step(network, lambda net=network: criterion(net(image, **extra), targets))
    backbone = VoxelMorphUNet(
        spatial_dims=3, in_channels=2, unet_out_channels=16, channels=(8, 16, 16, 16, 16, 16),
        final_conv_channels=(16, 8), kernel_size=3,
    )  # fmt: skip
    voxelmorph = VoxelMorph(backbone=backbone, integration_steps=7, half_res=True, spatial_dims=3)
    first, second = image[:, :1], image[:, 1:]
    in_mm = torch.tensor(GRID_SPACING_MM).reshape(1, 3, 1, 1, 1)

    def voxelmorph_loss() -> torch.Tensor:
        warped, voxels = voxelmorph(first, second)
        return 10 * (warped - second).square().mean() + 0.05 * diffusion_energy(voxels * in_mm)

    benchmark.pedantic(steps["geometry"], rounds=3, warmup_rounds=1)
    geometry, stacked = best_s(steps["geometry"]), best_s(steps["stacked"])
    other = best_s(training_step(voxelmorph, voxelmorph_loss))
    report(
        benchmark,
        step_of_4_pairs_s=geometry,
        stacked_s=stacked,
        voxelmorph_s=other,
        times_stacked=geometry / stacked,
        times_voxelmorph=geometry / other,
    )
    assert geometry < 3 * stacked


def test_memory_of_training(batch: Any, benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    torch.save(batch, tmp_path / "batch.pt")
    report(benchmark, peak_mb=benchmark.pedantic(peak_mb, args=(TRAINING, str(tmp_path / "batch.pt")), rounds=1))


@pytest.mark.parametrize("refine_steps", [0, 120])
def test_exam_of_25_phases(benchmark: BenchmarkFixture, tmp_path: Path, refine_steps: int) -> None:
    case = simulate_heart_exam(tmp_path, 900002, frames=25)
    files = {key: str(tmp_path / case[key]) for key in VIEWS}
    inferer = CycleInferer()
    before, after = preprocessing(native=True), postprocessing(refine_steps=refine_steps)
    networks = {fusion: MultiViewNet(fusion=fusion).eval() for fusion in ("geometry", "stacked")}
    networks["geometry"].load_state_dict(torch.load(ROOT / "models" / "model.pt", weights_only=True))
    sample = before(dict(files))
    inputs = {key: sample[key][None] for key in ("image", "lax", "lax_pose")}

    def fields(fusion: str) -> torch.Tensor:
        with torch.no_grad():
            return inferer(inputs["image"], networks[fusion], inputs["lax"], inputs["lax_pose"])[0]

    def run() -> dict[Any, Any]:
        return after(before(dict(files)) | {"pred": fields("geometry")})

    start = time.process_time()
    assert benchmark.pedantic(run, rounds=1, warmup_rounds=0)["results"]["frames"] == 25
    report(benchmark, exam_s=time.process_time() - start)
    if not refine_steps:
        geometry, stacked = best_s(lambda: fields("geometry"), 2), best_s(lambda: fields("stacked"), 2)
        report(benchmark, fields_s=geometry, stacked_s=stacked, times_stacked=geometry / stacked)


def test_memory_of_inference(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The user's command with figures, over one exam of 25 phases."""
    case = simulate_heart_exam(tmp_path, 900002, frames=25)
    exam = tmp_path / "exams" / "one"
    exam.mkdir(parents=True)
    for key in VIEWS:
        (tmp_path / case[key]).rename(exam / case[key])
    settings = {"config_file": str(ROOT / "configs" / "inference.yaml"), "bundle_root": str(ROOT)}
    settings |= {"dataset_dir": str(exam.parent), "output_dir": str(tmp_path / "out")}
    report(benchmark, peak_mb=benchmark.pedantic(peak_mb, args=(INFERENCE, json.dumps(settings)), rounds=1))
    assert (tmp_path / "out" / "results.csv").is_file()
