"""Coil-Fourier encoding of a cine: A_s = M_s F S, with each frame's own mask."""

from __future__ import annotations

from functools import cached_property

import torch

from clinbundles.mcmr.coil_fourier_normal import FourierNormal, GramNormal
from clinbundles.mcmr.fourier import fft2c, ifft2c

PATHS = ("auto", "gram", "fft")


class CoilFourierEncoding:
    """A x = mask * fft2c(sensitivity_maps * x), frame by frame, with its adjoint and A^H A.

    Args:
        sensitivity_maps: complex (N, X, Y).
        mask: (T, Y) for line sampling or (T, X, Y), 0 or 1.
        path: how `normal` works: "gram" (readout-wise Gram matrices, line masks only), "fft", or "auto": "gram" for
            line masks, "fft" for others.
    """

    def __init__(self, sensitivity_maps: torch.Tensor, mask: torch.Tensor, path: str = "auto") -> None:
        _check(sensitivity_maps, mask, path)
        if bool(((mask != 0) & (mask != 1)).any()):
            raise ValueError(
                f"mask has values from {float(mask.min()):g} to {float(mask.max()):g}: expected 0 (not sampled) or 1. "
                "Weights of samples belong into the noise whitening"
            )
        self.sensitivity_maps = sensitivity_maps
        self.mask = mask.to(device=sensitivity_maps.device, dtype=sensitivity_maps.real.dtype)
        self.path = path

    @property
    def frames(self) -> int:
        """Number T of frames."""
        return self.mask.shape[0]

    @property
    def plane(self) -> tuple[int, int]:
        """(X, Y)."""
        return self.sensitivity_maps.shape[1], self.sensitivity_maps.shape[2]

    @property
    def has_line_mask(self) -> bool:
        """Whether whole lines along the readout are sampled."""
        return self.mask.ndim == 2

    @cached_property
    def _rows_normal(self) -> GramNormal | FourierNormal:
        if self.path == "gram" or (self.path == "auto" and self.has_line_mask):
            return GramNormal(self.sensitivity_maps, self.mask)
        return FourierNormal(self.sensitivity_maps, self.mask)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """A: complex images (T, X, Y) to k-space (T, N, X, Y)."""
        self._check_frames(images, "images", (self.frames, *self.plane))
        return self._spread_mask() * fft2c(self.sensitivity_maps * images[:, None])

    def adjoint(self, kspace: torch.Tensor) -> torch.Tensor:
        """A^H: k-space (T, N, X, Y) to images (T, X, Y)."""
        self._check_frames(kspace, "kspace", (self.frames, *self.sensitivity_maps.shape))
        return (self.sensitivity_maps.conj() * ifft2c(self._spread_mask() * kspace)).sum(1)

    def normal(self, images: torch.Tensor, frame: int) -> torch.Tensor:
        """A_s^H A_s of K images (K, X, Y), all with the mask of one frame."""
        self._check_frames(images, "images", (images.shape[0], *self.plane))
        if not 0 <= frame < self.frames:
            raise ValueError(f"frame is {frame}: expected a number from 0 to {self.frames - 1}")
        return self.normal_rows(images.transpose(0, 1), frame).transpose(0, 1)

    def normal_rows(self, rows: torch.Tensor, frame: int) -> torch.Tensor:
        """`normal` for images that stand row by row: (X, K, Y)."""
        return self._rows_normal.apply_rows(rows, frame)

    def rows(self, begin: int, end: int) -> CoilFourierEncoding:
        """The encoding of the readout positions from `begin` to `end`, for line masks.

        Its `normal` is that of the whole on these rows, and A^H y may be cropped likewise: with line masks no readout
        position meets another one. Its `forward` makes the k-space of the strip.
        """
        if not self.has_line_mask:
            raise ValueError(
                f"mask has shape {tuple(self.mask.shape)}: only with a line mask (T, Y) can rows be taken apart. "
                "Use the whole image"
            )
        return CoilFourierEncoding(self.sensitivity_maps[:, begin:end], self.mask, self.path)

    def _spread_mask(self) -> torch.Tensor:
        return self.mask[:, None, None, :] if self.has_line_mask else self.mask[:, None]

    def _check_frames(self, values: torch.Tensor, name: str, expected: tuple[int, ...]) -> None:
        if tuple(values.shape) != expected or values.dtype != self.sensitivity_maps.dtype:
            raise ValueError(
                f"{name}: found {tuple(values.shape)} {values.dtype}, expected {expected} "
                f"{self.sensitivity_maps.dtype}, after sensitivity_maps (N, X, Y) "
                f"{tuple(self.sensitivity_maps.shape)} and mask {tuple(self.mask.shape)}"
            )


def _check(sensitivity_maps: torch.Tensor, mask: torch.Tensor, path: str) -> None:
    if path not in PATHS:
        raise ValueError(f"path is {path!r}: expected one of {', '.join(PATHS)}")
    if sensitivity_maps.ndim != 3 or not sensitivity_maps.is_complex():
        raise ValueError(
            f"sensitivity_maps: found {tuple(sensitivity_maps.shape)} {sensitivity_maps.dtype}, expected complex "
            "(N, X, Y)"
        )
    _, rows, columns = sensitivity_maps.shape
    if tuple(mask.shape[1:]) not in ((columns,), (rows, columns)):
        raise ValueError(
            f"mask has shape {tuple(mask.shape)} and sensitivity_maps {tuple(sensitivity_maps.shape)}: expected "
            f"(T, {columns}) or (T, {rows}, {columns}). Check the order of the axes: X is the readout"
        )
    if path == "gram" and mask.ndim != 2:
        raise ValueError(
            f"path is 'gram' and mask has shape {tuple(mask.shape)}: Gram matrices need a line mask (T, {columns}). "
            "Use path='fft'"
        )
