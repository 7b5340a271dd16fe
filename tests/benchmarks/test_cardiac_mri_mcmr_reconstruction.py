"""Speed of the MCMR bundle: a training step of all frames; a slice of 30 coils; time over the number of frames."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import torch

from cardiac_mri_mcmr_reconstruction.losses import McmrLoss
from cardiac_mri_mcmr_reconstruction.networks import GroupwiseMotionNet
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import UnrolledSettings, reconstruct
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.motion_compensated_solve import SolveSettings
from clinbundles.mcmr.sampling_masks import variable_density_lines

FRAMES = 25


def _strip(
    rows: int = 64, columns: int = 128, coils: int = 8
) -> tuple[CoilFourierEncoding, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    maps = torch.randn(coils, rows, columns, dtype=torch.complex64)
    maps = maps / maps.abs().square().sum(0).sqrt()
    encoding = CoilFourierEncoding(maps, variable_density_lines(FRAMES, columns, 12, seed=0))
    reference = torch.nn.functional.avg_pool2d(torch.randn(FRAMES, rows, columns), 5, 1, 2).to(torch.complex64)
    return encoding, encoding.adjoint(encoding.forward(reference)), reference


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("mode", "outer_iterations"), [("photometric", 1), ("recon_driven", 1), ("recon_driven", 2)])
def test_training_step_of_25_frames(benchmark, mode: str, outer_iterations: int) -> None:
    encoding, adjoint, reference = _strip()
    network, loss = GroupwiseMotionNet(), McmrLoss(mode)
    settings = UnrolledSettings(outer_iterations=outer_iterations, solve=SolveSettings(1e-3, 15))

    def step() -> None:
        iterates = reconstruct(encoding, adjoint, network, settings, last_solve=mode != "photometric")
        loss([iterates], {"reference": reference[None]}).backward()

    benchmark.pedantic(step, rounds=2, warmup_rounds=1)


@pytest.mark.usefixtures("one_thread")
def test_time_of_the_motion_is_linear_in_the_frames(benchmark) -> None:
    network = GroupwiseMotionNet().eval()

    def seconds(frames: int) -> float:
        cine = torch.rand(1, frames, 128, 128)
        times = []
        for _ in range(3):
            start = time.process_time()
            with torch.no_grad():
                network(cine)
            times.append(time.process_time() - start)
        return min(times)

    seconds(5)
    ratio = benchmark.pedantic(lambda: seconds(40) / seconds(20), rounds=1)
    benchmark.extra_info["40 frames against 20"] = round(ratio, 2)
    assert ratio < 2.3


SLICE = """
import json, resource, sys, time
import torch
torch.set_num_threads(2)
from cardiac_mri_mcmr_reconstruction.cine_inferer import CineInferer
from cardiac_mri_mcmr_reconstruction.networks import GroupwiseMotionNet
from cardiac_mri_mcmr_reconstruction.results.plausibility import CheckPlausibilityd
from clinbundles.kspace import CompressCoilsd, EstimateSensitivityMapsd
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.sampling_masks import variable_density_lines

torch.manual_seed(0)
rows, columns, coils, frames = 192, 156, 30, 25
grid = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
angles = torch.arange(coils) * 2 * torch.pi / coils
size = torch.stack([torch.exp(-((grid[0] - a.cos()) ** 2 + (grid[1] - a.sin()) ** 2)) for a in angles])
maps = torch.polar(size, torch.stack([a + grid[0] * a.sin() for a in angles]))
maps = maps / size.square().sum(0).sqrt()
beat = 0.3 + 0.05 * torch.cos(2 * torch.pi * torch.arange(frames) / frames)
images = torch.sigmoid(40 * (beat[:, None, None] - (grid[0] ** 2 + grid[1] ** 2).sqrt())).to(torch.complex64)
mask = variable_density_lines(frames, columns, 12, seed=0)
kspace = CoilFourierEncoding(maps, mask).forward(images)
kspace += 0.01 * torch.randn_like(kspace) * mask[:, None, None]
sample = {"kspace": kspace, "mask": mask, "case": "slice", "roi": (60, 40, 130, 110), "spacing_mm": torch.ones(2)}
del images, maps
start, spent = time.perf_counter(), time.process_time()
sample = EstimateSensitivityMapsd("espirit")(CompressCoilsd(10)(sample))
inferer, network = CineInferer(refine_steps=90, max_iterations=30), GroupwiseMotionNet().eval()
with torch.no_grad():
    sample["pred"] = inferer(sample["kspace"][None], network, sample["mask"][None], sample["sensitivity_maps"][None])[0]
    CheckPlausibilityd("pred", inferer.settings)(sample)
print(json.dumps({"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - spent,
                  "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2}))
"""


def test_a_slice_of_30_coils_takes_less_than_6_gb(benchmark) -> None:
    """192 x 156, 25 frames at R = 12 on two threads: compression, ESPIRiT, three outer iterations, verdict."""
    output = benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-c", SLICE], check=True, capture_output=True, text=True).stdout,
        rounds=1,
    )
    found = json.loads(output.splitlines()[-1])
    benchmark.extra_info.update({name: round(value, 2) for name, value in found.items()})
    print(found)
    assert found["gigabytes"] < 6
