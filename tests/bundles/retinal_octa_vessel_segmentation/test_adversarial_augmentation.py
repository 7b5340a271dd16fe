from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.special import betaincinv

from retinal_octa_vessel_segmentation.augmentation.adversarial_augmentation import (
    AdversarialContrast,
    attach_beta_gradient,
    standardise,
)
from retinal_octa_vessel_segmentation.augmentation.random_augmentation import apply_vessel_contrast, draw_contrast_grids

SIDE = 24


class QuantileSampler:
    """Beta values at fixed quantiles: a smooth function of the shape parameters, to check gradients against."""

    def __init__(self, seed):
        self.seed = seed

    def start(self):
        self.generator = np.random.default_rng(self.seed)

    def __call__(self, a, b, generator, where):
        quantile = self.generator.uniform(0.1, 0.9, tuple(where.shape))
        values = betaincinv(a.detach().expand(where.shape).numpy(), b.detach().expand(where.shape).numpy(), quantile)
        return attach_beta_gradient(a, b, torch.from_numpy(values) * where, where)


def batch(count=2):
    generator = torch.Generator().manual_seed(0)
    image = (torch.rand(count, 1, SIDE, SIDE, generator=generator) > 0.7).float() * 0.8
    background = torch.rand(count, 1, SIDE, SIDE, generator=generator)
    return {"image": image, "label": (image > 0).float(), "background": background}


def small_network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 1, 1))


@pytest.mark.parametrize("name", ["delta_a", "delta_b", "noise_a", "noise_b", "gamma"])
def test_gradient_of_a_grid_equals_finite_differences_at_fixed_noise(name):
    data = batch(1)
    image, background = data["image"].double(), data["background"].double()
    grids = draw_contrast_grids(np.random.default_rng(2), 5, (1, 1)).map(lambda grid: grid.double().clamp(0.3, 3))
    weight = torch.rand(image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sampler = QuantileSampler(7)

    def objective(grid):
        sampler.start()
        changed = replace(grids, **{name: grid})
        return (weight * apply_vessel_contrast(image, background, changed, None, sample_field=sampler)).sum()

    grid = getattr(grids, name).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(grid), grid)
    direction = torch.rand(grid.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 0.3
    step = 1e-5
    with torch.no_grad():
        difference = (objective(grid + step * direction) - objective(grid - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=0.01, abs=1e-4)


def test_inner_steps_raise_the_expected_loss():
    data, network = batch(), small_network()
    loss = torch.nn.BCEWithLogitsLoss()
    adversary = AdversarialContrast(network, loss, steps=6, step_rule="sign", step_size=0.3)

    def expected_loss(grids):
        with torch.no_grad():
            losses = [
                loss(
                    network(standardise(adversary._forward(data["image"], data["background"], grids, generator))),
                    data["label"],
                )
                for generator in map(np.random.default_rng, range(40))
            ]
        return float(torch.stack(losses).mean())

    generator = np.random.default_rng(0)
    start = grids = draw_contrast_grids(generator, 9, (2, 1))
    for _ in range(6):
        grids = adversary._ascend(data["image"], data["label"], data["background"], grids, generator)
    assert expected_loss(grids) > expected_loss(start)
    assert all(getattr(grids, f.name).min() >= 0 and getattr(grids, f.name).max() <= 10 for f in fields(grids))


def test_network_is_left_as_it_was():
    network = small_network().train()
    network[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    AdversarialContrast(network, torch.nn.BCEWithLogitsLoss())(batch())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network.training
    assert [p.requires_grad for p in network.parameters()] == [False, True, True, True]
    assert all(p.grad is None for p in network.parameters())


def test_prepare_batch_gives_normalised_image_and_label():
    data = batch()
    image, label = AdversarialContrast(small_network(), torch.nn.BCEWithLogitsLoss())(data, "cpu", non_blocking=True)
    assert image.shape == data["image"].shape
    assert not image.requires_grad
    assert torch.equal(label, data["label"])
    torch.testing.assert_close(image.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(image.std(dim=(1, 2, 3), correction=0), torch.ones(2), atol=1e-4, rtol=0)


def test_same_seed_gives_the_same_batch():
    results = [AdversarialContrast(small_network(), torch.nn.BCEWithLogitsLoss(), seed=5)(batch())[0] for _ in range(2)]
    assert torch.equal(*results)


def test_zero_strengths_only_normalise():
    data = batch()
    adversary = AdversarialContrast(small_network(), torch.nn.BCEWithLogitsLoss(), delta=0, noise=0, gamma=0, steps=0)
    assert torch.equal(adversary(data)[0], standardise(data["image"]))


def test_unknown_step_rule_is_refused():
    with pytest.raises(ValueError, match="step_rule"):
        AdversarialContrast(small_network(), torch.nn.BCEWithLogitsLoss(), step_rule="newton")
