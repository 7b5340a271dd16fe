"""The bundle's network, and the form in which it is trained."""

from __future__ import annotations

from typing import Any

import torch

from clinbundles.motion.multiview_network import PAPER_ENCODER, MultiViewMotionNet

TISSUES = ("background", "LV cavity", "LV myocardium", "RV cavity")


class MultiViewNet(MultiViewMotionNet):
    """``MultiViewMotionNet`` with the sizes of the shipped weights and a shape head of four tissues.

    Its output (B, 7, I, J, K) is the displacement in mm on the domain t (p_ED = p_t + Phi(p_t)), then the logits of
    background, LV cavity, LV myocardium and RV cavity at end-diastole.
    """

    def __init__(
        self, width_3d: int = 12, shape_classes: int = len(TISSUES), shape_width: int = 8, **arguments: Any
    ) -> None:
        super().__init__(width_3d=width_3d, shape_classes=shape_classes, shape_width=shape_width, **arguments)


class PaperNet(MultiViewMotionNet):
    """The widths of Meng et al. (2022): 64 to 512 channels in 2D, 32 to 256 in 3D, views stacked as channels.

    Group normalisation and skip connections stay ours; two classes are the paper's edge map.
    """

    def __init__(self, shape_classes: int = 2, depth: int = 64, views: int = 2, **arguments: Any) -> None:
        sizes: dict[str, Any] = {
            "width_2d": 64,
            "width_3d": 32,
            "fusion": "stacked",
            "encoder": PAPER_ENCODER,
            "levels_3d": 3,
            "coarseness": 1,
            **arguments,
        }
        super().__init__(shape_classes=shape_classes, depth=depth, views=views, **sizes)


class MotionAndShapes(torch.nn.Module):
    """The network as training calls it: field, logits at end-diastole and logits at t, (B, 3 + 2 n, I, J, K).

    A module of its own so that DistributedDataParallel sees one forward pass; the checkpoints hold the network alone.
    """

    def __init__(self, network: MultiViewMotionNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor, lax: torch.Tensor, lax_pose: torch.Tensor) -> torch.Tensor:
        """See ``MultiViewMotionNet.motion_and_shapes``; while validating, what inference gives."""
        if not self.training:
            return self.network(image, lax, lax_pose)
        return self.network.motion_and_shapes(image, lax, lax_pose)
