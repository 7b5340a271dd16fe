"""Speed of secure noise beside PyTorch's generator."""

from __future__ import annotations

import time

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from clinbundles.privacy.randomness import SecureRandomness

pytestmark = [pytest.mark.benchmarks, pytest.mark.usefixtures("one_thread")]
PARAMETERS = {"small D4 network": 4_736, "equivariant ResNet-9": 255_675, "wide ResNet": 8_900_000}


def best_of(function, repeats: int = 3) -> float:  # type: ignore[no-untyped-def]
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize("network", PARAMETERS)
def test_secure_noise_of_a_step_costs_at_most_100_ns_a_parameter(benchmark: BenchmarkFixture, network: str) -> None:
    """About ten times `torch.randn`, since each value is made of four Gaussians in float64."""
    n, source = PARAMETERS[network], SecureRandomness()
    benchmark.pedantic(source.normal, args=((n,), 1.0), rounds=5)
    secure = best_of(lambda: source.normal((n,), 1.0))
    ordinary = best_of(lambda: torch.randn(n))
    ordinary64 = best_of(lambda: torch.randn(n, dtype=torch.float64))
    benchmark.extra_info.update(
        ns_per_value=1e9 * secure / n, times_randn=secure / ordinary, times_randn_float64=secure / ordinary64
    )
    print(f"{network}: {1e9 * secure / n:.0f} ns, {secure / ordinary:.1f} x randn, {secure / ordinary64:.1f} x float64")
    assert secure <= 100e-9 * n + 1e-3
