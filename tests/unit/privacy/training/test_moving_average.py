from __future__ import annotations

import pytest
import torch

from clinbundles.privacy.moving_average import MovingAverage


def trained(steps, decay):
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 1)
    average = MovingAverage(network, decay)
    history = [network.weight.detach().clone()]
    for step in range(steps):
        network.weight.data += step + 1.0
        history.append(network.weight.detach().clone())
        average.update(network)
    return average, history


def test_average_follows_the_recursion_with_its_warm_up():
    average, history = trained(30, 0.5)
    expected = history[0]
    for step, weight in enumerate(history[1:], start=1):
        old = min(0.5, (1 + step) / (10 + step))
        expected = old * expected + (1 - old) * weight
    torch.testing.assert_close(average.network.weight, torch.nn.Parameter(expected, requires_grad=False))


def test_decay_zero_is_the_network_itself():
    average, history = trained(5, 0.0)
    torch.testing.assert_close(average.network.weight.data, history[-1])


def test_it_goes_on_from_its_state():
    average, _ = trained(7, 0.9)
    other, _ = trained(2, 0.9)
    other.load_state_dict(average.state_dict())
    network = torch.nn.Linear(2, 1)
    average.update(network)
    other.update(network)
    torch.testing.assert_close(other.network.weight, average.network.weight, rtol=0, atol=0)


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match=r"is 1.0, expected in \[0, 1\)"):
        MovingAverage(torch.nn.Linear(1, 1), 1.0)
