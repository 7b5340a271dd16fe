"""The bundle's network: both stages on shared image features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from clinbundles.motion.multiview_network import PAPER_ENCODER, MultiViewMotionNet


class MeshMotionNet(torch.nn.Module):
    """Motion field and template field from short-axis stack and long-axis views at end-diastole and t.

    Output (B, 6, I, J, K) in mm of the exam frame. Channels 0 to 2: motion Phi on the domain "ed", p_t = p_ED +
    Phi(p_ED). Channels 3 to 5: the field that takes the template to the subject's end-diastole, p_ED = p + Psi(p);
    it sees end-diastole alone. Both start at zero.

    Args:
        width_2d, width_3d: channels of the first level of the encoder and of the decoders.
        max_template_mm: largest displacement of the template per axis.
        arguments: of ``clinbundles.motion.multiview_network.MultiViewMotionNet``.
    """

    def __init__(
        self,
        width_2d: int = 16,
        width_3d: int = 12,
        max_template_mm: float | Sequence[float] = 40.0,
        **arguments: Any,
    ) -> None:
        super().__init__()
        self.views = MultiViewMotionNet(width_2d=width_2d, width_3d=width_3d, shape_classes=3, **arguments)
        torch.nn.init.zeros_(self.views.shape.last.weight)
        torch.nn.init.zeros_(self.views.shape.last.bias)
        limits = [max_template_mm] * 3 if isinstance(max_template_mm, (int, float)) else max_template_mm
        self.register_buffer("limit_mm", torch.tensor([float(limit) for limit in limits]), persistent=False)

    def forward(self, image: torch.Tensor, lax: torch.Tensor, lax_pose: torch.Tensor) -> torch.Tensor:
        """Fields (B, 6, I, J, K) of image (B, 2, I, J, K), lax (B, 2, P, H, W), lax_pose (B, P, 3, 4)."""
        fields = self.views(image, lax, lax_pose)
        template = torch.tanh(fields[:, 3:]) * self.limit_mm.reshape(1, 3, 1, 1, 1)
        return torch.cat([fields[:, :3], template], dim=1)


class PaperNet(MeshMotionNet):
    """The widths of Meng et al. (2024): 64 to 512 channels in 2D, 32 to 256 in 3D, views stacked as channels.

    Group normalisation, skip connections and the shared encoder stay ours.
    """

    def __init__(self, depth: int = 64, views: int = 2, **arguments: Any) -> None:
        sizes: dict[str, Any] = {
            "width_2d": 64,
            "width_3d": 32,
            "fusion": "stacked",
            "encoder": PAPER_ENCODER,
            "levels_3d": 3,
            "coarseness": 1,
            **arguments,
        }
        super().__init__(depth=depth, views=views, **sizes)
