"""Speed of motion-compensated reconstruction on one thread, in CPU time; ratios against named alternatives.

160 x 160 pixels, 25 frames all to all (625 pairs), 10 coils, lines at R = 16, unless a test says otherwise. The
alternatives run in the same process: the operator of the public research code (all pairs of a target at once, centred
FFTs of every coil, `grid_sample` and its gradient), and the FFT floor: nothing but the transforms that a way coil by
coil cannot avoid, one image at a time so that they stay in the cache.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from motion_compensation_step_by_step import motion_compensated_normal
from pytest_benchmark.fixture import BenchmarkFixture

from clinbundles.mcmr.bilinear_warp import warp, warp_adjoint, warp_flow_gradient
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.initial_image import sense, view_shared
from clinbundles.mcmr.motion_compensated_solve import (
    MotionCompensatedNormal,
    SolveSettings,
    distance_weights,
    solve_motion_compensated,
)
from clinbundles.mcmr.sampling_masks import variable_density_lines

FRAMES, COILS, SIZE = 25, 10, 160

pytestmark = [pytest.mark.benchmarks, pytest.mark.usefixtures("one_thread")]


def encoding_of(coils: int, rows: int = SIZE, columns: int = SIZE, path: str = "auto") -> CoilFourierEncoding:
    maps = torch.randn(coils, rows, columns, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    maps /= torch.linalg.vector_norm(maps, dim=0)
    return CoilFourierEncoding(maps, variable_density_lines(FRAMES, columns, 16, seed=0), path)


def smooth_flow(rows: int = SIZE, columns: int = SIZE) -> torch.Tensor:
    """Flow (T, T, 2, X, Y) of some pixels."""
    noise = torch.randn(FRAMES * FRAMES, 2, rows // 8 + 1, columns // 8 + 1, generator=torch.Generator().manual_seed(2))
    flow = torch.nn.functional.interpolate(3 * noise, (rows, columns), mode="bilinear", align_corners=True)
    return flow.reshape(FRAMES, FRAMES, 2, rows, columns)


def images_of(rows: int = SIZE, columns: int = SIZE) -> torch.Tensor:
    return torch.randn(FRAMES, rows, columns, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def flow() -> torch.Tensor:
    return smooth_flow()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return images_of()


def cpu_s(benchmark: BenchmarkFixture, function: Callable[[], object], rounds: int = 3) -> float:
    benchmark.pedantic(function, rounds=1, warmup_rounds=1)
    return best_cpu_s(function, rounds)


def best_cpu_s(function: Callable[[], object], rounds: int = 3) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def report(benchmark: BenchmarkFixture, **figures: float) -> None:
    benchmark.extra_info.update({name: round(value, 4) for name, value in figures.items()})
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))


def test_normal_operator_is_at_least_12_times_faster_than_the_reference_way(benchmark, flow, images):
    encoding, weights = encoding_of(COILS), distance_weights(FRAMES, 3.0)
    normal = MotionCompensatedNormal(encoding, flow, weights, 0.03)
    ours = cpu_s(benchmark, lambda: normal(images))

    start = time.process_time()
    expected = motion_compensated_normal(encoding.sensitivity_maps, encoding.mask, flow, weights, 0.03, images)
    reference = time.process_time() - start

    by_fft = MotionCompensatedNormal(encoding_of(COILS, path="fft"), flow, weights, 0.03)
    fft = best_cpu_s(lambda: by_fft(images), 1)
    coils = images[:1].repeat(COILS, 1, 1)

    def floor(axes: tuple[int, ...]) -> float:
        def transforms() -> None:
            for _ in range(FRAMES):
                torch.fft.ifftn(torch.fft.fftn(coils, dim=axes), dim=axes)

        return FRAMES * best_cpu_s(transforms)

    floor_2d, floor_1d = floor((-2, -1)), floor((-1,))
    report(
        benchmark,
        normal_s=ours,
        normal_by_fft_s=fft,
        reference_s=reference,
        floor_2d_s=floor_2d,
        floor_1d_s=floor_1d,
        ratio=reference / ours,
        ratio_to_floor_1d=floor_1d / ours,
    )
    assert (normal(images) - expected).norm() < 1e-5 * expected.norm()
    assert reference > 12 * ours
    assert ours < floor_2d


def test_40_coils_cost_at_most_half_more_than_5_on_the_line_path(benchmark, flow, images):
    weights = distance_weights(FRAMES, 3.0)
    normals = [MotionCompensatedNormal(encoding_of(coils), flow, weights, 0.03) for coils in (5, 40)]
    few, many = cpu_s(benchmark, lambda: normals[0](images)), best_cpu_s(lambda: normals[1](images), 4)
    first = best_cpu_s(lambda: encoding_of(40).normal(images, 0), 2) - best_cpu_s(
        lambda: normals[1].encoding.normal(images, 0)
    )
    report(benchmark, coils_5_s=few, coils_40_s=many, ratio=many / few, once_for_40_coils_s=first)
    assert many < 1.5 * few


def test_warp_its_transpose_and_its_derivative(benchmark, flow, images):
    """All 625 pairs, against `grid_sample` with complex images as two channels."""
    pairs = warp(images[:, None], flow)
    channels = torch.view_as_real(pairs).movedim(-1, 2).flatten(0, 1).contiguous()
    grid = (flow.flatten(0, 1).movedim(1, -1).flip(-1) / (SIZE / 2)).contiguous()

    def backward(mask: list[bool]) -> Callable[[], object]:
        return lambda: torch.ops.aten.grid_sampler_2d_backward(channels, channels, grid, 0, 0, True, mask)

    figures = {
        "warp_s": cpu_s(benchmark, lambda: warp(images[:, None], flow)),
        "splat_s": best_cpu_s(lambda: warp_adjoint(pairs, flow)),
        "flow_gradient_s": best_cpu_s(lambda: warp_flow_gradient(images[:, None], flow, pairs)),
        "grid_sample_s": best_cpu_s(
            lambda: torch.nn.functional.grid_sample(channels, grid, padding_mode="zeros", align_corners=True)
        ),
        "grid_sample_transpose_s": best_cpu_s(backward([True, False])),
        "grid_sample_flow_gradient_s": best_cpu_s(backward([False, True])),
    }
    report(benchmark, **figures)
    ours = figures["warp_s"] + figures["splat_s"]
    assert ours < 0.8 * (figures["grid_sample_s"] + figures["grid_sample_transpose_s"])


def test_solve_of_all_frames_takes_its_operator_calls_and_little_more(benchmark, flow, images):
    encoding, weights = encoding_of(COILS), distance_weights(FRAMES, 3.0)
    settings = SolveSettings(tolerance=0, max_iterations=5)
    one = best_cpu_s(lambda: MotionCompensatedNormal(encoding, flow, weights, 0.03)(images))
    solve = cpu_s(
        benchmark,
        lambda: solve_motion_compensated(encoding, images, flow, weights, images, 0.03, settings=settings),
        1,
    )
    report(benchmark, operator_s=one, solve_5_iterations_s=solve, ratio=solve / one)
    assert solve < 6.5 * one


@pytest.mark.parametrize("rows", [48, 64])
@pytest.mark.parametrize("iterations", [5, 10])
def test_training_solve_of_a_strip(benchmark, rows, iterations):
    """25 frames, 4 neighbours on each side, 128 lines, 8 coils: forward, and forward with backward to the flow."""
    encoding, a = encoding_of(8, rows, 128), images_of(rows, 128)
    flow = smooth_flow(rows, 128).requires_grad_()
    weights = distance_weights(FRAMES, 3.0, neighbours=4)
    settings = SolveSettings(tolerance=0, max_iterations=iterations)

    def solve() -> torch.Tensor:
        return solve_motion_compensated(encoding, a, flow, weights, a, 0.03, settings=settings)[0]

    def gradient() -> torch.Tensor:
        flow.grad = None
        solve().abs().square().mean().backward()
        assert flow.grad is not None
        return flow.grad

    with torch.no_grad():
        forward = cpu_s(benchmark, solve)
    both = best_cpu_s(gradient)
    report(benchmark, forward_s=forward, forward_backward_s=both, ratio=both / forward)
    assert both < 3.5 * forward


def test_images_to_start_from(benchmark, images):
    encoding, settings = encoding_of(COILS), SolveSettings(tolerance=0, max_iterations=10)
    report(
        benchmark,
        view_shared_s=cpu_s(benchmark, lambda: view_shared(encoding, images, settings=settings), 1),
        sense_s=best_cpu_s(lambda: sense(encoding, images, settings=settings), 1),
    )


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel's peak of a process is needed")
@pytest.mark.parametrize("frames, neighbours, limit", [(8, None, 0.7), (25, 4, 0.7)])
def test_peak_memory_of_a_training_step(benchmark, frames, neighbours, limit):
    """Growth of the resident memory at its peak, in a fresh process: solve of 10 iterations and its gradients.

    The flow, its gradient, the images and the maps count as well; the libraries and compiled loops do not.
    """
    script = f"""
