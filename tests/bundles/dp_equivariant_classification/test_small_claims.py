"""The claims at a size for every day: 800 cells, 50 steps. In full: tests/claims."""

from __future__ import annotations

import private_cells
import pytest
import torch
from private_cells import Arm, cells, probabilities, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A steerable and an ordinary network of equal width after the same small private training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(private_cells, "OUTPUT", tmp_path_factory.mktemp("claims"))
        small = {"learning_rate": 2.0, "training_cells": 800, "steps": 50}
        networks = {name: train(Arm(name, 8.0, **small)) for name in ("D4", "CNN, equal width")}
        yield networks, cells(private_cells.ROTATED, "validation", 200)


def right(network, test, turns=0):
    found = probabilities(network, test.images.rot90(turns, (-2, -1))).argmax(1)
    return torch.from_numpy(found) == test.labels


def test_a_quarter_turn_changes_no_prediction_of_the_steerable_network_but_some_of_the_other(trained):
    networks, test = trained
    assert torch.equal(right(networks["D4"], test), right(networks["D4"], test, 1))
    other = [probabilities(networks["CNN, equal width"], test.images.rot90(k, (-2, -1))).argmax(1) for k in (0, 1)]
    assert (other[0] != other[1]).any()


def test_50_private_steps_teach_the_steerable_network_more_than_chance(trained):
    networks, test = trained
    assert right(networks["D4"], test).float().mean() > 0.25 + 3 * (0.25 * 0.75 / 200) ** 0.5
