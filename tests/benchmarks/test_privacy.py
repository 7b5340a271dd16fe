"""Cost of a private training step on one thread, in CPU time and peak memory, against named alternatives.

Alternatives: the same steerable network without privacy, which is the limit, and an ordinary network of the same width
with Opacus' hooks and samplers. All take turns in one process, so that a busy machine slows them alike; the fastest
turn counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from opacus.grad_sample import GradSampleHooks
from opacus.grad_sample.conv import compute_conv_grad_sample
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from clinbundles.privacy.per_sample_gradients.conv_sampler import conv_gradients
from clinbundles.privacy.per_sample_gradients.per_sample_hooks import PerSampleGradients
from clinbundles.privacy.steerable.field_norm import FieldNorm
from clinbundles.privacy.steerable.group_pooling import GroupPooling
from clinbundles.privacy.steerable.steerable_conv import SteerableConv2d

pytestmark = [pytest.mark.benchmarks, pytest.mark.usefixtures("one_thread")]

FIELDS = (4, 8, 8, 8)
POOLED = (0, 2)  # a maximum over 2 x 2 pixels follows these convolutions


def steerable_network() -> nn.Sequential:
    """Four D4 convolutions, 32-64-64-64 channels."""
    layers: list[nn.Module] = []
    for stage, fields in enumerate(FIELDS):
        kind = "regular" if stage else "trivial"
        layers.append(SteerableConv2d(FIELDS[stage - 1] if stage else 3, fields, input_type=kind))
        layers += [nn.MaxPool2d(2)] if stage in POOLED else []
        layers += [nn.Mish(), FieldNorm(fields, groups=4)]
    return nn.Sequential(*layers, GroupPooling(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(FIELDS[-1], 4))


def plain_network() -> nn.Sequential:
    """Ordinary convolutions with the same channels."""
    widths, layers = [8 * fields for fields in FIELDS], list[nn.Module]()
    for stage, width in enumerate(widths):
        layers.append(nn.Conv2d(widths[stage - 1] if stage else 3, width, 3, padding=1))
        layers += [nn.MaxPool2d(2)] if stage in POOLED else []
        layers += [nn.Mish(), nn.GroupNorm(4, width, affine=False)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 4))


def step(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """A step of SGD: private (clipped, noised) when the network has per-sample gradients, ordinary otherwise."""
    parameters = list(network.parameters())

    def run() -> None:
        nn.functional.cross_entropy(network(images), labels, reduction="sum").backward()
        with torch.no_grad():
            if getattr(parameters[0], "grad_sample", None) is not None:
                norms = torch.stack([p.grad_sample.flatten(1).norm(dim=1) for p in parameters]).norm(dim=0)  # type: ignore[attr-defined]
                factors = (1 / (norms + 1e-6)).clamp(max=1)
                for p in parameters:
                    p.grad = torch.tensordot(factors, p.grad_sample, 1) + torch.randn_like(p)  # type: ignore[attr-defined]
                    p.grad_sample = None  # type: ignore[attr-defined]
            for p in parameters:
                assert p.grad is not None
                p.sub_(p.grad, alpha=0.1 / len(images))
                p.grad = None

    return run


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    made: dict[str, nn.Module] = {
        "steerable": steerable_network(),
        "steerable_private": steerable_network(),
        "plain": plain_network(),
        "plain_private": plain_network(),
        "plain_opacus": plain_network(),
    }
    PerSampleGradients(made["steerable_private"])
    PerSampleGradients(made["plain_private"])
    GradSampleHooks(made["plain_opacus"], loss_reduction="sum")
    return made


def turns(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """CPU-seconds of the fastest call of each, one after the other in each round."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            start = time.process_time()
            function()
            times[name].append(time.process_time() - start)
    return {name: min(values[1:]) for name, values in times.items()}


def report(benchmark: BenchmarkFixture, **figures: float) -> None:
    benchmark.extra_info.update({name: round(value, 4) for name, value in figures.items()})
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))


@pytest.mark.parametrize("batch, size, rounds", [(64, 28, 10), (256, 28, 4), (64, 64, 3)])
def test_private_step_costs_at_most_a_third_more(
    benchmark: BenchmarkFixture, batch: int, size: int, rounds: int
) -> None:
    images, labels = torch.randn(batch, 3, size, size), torch.randint(4, (batch,))
    steps = {name: step(network, images, labels) for name, network in networks().items()}
    seconds = turns(steps, rounds)
    benchmark.pedantic(steps["steerable_private"], rounds=1)
    ratio = seconds["steerable_private"] / seconds["steerable"]
    to_opacus = seconds["steerable_private"] / seconds["plain_opacus"]
    ratio_plain = seconds["plain_private"] / seconds["plain"]
    report(benchmark, **seconds, ratio=ratio, ratio_plain=ratio_plain, ratio_to_opacus=to_opacus)
    assert ratio < 1.35
    assert to_opacus < 1
    assert seconds["plain_private"] < seconds["plain_opacus"]


@pytest.mark.parametrize("inputs, outputs, size", [(3, 32, 28), (32, 64, 14), (64, 64, 28)])
def test_grouped_convolution_is_cheaper_than_copied_patches(
    benchmark: BenchmarkFixture, inputs: int, outputs: int, size: int
) -> None:
    layer, images = nn.Conv2d(inputs, outputs, 3, padding=1), torch.randn(64, inputs, size, size)
    gradient = torch.randn(64, outputs, size, size)
    shape = layer.weight.shape
    seconds = turns(
        {
            "grouped": lambda: conv_gradients(layer, [images], gradient),
            "patches": lambda: compute_conv_grad_sample(layer, [images], gradient),
            "sum_over_samples": lambda: nn.grad.conv2d_weight(images, shape, gradient, padding=1),
        },
        5,
    )
    benchmark.pedantic(lambda: conv_gradients(layer, [images], gradient), rounds=1)
    report(benchmark, **seconds)
    ours, theirs = conv_gradients(layer, [images], gradient), compute_conv_grad_sample(layer, [images], gradient)
    assert torch.allclose(ours[layer.weight], theirs[layer.weight], atol=1e-2)
    assert seconds["grouped"] < seconds["patches"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel's peak of a process is needed")
@pytest.mark.parametrize("batch, size", [(64, 28), (256, 28)])
def test_private_step_takes_at_most_15_percent_more_memory(benchmark: BenchmarkFixture, batch: int, size: int) -> None:
    """Growth of the resident memory at its peak over three steps, each network in a fresh process."""
    script = f"""
import sys
from pathlib import Path
import torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_privacy import networks, step
torch.set_num_threads(1)
network = networks()[sys.argv[1]]
images, labels = torch.randn({batch}, 3, {size}, {size}), torch.randint(4, ({batch},))
step(network, images[:2], labels[:2])()
def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
Path("/proc/self/clear_refs").write_text("5")
before = peak_kb()
for _ in range(3):
    step(network, images, labels)()
print(peak_kb() - before)
"""

    def megabytes(name: str) -> float:
        command = [sys.executable, "-W", "ignore", "-c", script, name]
        # each tensor goes back to the system when it is freed: otherwise the heap's history is measured as well
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        return int(subprocess.check_output(command, env=environment)) / 1024

    figures = {name: megabytes(name) for name in ("steerable", "plain_opacus")}
    figures["steerable_private"] = benchmark.pedantic(lambda: megabytes("steerable_private"), rounds=1)
    report(benchmark, **figures, ratio=figures["steerable_private"] / figures["steerable"])
    assert figures["steerable_private"] < 1.15 * figures["steerable"]
    assert figures["steerable_private"] < figures["plain_opacus"]
