"""Networks of the bundle: steerable classifiers that rotations of the image leave unchanged, and an ordinary one.

No layer couples the images of a batch, and none has running statistics: both would break the privacy guarantee.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from clinbundles.privacy.steerable.field_norm import FieldNorm, norm_groups
from clinbundles.privacy.steerable.group_pooling import GroupPooling
from clinbundles.privacy.steerable.group_restriction import GroupRestriction
from clinbundles.privacy.steerable.steerable_conv import SteerableConv2d
from clinbundles.privacy.steerable.symmetry_group import group_order

NO_ROTATIONS = ("trivial", "D1")
"""Groups whose symmetry an image that is not square has too."""


class ImageCheck(nn.Module):
    """Refuse images that the network would answer wrongly without a word; pass all others unchanged.

    Args:
        in_channels: channels of the image.
        pools: number of 2 x 2 poolings: the size must be divisible by 2**pools, or pooling drops the last row and
            column, and a rotated image gives other logits.
        square: whether height and width must agree, as rotations by 90 degrees need.

    Raises:
        ValueError: another number of channels, a size that is not divisible, an image that is not square.
    """

    def __init__(self, in_channels: int, pools: int, square: bool) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.multiple = 2**pools
        self.square = square

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The image (B, C, H, W) itself."""
        channels, height, width = image.shape[1], image.shape[2], image.shape[3]
        if channels != self.in_channels:
            raise ValueError(
                f"the image has {channels} channels, the network takes {self.in_channels}: "
                "set network_def#in_channels and train, or convert the image"
            )
        if height % self.multiple != 0 or width % self.multiple != 0:
            raise ValueError(
                f"the image is {height} x {width} pixels: both must be divisible by {self.multiple}, "
                "else pooling drops a border and the logits change when the image is turned. "
                "Pad it on all sides alike (--pad_to) or resize it"
            )
        if self.square and height != width:
            raise ValueError(
                f"the image is {height} x {width} pixels: a network with rotations takes square images. "
                "Crop or pad it, or train with network_def#group D1 or trivial"
            )
        return image


def _block(convolution: nn.Module, norm: nn.Module, pool: bool) -> nn.Sequential:
    return nn.Sequential(convolution, nn.MaxPool2d(2) if pool else nn.Identity(), nn.Mish(), norm)


class SteerableClassifier(nn.Module):
    """Logits that do not change when the image is rotated by 90 degrees or mirrored (for D4, the default).

    Blocks of steerable 3 x 3 convolution, max pooling, Mish and field norm; maximum over the group, mean over the
    image, linear layer. Exact for the symmetries that map pixels onto pixels: multiples of 90 degrees and mirroring; C8
    and D8 are approximate at 45 degrees. 4,736 parameters with the defaults.

    Images are (B, in_channels, H, W), square (unless the group has no rotations) and divisible by 2**pools; logits are
    (B, num_classes). Choose D1 or trivial where turning an image changes what it means, such as a chest X-ray.

    Args:
        in_channels: channels of the image.
        num_classes: number of classes.
        group: "trivial", "D1", "C4", "D4", "C8" or "D8".
        fields: number of fields of each block; a block has fields * |group| channels.
        pools: the first so many blocks halve the image.
        frequency_cutoff: of the filter bases, in multiples of the radius of their rings; None is e2cnn's default.
        side: the linear layer sees the mean of side x side parts of the image. 1 is exactly invariant; more (7 at 28
            pixels) tells where a feature is, for images with an orientation and a group that keeps it (D1, trivial).
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 4,
        group: str = "D4",
        fields: Sequence[int] = (4, 8, 8),
        pools: int = 2,
        frequency_cutoff: float | None = None,
        side: int = 1,
    ) -> None:
        super().__init__()
        if not 0 <= pools <= len(fields):
            raise ValueError(f"pools is {pools}, expected 0 to {len(fields)}: one block pools once at most")
        self.check = ImageCheck(in_channels, pools, square=group not in NO_ROTATIONS)
        blocks = []
        before = in_channels
        for number, now in enumerate(fields):
            convolution = SteerableConv2d(
                before,
                now,
                3,
                group=group,
                input_type="regular" if number else "trivial",
                frequency_cutoff=frequency_cutoff,
            )
            norm = FieldNorm(now, group)
            blocks.append(_block(convolution, norm, number < pools))
            before = now
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.Sequential(GroupPooling(group), nn.AdaptiveAvgPool2d(side), nn.Flatten())
        self.head = nn.Linear(before * side**2, num_classes)
        if side > 1:
            nn.init.zeros_(self.head.weight)  # so many random ones would have to be unlearned through the noise

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, H, W)."""
        return self.head(self.pool(self.blocks(self.check(image))))


