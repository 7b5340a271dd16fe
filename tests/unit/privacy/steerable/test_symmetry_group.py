"""Groups of rotations and mirroring: the group laws, and the action on images and feature maps."""

from __future__ import annotations

import itertools

import pytest
import torch

from clinbundles.privacy.steerable.symmetry_group import (
    GROUPS,
    exact_elements,
    group_order,
    symmetry_group,
    transform_features,
    transform_image,
)


@pytest.mark.parametrize("name", GROUPS)
def test_elements_form_a_group(name: str) -> None:
    group = symmetry_group(name)
    elements = range(group.order)
    for a, b, c in itertools.product(elements, repeat=3):
        assert group.product(a, group.product(b, c)) == group.product(group.product(a, b), c)
    for a in elements:
        assert group.product(a, 0) == group.product(0, a) == a
        assert sorted(group.product(a, b) for b in elements) == list(elements)


def test_orders_and_exact_elements() -> None:
    assert [group_order(name) for name in GROUPS] == [1, 2, 2, 4, 4, 8, 8, 16]
    assert len(exact_elements("D4")) == 8
    assert exact_elements("C8") == (0, 2, 4, 6)


@pytest.mark.parametrize("name", ["D1", "C4", "D4", "D8"])
def test_one_element_after_another_is_their_product(name: str) -> None:
    group = symmetry_group(name)
    image, features = torch.randn(2, 3, 6, 6), torch.randn(2, 3 * group.order, 6, 6)
    for a, b in itertools.product(exact_elements(name), repeat=2):
        both = group.product(a, b)
        assert torch.equal(
            transform_image(transform_image(image, name, b), name, a), transform_image(image, name, both)
        )
        twice = transform_features(transform_features(features, name, b), name, a)
        assert torch.equal(twice, transform_features(features, name, both))


def test_turns_are_counter_clockwise_and_mirroring_comes_first() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert transform_image(image, "C4", 1).tolist() == [[2, 4], [1, 3]]
    assert transform_image(image, "D1", 1).tolist() == [[2, 1], [4, 3]]
    assert transform_image(image, "D4", 5).tolist() == [[1, 3], [2, 4]]


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match="group 'D3' is not known: choose one of trivial, D1"):
        group_order("D3")
    with pytest.raises(ValueError, match=r"element 1 of C8 turns by 45 degrees.*\(0, 2, 4, 6\)"):
        transform_image(torch.zeros(4, 4), "C8", 1)
    with pytest.raises(ValueError, match="element 8 is not in the group: elements are 0"):
        transform_image(torch.zeros(4, 4), "D4", 8)
    with pytest.raises(ValueError, match="features have 12 channels: D4 needs a multiple of 8"):
        transform_features(torch.zeros(1, 12, 4, 4), "D4", 0)
