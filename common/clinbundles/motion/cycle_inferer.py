"""Inference over a whole cine: the network sees end-diastole with each frame in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer


class CycleInferer(Inferer):
    """Fields of all frames of a cine.

    Args:
        frames_per_batch: frames that go through the network together; fewer need less memory.
    """

    def __init__(self, frames_per_batch: int = 8) -> None:
        super().__init__()
        if frames_per_batch < 1:
            raise ValueError(f"frames_per_batch must be at least 1, not {frames_per_batch}")
        self.frames_per_batch = frames_per_batch

    def __call__(
        self,
        inputs: torch.Tensor,
        network: Callable[..., torch.Tensor],
        lax: torch.Tensor,
        lax_pose: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Apply ``network`` to (frame 0, frame t) for every t.

        Args:
            inputs: cine of the stack (B, T, I, J, K); frame 0 is end-diastole.
            network: called with image (N, 2, I, J, K), lax (N, 2, P, H, W), lax_pose (N, P, 3, 4).
            lax: cine of the long-axis views (B, T, P, H, W).
            lax_pose: (B, P, 3, 4).
            args: further arguments of the network.
            kwargs: further named arguments of the network.

        Returns:
            (B, T, C, I, J, K), C being the network's channels, the field first.
        """
        if inputs.ndim != 5 or lax.ndim != 5 or inputs.shape[:2] != lax.shape[:2]:
            raise ValueError(
                f"image has shape {tuple(inputs.shape)} and lax {tuple(lax.shape)}: expected (B, T, I, J, K) and "
                "(B, T, P, H, W) with the same frames"
            )
        batch, frames = inputs.shape[:2]
        cine, views = torch.as_tensor(inputs), torch.as_tensor(lax)
        pose = torch.as_tensor(lax_pose)
        fields = []
        for first in range(0, frames, self.frames_per_batch):
            part = list(range(first, min(first + self.frames_per_batch, frames)))
            pairs = [
                torch.stack([values[:, :1].expand(-1, len(part), *values.shape[2:]), values[:, part]], dim=2).flatten(
                    0, 1
                )
                for values in (cine, views)
            ]
            poses = pose[:, None].expand(-1, len(part), -1, -1, -1).flatten(0, 1)
            field = network(*pairs, poses, *args, **kwargs)
            fields.append(field.reshape(batch, len(part), *field.shape[1:]))
        return torch.cat(fields, dim=1)