from pathlib import Path
import torch
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.motion_compensated_solve import SolveSettings, distance_weights, solve_motion_compensated
from clinbundles.mcmr.sampling_masks import variable_density_lines
torch.set_num_threads(1)
def run(frames, coils, size, neighbours):
    maps = torch.randn(coils, size, size, dtype=torch.complex64)
    maps /= torch.linalg.vector_norm(maps, dim=0)
    encoding = CoilFourierEncoding(maps, variable_density_lines(frames, size, 8, 0))
    flow = torch.randn(frames, frames, 2, size, size).requires_grad_()
    prior = torch.randn(frames, size, size, dtype=torch.complex64).requires_grad_()
    weights = distance_weights(frames, 3.0, neighbours=neighbours)
    images, _ = solve_motion_compensated(
        encoding, prior.detach(), flow, weights, prior, 0.03, settings=SolveSettings(0.0, 10)
    )
    images.abs().square().mean().backward()
def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
run(3, 2, 16, None)
Path("/proc/self/clear_refs").write_text("5")
before = peak_kb()
run({frames}, 10, 160, {neighbours})
print(peak_kb() - before)
"""
    output = benchmark.pedantic(lambda: subprocess.check_output([sys.executable, "-c", script]), rounds=1)
    gigabytes = int(output) / 1024**2
    report(benchmark, gigabytes=gigabytes)
    assert gigabytes < limit
