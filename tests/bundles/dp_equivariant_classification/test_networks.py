"""The networks: sizes of the papers, exact invariance, and what they refuse."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch

import dp_equivariant_classification
from clinbundles.privacy.steerable.symmetry_group import exact_elements, transform_image
from dp_equivariant_classification.networks import (
    EquivariantResNet9,
    PlainClassifier,
    SteerableClassifier,
    fields_of_width,
)

WEIGHTS = Path(dp_equivariant_classification.__file__).parent / "models" / "model.pt"


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def images(side=28, channels=3, batch=3, dtype=torch.float64):
    return torch.randn(batch, channels, side, side, dtype=dtype, generator=torch.Generator().manual_seed(0))


def test_networks_have_the_sizes_that_are_compared():
    assert parameters(SteerableClassifier()) == 4736
    assert parameters(PlainClassifier()) == 56580  # the same channels
    assert parameters(PlainClassifier(widths=(8, 16, 20))) == 4376  # about the same parameters


def test_the_papers_network_is_theirs_layer_by_layer():
    network = EquivariantResNet9()
    sizes = {name: parameters(part) for name, part in network.named_children()}
    expected = {"conv1": 150, "conv2": 5005, "res1": 2 * 10829, "conv3": 32487, "conv4": 97383, "res2": 2 * 48711}
    assert sizes | expected | {"head": 1570} == sizes
    assert parameters(network) == 255675
    assert [fields_of_width(width, 8) for width in (16, 32)] == [6, 13]
    assert fields_of_width(64, 4) == 39
    assert network(images(32, dtype=torch.float32)).shape == (3, 10)


@pytest.mark.parametrize("group", ["trivial", "D1", "C4", "D4", "C8", "D8"])
def test_logits_do_not_change_under_any_exact_element_of_the_group(group):
    torch.manual_seed(0)
    network = SteerableClassifier(group=group, fields=(2, 2), in_channels=1).double().eval()
    image = images(channels=1)
    with torch.no_grad():
        for element in exact_elements(group):
            turned = network(transform_image(image, group, element))
            torch.testing.assert_close(turned, network(image), rtol=0, atol=1e-12)


def test_the_default_is_invariant_and_an_ordinary_network_is_not():
    torch.manual_seed(0)
    ours, plain, image = SteerableClassifier().double().eval(), PlainClassifier().double().eval(), images()
    with torch.no_grad():
        for network, largest in ((ours, 1e-12), (plain, None)):
            changes = [
                float((network(transform_image(image, "D4", element)) - network(image)).abs().max())
                for element in range(1, 8)
            ]
            if largest is None:
                assert min(changes) > 1e-3
            else:
                assert max(changes) < largest


def test_a_head_with_places_tells_where_a_feature_is():
    network = SteerableClassifier(group="D1", side=7).double()
    assert parameters(network.head) == (8 * 49 + 1) * 4
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    x = images()
    with torch.no_grad():
        assert not torch.allclose(network(x.flip(-1)), network(x), atol=0.1)


def test_the_invariant_head_makes_the_papers_network_invariant_and_their_own_does_not():
    torch.manual_seed(0)
    image = images(16, batch=2)
    turned = torch.rot90(image, 1, (-2, -1))
    with torch.no_grad():
        for invariant in (True, False):
            network = EquivariantResNet9(invariant=invariant).double().eval()
            change = float((network(turned) - network(image)).abs().max())
            assert (change < 1e-10) is invariant


def test_in_training_no_image_changes_the_logits_of_another():
    image = images(dtype=torch.float32)
    other = image.clone()
    other[2] += 1
    for network in (SteerableClassifier(), PlainClassifier()):
        torch.testing.assert_close(network.train()(image)[:2], network(other)[:2], rtol=0, atol=1e-6)


def test_the_network_can_be_copied_pickled_and_scripted():
    network, image = SteerableClassifier().eval(), images(dtype=torch.float32)
    expected = network(image)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), torch.jit.script(network)):
        torch.testing.assert_close(other(image), expected)


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (SteerableClassifier(), (1, 3, 30, 30), "is 30 x 30 pixels: both must be divisible by 4.*--pad_to"),
        (SteerableClassifier(), (1, 3, 28, 32), "is 28 x 32 pixels: a network with rotations takes square images"),
        (SteerableClassifier(), (1, 1, 28, 28), "has 1 channels, the network takes 3"),
        (PlainClassifier(), (1, 3, 28, 30), "divisible by 4"),
        (EquivariantResNet9(), (1, 3, 28, 28), "divisible by 8"),
    ],
)
def test_images_that_do_not_fit_are_refused(network, shape, message):
    with pytest.raises(ValueError, match=message):
        network(torch.zeros(shape))


def test_a_network_that_only_mirrors_takes_images_that_are_not_square():
    assert SteerableClassifier(group="D1", fields=(2, 2))(torch.zeros(1, 3, 28, 32)).shape == (1, 4)


def test_more_poolings_than_blocks_and_unknown_groups_are_refused():
    with pytest.raises(ValueError, match="pools is 4, expected 0 to 3"):
        SteerableClassifier(pools=4)
    with pytest.raises(ValueError, match="'O2'"):
        SteerableClassifier(group="O2")
