"""Speed of the mesh sections and the mesh losses on one thread, in CPU time; ratios against named alternatives.

The mesh has 21 902 vertices and 43 800 faces, as large as the reference's template; 10 short-axis and 2 long-axis
planes of 128 x 128 pixels of 1.25 mm. The alternatives run in the same process: the reference's vertex projection with
weighted Hausdorff distance, and brute force over all pairs, which is how PyTorch3D's chamfer finds neighbours. There is
no wheel of PyTorch3D: its own code was not run here.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from simple_meshes import axial_plane, ventricle

from clinbundles.rasterizer.chamfer_distance import chamfer_distance
from clinbundles.rasterizer.mesh_regularity import (
    mesh_edge_loss,
    mesh_laplacian_smoothing,
    mesh_normal_consistency,
)
from clinbundles.rasterizer.nearest_points import nearest_by_brute_force
from clinbundles.rasterizer.plane_coverage import plane_coverage, stack_coverage
from clinbundles.rasterizer.triangle_mesh import TriangleMesh
from clinbundles.rasterizer.vertex_projection import vertex_projection_loss

SIZE = (128, 128)
PIXEL_MM = 1.25

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def heart() -> tuple[torch.Tensor, torch.Tensor]:
    vertices, faces = ventricle(rows=75, columns=146, dtype=torch.float32, jitter=0.8)
    assert len(vertices) == 21902
    return vertices.requires_grad_(), faces


@pytest.fixture(scope="module")
def planes() -> torch.Tensor:
    short = [axial_plane(-4.0 - 9 * k, 128, PIXEL_MM, torch.float32) for k in range(10)]
    for plane in short:
        plane[2, 2] = 2.0  # slice step of the reference's volume
    long = []
    for angle in (0.0, math.radians(66)):
        plane = torch.zeros(3, 4)
        plane[:, 0] = PIXEL_MM * torch.tensor([math.cos(angle), math.sin(angle), 0.0])
        plane[2, 1] = PIXEL_MM
        plane[:, 2] = 6.0 * torch.tensor([math.sin(angle), -math.cos(angle), 0.0])
        plane[:, 3] = -63.5 * plane[:, 0] - torch.tensor([0.0, 0.0, 45 + 63.5 * PIXEL_MM])
        long.append(plane)
    return torch.stack([*short, *long])


@pytest.fixture(scope="module")
def target(heart: tuple, planes: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return plane_coverage(heart[0] * 0.95, heart[1], planes, SIZE)


def gradient_of(vertices: torch.Tensor, loss: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    return lambda: torch.autograd.grad(loss(), vertices)[0]


def cpu_ms(benchmark: BenchmarkFixture, function: Callable[[], object], rounds: int = 20) -> float:
    """Smallest CPU time: the machine may have other work."""
    result = benchmark.pedantic(function, rounds=rounds, warmup_rounds=2)
    assert result is not None
    return best_cpu_ms(function, rounds)


def best_cpu_ms(function: Callable[[], object], rounds: int = 20) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def report(benchmark: BenchmarkFixture, **figures: float) -> None:
    benchmark.extra_info.update({name: round(value, 2) for name, value in figures.items()})
    print(", ".join(f"{name} {value:.2f}" for name, value in figures.items()))


def test_forward_and_backward_take_at_most_30_ms_and_less_than_vertex_projection(benchmark, heart, planes, target):
    vertices, faces = heart
    contours = (target > 0.02) & (target < 0.98)

    def exact() -> torch.Tensor:
        return ((plane_coverage(vertices, faces, planes, SIZE) - target) ** 2).mean()

    def projection() -> torch.Tensor:
        return vertex_projection_loss(vertices, planes, contours)

    both = cpu_ms(benchmark, gradient_of(vertices, exact))
    with torch.no_grad():
        forward = best_cpu_ms(exact)
        projection_forward = best_cpu_ms(projection)
    projection_both = best_cpu_ms(gradient_of(vertices, projection))
    report(
        benchmark,
        forward_ms=forward,
        forward_backward_ms=both,
        projection_forward_ms=projection_forward,
        projection_forward_backward_ms=projection_both,
        ratio=projection_both / both,
    )
    assert both < 30
    assert projection_both > 2 * both


def test_float64_takes_at_most_30_ms(benchmark, heart, planes, target):
    vertices, faces = heart[0].detach().double().requires_grad_(), heart[1]
    loss = gradient_of(vertices, lambda: ((plane_coverage(vertices, faces, planes, SIZE) - target) ** 2).mean())
    report(benchmark, forward_backward_ms=cpu_ms(benchmark, loss))


def test_a_slab_of_5_planes_costs_less_than_5_times_one(benchmark, heart, planes, target):
    vertices, faces = heart

    def loss(slab_mm: float) -> Callable[[], torch.Tensor]:
        return gradient_of(
            vertices, lambda: ((plane_coverage(vertices, faces, planes, SIZE, slab_mm, 5) - target) ** 2).mean()
        )

    thin, thick = best_cpu_ms(loss(0.0)), cpu_ms(benchmark, loss(8.0))
    report(benchmark, one_ms=thin, slab_ms=thick, ratio=thick / thin)
    assert thick < 5 * thin


@pytest.mark.parametrize("slices", [10, 160])
def test_a_stack_costs_no_more_than_its_planes_in_one_call(benchmark, heart, slices):
    """All slices meet the mesh: most of the time goes into the segments, of which both have the same."""
    vertices, faces = heart
    affine = axial_plane(-90.0, 128, PIXEL_MM, torch.float32)
    affine[2, 2] = 90 / slices
    singles = affine.repeat(slices, 1, 1)
    singles[:, 2, 3] += torch.arange(slices) * affine[2, 2]
    with torch.no_grad():
        together = cpu_ms(benchmark, lambda: stack_coverage(vertices, faces, affine, (*SIZE, slices)))
        apart = best_cpu_ms(lambda: plane_coverage(vertices, faces, singles, SIZE))
    report(benchmark, stack_ms=together, planes_ms=apart, ratio=apart / together)
    assert together < 1.5 * apart


def test_a_stack_costs_the_same_however_many_slices_pass_the_mesh_by(benchmark, heart):
    """10 slices meet the mesh, 0 or 1990 lie above it; images of 4 x 4 pixels, so that only the faces count."""
    vertices, faces = heart
    affine = axial_plane(-85.5, 4, 30.0, torch.float32)
    affine[2, 2] = 9.0
    singles = affine.repeat(2000, 1, 1)
    singles[:, 2, 3] += torch.arange(2000) * affine[2, 2]
    with torch.no_grad():
        many = cpu_ms(benchmark, lambda: stack_coverage(vertices, faces, affine, (4, 4, 2000)))
        few = best_cpu_ms(lambda: stack_coverage(vertices, faces, affine, (4, 4, 10)))
        planes = best_cpu_ms(lambda: plane_coverage(vertices, faces, singles, (4, 4)), 3)
    report(benchmark, slices_10_ms=few, slices_2000_ms=many, planes_2000_ms=planes)
    assert many < 2 * few
    assert many < 0.1 * planes


def test_a_training_batch_of_small_hearts(benchmark):
    """Four frames of 3 000 vertices on 13 planes of 64 x 64 with slabs of 4."""
    vertices, faces = ventricle(rows=30, columns=50, dtype=torch.float32, jitter=0.8)
    frames = torch.stack([vertices * scale for scale in (1.0, 0.97, 0.94, 0.91)]).requires_grad_()
    planes = torch.stack([axial_plane(-4.0 - 6.5 * k, 64, 2.0, torch.float32) for k in range(13)])
    loss = gradient_of(frames, lambda: (plane_coverage(frames, faces, planes, (64, 64), 8.0, 4) ** 2).mean())
    report(benchmark, per_frame_ms=cpu_ms(benchmark, loss) / 4)


@pytest.mark.parametrize(
    "loss",
    [
        lambda mesh: mesh_laplacian_smoothing(mesh, "uniform"),
        lambda mesh: mesh_laplacian_smoothing(mesh, "cot"),
        mesh_edge_loss,
        mesh_normal_consistency,
    ],
    ids=["laplacian_uniform", "laplacian_cot", "edge", "normal_consistency"],
)
def test_regularity_loss(benchmark, heart, loss):
    vertices, faces = heart
    both = cpu_ms(benchmark, gradient_of(vertices, lambda: loss(TriangleMesh(vertices, faces))))
    report(benchmark, forward_backward_ms=both)


def test_chamfer_is_at_least_20_times_faster_than_all_pairs(benchmark, heart):
    vertices, _ = heart
    moved = (vertices.detach() * 0.97 + 1.0)[None]
    x = vertices[None]
    both = cpu_ms(benchmark, gradient_of(vertices, lambda: chamfer_distance(x, moved)[0]), rounds=5)
    start = time.process_time()
    nearest_by_brute_force(x[0], moved[0])
    nearest_by_brute_force(moved[0], x[0])
    all_pairs = 1000 * (time.process_time() - start)
    report(benchmark, forward_backward_ms=both, all_pairs_search_ms=all_pairs, ratio=all_pairs / both)
    assert all_pairs > 20 * both


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel's peak of a process is needed")
@pytest.mark.parametrize("slab_mm, limit", [(0.0, 100), (8.0, 250)])
def test_peak_memory(benchmark, slab_mm, limit):
    """Growth of the resident memory at its peak by forward and backward, in a fresh process: 12 planes, or 60."""
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "slow_references")!r})
from pathlib import Path
import torch
from simple_meshes import axial_plane, ventricle
from clinbundles.rasterizer.plane_coverage import plane_coverage
torch.set_num_threads(1)
vertices, faces = ventricle(75, 146, torch.float32)
planes = torch.stack([axial_plane(-4.0 - 7 * k, 128, 1.25, torch.float32) for k in range(12)])
small = ventricle(8, 12, torch.float32)
def run(vertices, faces, planes):
    vertices.requires_grad_()
    (plane_coverage(vertices, faces, planes, (128, 128), {slab_mm}, 5) ** 2).sum().backward()
def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
run(*small, planes[:1])
Path("/proc/self/clear_refs").write_text("5")
before = peak_kb()
run(vertices, faces, planes)
print(peak_kb() - before)
"""
    output = benchmark.pedantic(lambda: subprocess.check_output([sys.executable, "-c", script]), rounds=1)
    report(benchmark, megabytes=int(output) / 1024)
    assert int(output) / 1024 < limit
