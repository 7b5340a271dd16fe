from __future__ import annotations

import math

import pytest
import torch

from clinbundles.privacy.accounting.plan import PrivacyPlan
from clinbundles.privacy.private_optimizer import PrivateOptimizer
from clinbundles.privacy.randomness import SeededRandomness

UNITS, RATE, CLIP = 40, 0.2, 0.7
EXPECTED = UNITS * RATE
SHAPES = ((3, 4), (5,))


def make(sigma=0.0, clip=CLIP, lr=1.0, shapes=SHAPES):
    plan = PrivacyPlan(UNITS, "record", 9.0 if sigma else math.inf, 1e-3, RATE, 100, sigma, clip)
    parameters = [torch.nn.Parameter(torch.zeros(shape, dtype=torch.double)) for shape in shapes]
    return PrivateOptimizer(torch.optim.SGD(parameters, lr=lr), plan, SeededRandomness(0))


def gradients(batch, seed=0):
    """Of all sizes, from far below the clipping norm to far above it."""
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** (torch.rand(batch, generator=generator, dtype=torch.double) * 12 - 6)
    made = [torch.randn(batch, *shape, generator=generator, dtype=torch.double) for shape in SHAPES]
    return [g * scale.view(-1, *[1] * (g.ndim - 1)) for g in made]


def update(samples, unit=None, pieces=1):
    """The step of all weights, without noise, times q N: the clipped sum."""
    optimizer = make()
    unit = torch.arange(len(samples[0])) if unit is None else unit
    for rows in torch.arange(len(unit)).chunk(pieces):
        for p, g in zip(optimizer.parameters, samples, strict=True):
            p.grad_sample = g[rows]
        optimizer.gather(unit[rows], int(unit.max()) + 1)
    optimizer.clip()
    optimizer.step()
    return -torch.cat([p.detach().flatten() for p in optimizer.parameters]) * EXPECTED


def clipped(g):
    return g * min(1.0, CLIP / float(g.norm()))


def rows_of(samples):
    return torch.cat([g.flatten(1) for g in samples], 1)


def test_the_update_is_the_sum_of_clipped_gradients_over_the_expected_batch():
    samples = gradients(6)
    torch.testing.assert_close(update(samples), sum(clipped(row) for row in rows_of(samples)))


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_a_batch_of_b_units_never_sums_to_more_than_b_times_the_clipping_norm(batch):
    one_way = [torch.ones(batch, *shape, dtype=torch.double) * 1e3 for shape in SHAPES]
    assert float(update(one_way).norm()) == pytest.approx(batch * CLIP)  # the bound is reached
    for seed in range(5):
        assert float(update(gradients(batch, seed)).norm()) <= batch * CLIP * (1 + 1e-12)


def test_a_loss_a_million_times_as_large_moves_the_sum_by_at_most_the_clipping_norm():
    samples = gradients(8)
    larger = [g.clone() for g in samples]
    for g in larger:
        g[3] *= 1e6
    assert 0 < float((update(larger) - update(samples)).norm()) <= CLIP


def test_a_unit_more_or_less_moves_the_sum_by_at_most_the_clipping_norm():
    samples = gradients(9)
    for left_out in range(9):
        others = [g[torch.arange(9) != left_out] for g in samples]
        assert float((update(samples) - update(others)).norm()) <= CLIP * (1 + 1e-12)


def test_gradients_of_a_unit_are_added_before_they_are_clipped():
    samples, unit = gradients(6), torch.tensor([0, 1, 1, 1, 2, 2])
    rows = rows_of(samples)
    slow = sum(clipped(rows[unit == number].sum(0)) for number in range(3))
    torch.testing.assert_close(update(samples, unit), slow)
    torch.testing.assert_close(update(samples, unit, pieces=4), slow)


def test_a_unit_whose_gradient_is_not_finite_adds_nothing():
    samples = gradients(4)
    broken = [g.clone() for g in samples]
    broken[0][2, 0, 0] = math.nan
    broken[1][1] = math.inf
    torch.testing.assert_close(update(broken), update([g[[0, 3]] for g in samples]))


def test_noise_has_the_stated_size_and_is_uncorrelated():
    steps, sigma, lr = 600, 1.3, 0.5
    optimizer = make(sigma, lr=lr, shapes=((6, 6), (28,)))
    path = torch.empty(steps + 1, 64, dtype=torch.double)
    for step in range(steps + 1):
        path[step] = torch.cat([p.detach().flatten() for p in optimizer.parameters])
        optimizer.step()
    noise = path.diff(dim=0) * EXPECTED / (lr * CLIP)
    assert float(noise.std()) == pytest.approx(sigma, rel=0.02)
    assert abs(float(noise.mean())) < 4 * sigma / math.sqrt(noise.numel())
    between_weights = torch.corrcoef(noise.T) - torch.eye(64)
    between_steps = torch.corrcoef(torch.stack([noise[:-1].flatten(), noise[1:].flatten()]))[0, 1]
    assert float(between_weights.abs().max()) < 5.5 / math.sqrt(steps)
    assert abs(float(between_steps)) < 4 / math.sqrt(noise.numel())


def test_without_a_clipping_norm_the_update_is_the_ordinary_gradient():
    optimizer = make(clip=math.inf)
    targets = torch.arange(17, dtype=torch.double)
    for part in (2.0, 3.0):
        flat = torch.cat([p.flatten() for p in optimizer.parameters])
        (part * flat * targets).sum().backward()
        optimizer.gather(torch.arange(4), 4)
        optimizer.clip()
    optimizer.step()
    torch.testing.assert_close(torch.cat([p.flatten() for p in optimizer.parameters]), -5 * targets / EXPECTED)


def test_schedulers_change_the_rate_of_the_inner_optimizer():
    optimizer = make()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    optimizer.step()
    scheduler.step()
    assert optimizer.optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_misuse_is_refused():
    optimizer = make()
    optimizer.parameters[0].grad_sample = torch.zeros(2, 3, 4)
    with pytest.raises(RuntimeError, match=r"shape \[3, 4\] has per-sample gradients \[2, 3, 4\], expected 3"):
        optimizer.gather(torch.arange(3), 3)
    optimizer.parameters[0].grad_sample = None
    with pytest.raises(RuntimeError, match="gradients NoneType, expected 3"):
        optimizer.gather(torch.arange(3), 3)
    with pytest.raises(ValueError, match="takes no closure"):
        optimizer.step(lambda: 0.0)
    for p in optimizer.parameters:
        p.grad_sample = torch.zeros(3, *p.shape, dtype=torch.double)
    optimizer.gather(torch.arange(3), 3)
    with pytest.raises(RuntimeError, match=r"call clip\(\) before step\(\)"):
        optimizer.step()