class PlainClassifier(nn.Module):
    """The same blocks with ordinary convolutions: what a steerable network is compared with.

    With widths (32, 64, 64) it has the channels of :class:`SteerableClassifier` and 56,580 parameters; with
    (8, 16, 20) about its parameters, 4,376.

    Args:
        in_channels, num_classes, pools: as there.
        widths: channels of each block.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 4,
        widths: Sequence[int] = (32, 64, 64),
        pools: int = 2,
    ) -> None:
        super().__init__()
        self.check = ImageCheck(in_channels, pools, square=False)
        blocks = []
        before = in_channels
        for number, now in enumerate(widths):
            norm = nn.GroupNorm(norm_groups(now), now, affine=False)
            blocks.append(_block(nn.Conv2d(before, now, 3, padding=1), norm, number < pools))
            before = now
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(before, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, H, W)."""
        return self.head(self.pool(self.blocks(self.check(image))))


def fields_of_width(width: int, order: int) -> int:
    """Fields of a steerable layer with about 1.5 times the parameters of ``width`` ordinary channels.

    Hoelzl, Rueckert, Kaissis 2023: the number of parameters is kept whatever the order of the group.
    """
    return int(width * math.sqrt(1.5 * order) / order)


class EquivariantResNet9(nn.Module):
    """The equivariant ResNet-9 of Hoelzl, Rueckert, Kaissis (AISec 2023) with their head: 255,675 parameters for RGB
    and ten classes.

    D4 as far as the third convolution, then restricted to D2 (mirroring, 180 degrees), mean over the four quarters of
    the image, linear layer. Its logits change when the image is turned; ``invariant`` keeps D4 to the end, takes the
    mean over the whole image and is exactly invariant: the choice for images without orientation.

    Images are (B, in_channels, S, S) with S divisible by 8; logits are (B, num_classes).

    Args:
        in_channels, num_classes: as above.
        invariant: the invariant head instead of the paper's.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, invariant: bool = False) -> None:
        super().__init__()
        group, late = "D4", "D4" if invariant else "D2"
        first, second = (fields_of_width(width, group_order(group)) for width in (16, 32))
        third = fields_of_width(64, group_order(late))
        wide = third if invariant else 2 * third
        self.check = ImageCheck(in_channels, pools=3, square=True)
        self.conv1 = _paper_block(in_channels, first, group, lifting=True)
        self.conv2 = _paper_block(first, second, group, pool=True)
        self.res1 = nn.Sequential(_paper_block(second, second, group), _paper_block(second, second, group))
        self.scale1 = FieldNorm(second, group)
        self.conv3 = _paper_block(second, third, group, pool=True)
        self.restriction = nn.Identity() if invariant else GroupRestriction(third, group, late)
        self.conv4 = _paper_block(wide, third, late, pool=True)
        self.res2 = nn.Sequential(_paper_block(third, third, late), _paper_block(third, third, late))
        self.scale2 = FieldNorm(third, late)
        side = 1 if invariant else 2
        self.pool = nn.Sequential(GroupPooling(late), nn.AdaptiveAvgPool2d(side), nn.Flatten())
        self.head = nn.Linear(third * side * side, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, S, S)."""
        features = self.conv2(self.conv1(self.check(image)))
        features = self.scale1(features + self.res1(features))
        features = self.conv4(self.restriction(self.conv3(features)))
        features = self.scale2(features + self.res2(features))
        return self.head(self.pool(features))


def _paper_block(fields: int, out_fields: int, group: str, lifting: bool = False, pool: bool = False) -> nn.Sequential:
    """Convolution, Mish, norm, pooling: another order than in the small networks."""
    return nn.Sequential(
        SteerableConv2d(
            fields,
            out_fields,
            3,
            group=group,
            input_type="trivial" if lifting else "regular",
            frequency_cutoff=3.0,
        ),
        nn.Mish(),
        FieldNorm(out_fields, group),
        nn.MaxPool2d(2) if pool else nn.Identity(),
    )
