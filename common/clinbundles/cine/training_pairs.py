"""Pairs of frames of cine exams for training, and how they are varied."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform, RandomizableTransform


class RandFramePaird(RandomizableTransform, MapTransform):
    """Draw a frame t, and give end-diastole and t of all images and labels.

    ``image`` (T, I, J, K) becomes (2, I, J, K), ``lax`` (2, P, H, W), ``planes_label`` (2, M, H, W) and
    ``planes_pose`` (M, 3, 4): all long-axis planes and ``sax_planes`` random short-axis ones; ``wall_displacements``
    (N, 3) at t.

    Args:
        keys: the image.
        sax_planes: short-axis planes whose labels count in one step (paper: 9).
        static: probability to draw t = end-diastole, where there is no motion.
    """

    def __init__(self, keys: str = "image", sax_planes: int = 6, static: float = 0.02) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        self.sax_planes = sax_planes
        self.static = static

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` has the tensors of ``LoadImageCineExamd(labels=True)`` and ``wall_displacements`` (T, N, 3)."""
        sample = dict(data)
        frames, views = sample["image"].shape[0], sample["lax"].shape[1]
        still = frames == 1 or (self.static > 0 and self.R.rand() < self.static)
        frame = 0 if still else int(self.R.randint(1, frames))
        for key in ("image", "lax"):
            sample[key] = sample[key][[0, frame]].float()
        sample["wall_displacements"] = sample["wall_displacements"][frame]
        present = sample["planes_pose"].abs().sum(dim=(1, 2)) > 0
        slices = torch.nonzero(present[views:])[:, 0] + views
        chosen = slices[torch.as_tensor(self.R.permutation(len(slices))[: self.sax_planes])]
        chosen = torch.cat([torch.arange(views), chosen])
        missing = views + self.sax_planes - len(chosen)  # planes that are not there fill the batch up
        label = sample["planes_label"][[0, frame]][:, chosen]
        pose = sample["planes_pose"][chosen]
        if missing:
            label = torch.cat([label, label.new_full((2, missing, *label.shape[2:]), 255)], dim=1)
            pose = torch.cat([pose, pose.new_zeros(missing, 3, 4)])
        sample["planes_label"], sample["planes_pose"] = label, pose
        return sample


class RandDropViewsd(RandomizableTransform, MapTransform):
    """Take long-axis views away from the network, so that it can do without; their labels still teach.

    Args:
        keys: the long-axis images.
        prob: probability to lose each view.
        supervise: whether images and labels of a lost view still count in the loss.
    """

    def __init__(self, keys: str = "lax", prob: float = 0.15, supervise: bool = True) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        self.view_prob = prob
        self.supervise = supervise

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``lax`` and ``lax_pose`` for the network; ``lax_target`` and ``lax_target_pose`` for the loss."""
        sample = dict(data)
        sample.setdefault("lax_target", sample["lax"])
        sample.setdefault("lax_target_pose", sample["lax_pose"])
        lost = torch.as_tensor(self.R.rand(sample["lax_pose"].shape[0]) < self.view_prob)
        sample["lax"] = sample["lax"] * (~lost)[None, :, None, None]
        sample["lax_pose"] = sample["lax_pose"] * (~lost)[:, None, None]
        if not self.supervise:
            label, views = sample["planes_label"].clone(), len(lost)
            label[:, :views][:, lost] = 255
            sample |= {"lax_target": sample["lax"], "lax_target_pose": sample["lax_pose"], "planes_label": label}
        return sample


class RandCineIntensityd(RandomizableTransform, MapTransform):
    """Vary the contrast of each view as scanners do: gamma, scale and offset; flicker and noise of each frame.

    Args:
        keys: images (2, ...) in [0, 1].
        gamma: largest factor of the exponent, drawn log-uniformly from 1 / gamma to gamma.
        scale: largest relative change of the intensity.
        offset: largest offset.
        flicker: largest relative change of a frame's intensity: inflowing blood brightens it through the cycle.
        noise: largest standard deviation of Gaussian noise, of every frame anew.
    """

    def __init__(
        self,
        keys: Any = ("image", "lax"),
        gamma: float = 1.3,
        scale: float = 0.1,
        offset: float = 0.05,
        flicker: float = 0.0,
        noise: float = 0.03,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        self.gamma, self.scale, self.offset, self.flicker, self.noise = gamma, scale, offset, flicker, noise

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the images; what was zero because a view is missing stays zero."""
        sample = dict(data)
        for key in self.keys:
            image = sample[key]
            present = (image.abs().amax(dim=(0, -2, -1), keepdim=True) > 0).to(image.dtype)
            exponent = float(self.gamma ** self.R.uniform(-1, 1))
            factor = 1 + self.scale * float(self.R.uniform(-1, 1))
            shift = self.offset * float(self.R.uniform(-1, 1))
            flicker = 1 + self.flicker * torch.as_tensor(self.R.uniform(-1, 1, len(image)).astype("float32"))
            factors = factor * flicker.reshape(-1, *[1] * (image.ndim - 1))
            grain = torch.as_tensor(self.R.standard_normal(image.shape).astype("float32")) * float(
                self.R.uniform(0, self.noise)
            )
            sample[key] = (image.clamp(min=0) ** exponent * factors + shift + grain).clamp(0, 1) * present
        return sample
