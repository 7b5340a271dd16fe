"""Rotations and mirrorings of an image: the groups of steerable networks, on images and on regular feature maps.

An element is a mirroring (left to right, or none) followed by k counter-clockwise turns of 360 / N degrees. Elements
are numbered: first the N rotations, then the N mirrored ones. A regular field has one channel per element; element h
moves the content of channel g to channel h g, and turns the image of each channel (Weiler and Cesa 2019, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SymmetryGroup:
    """A cyclic or dihedral group: `rotations` turns per circle, with or without mirroring."""

    rotations: int
    mirrored: bool

    @property
    def order(self) -> int:
        """Number of elements."""
        return self.rotations * (2 if self.mirrored else 1)

    def split(self, element: int) -> tuple[bool, int]:
        """Mirrored or not, and number of turns, of element 0 .. order - 1.

        Raises:
            ValueError: no such element.
        """
        if not 0 <= element < self.order:
            raise ValueError(f"element {element} is not in the group: elements are 0 .. {self.order - 1}")
        return element >= self.rotations, element % self.rotations

    def element(self, mirrored: bool, turns: int) -> int:
        """Number of the element that mirrors (or not), then turns."""
        return turns % self.rotations + (self.rotations if mirrored else 0)

    def product(self, second: int, first: int) -> int:
        """The element that does `first`, then `second`."""
        (mirrored, turns), (mirrored_first, turns_first) = self.split(second), self.split(first)
        # a mirroring inverts the turns that came before it
        return self.element(mirrored != mirrored_first, turns + (-turns_first if mirrored else turns_first))


_GROUPS = {
    "trivial": SymmetryGroup(1, False),
    "D1": SymmetryGroup(1, True),
    "C2": SymmetryGroup(2, False),
    "D2": SymmetryGroup(2, True),
    "C4": SymmetryGroup(4, False),
    "D4": SymmetryGroup(4, True),
    "C8": SymmetryGroup(8, False),
    "D8": SymmetryGroup(8, True),
}
GROUPS = tuple(_GROUPS)


def symmetry_group(name: str) -> SymmetryGroup:
    """The group of a name in `GROUPS`: "trivial", "D1" (mirroring), "C4" (turns), "D4" (both), and so on.

    Raises:
        ValueError: another name.
    """
    if name not in _GROUPS:
        raise ValueError(f"group {name!r} is not known: choose one of {', '.join(GROUPS)}")
    return _GROUPS[name]


def group_order(name: str) -> int:
    """Number of elements of a group in `GROUPS`; channels per regular field."""
    return symmetry_group(name).order


def exact_elements(name: str) -> tuple[int, ...]:
    """Elements that map the pixels of a square image onto pixels: turns by multiples of 90 degrees, mirrored or not."""
    group = symmetry_group(name)
    return tuple(g for g in range(group.order) if 4 * group.split(g)[1] % group.rotations == 0)


def transform_image(image: torch.Tensor, group: str, element: int) -> torch.Tensor:
    """Images (..., H, W) after one element, exactly.

    Raises:
        ValueError: the element turns by 45 degrees, which no pixel grid can do exactly; or no such element.
    """
    mirrored, turns = symmetry_group(group).split(element)
    if element not in exact_elements(group):
        raise ValueError(
            f"element {element} of {group} turns by {360 * turns / symmetry_group(group).rotations:g} degrees, "
            f"which pixels cannot do exactly: use one of exact_elements({group!r}) = {exact_elements(group)}"
        )
    flipped = image.flip(-1) if mirrored else image
    return flipped.rot90(4 * turns // symmetry_group(group).rotations, (-2, -1))


def transform_features(features: torch.Tensor, group: str, element: int) -> torch.Tensor:
    """Regular feature maps (B, F*G, H, W) after one element: the channels of each field permuted, the images turned.

    Raises:
        ValueError: as `transform_image`; or channels that are no whole fields.
    """
    table = symmetry_group(group)
    channels = features.shape[1]
    if channels % table.order:
        raise ValueError(f"features have {channels} channels: {group} needs a multiple of {table.order}")
    source = torch.empty(table.order, dtype=torch.int64)
    for g in range(table.order):
        source[table.product(element, g)] = g
    fields = features.unflatten(1, (-1, table.order)).index_select(2, source.to(features.device))
    return transform_image(fields.flatten(1, 2), group, element)
