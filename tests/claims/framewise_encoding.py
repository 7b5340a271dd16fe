"""The encoding of a case, and A^H A of all frames at once, one image per frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.coil_fourier_normal import FourierNormal

Case = Mapping[str, Any]


def encoding_of(case: Case) -> CoilFourierEncoding:
    """The encoding of a case with `sensitivity_maps` (N, X, Y) and `mask` (T, Y) or (T, X, Y)."""
    return CoilFourierEncoding(torch.as_tensor(case["sensitivity_maps"]), torch.as_tensor(case["mask"]))


def adjoint_images(case: Case) -> torch.Tensor:
    """A^H y (T, X, Y) of a case's `kspace` (T, N, X, Y)."""
    return encoding_of(case).adjoint(torch.as_tensor(case["kspace"]))


class FramewiseNormal:
    """x (T, X, Y) -> A_t^H A_t x_t of frames with one set of maps."""

    def __init__(self, encoding: CoilFourierEncoding, frames: torch.Tensor | None = None) -> None:
        self.normal = FourierNormal(encoding.sensitivity_maps, encoding.mask)
        self.frames = range(encoding.frames) if frames is None else frames.tolist()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.normal.apply(image, n) for image, n in zip(images, self.frames, strict=True)])
