"""Acquired lines that a reconstruction has not seen, and how well it predicts them.

On lines that were fitted the misfit says little: noise can be fitted as well. On lines that were held out, a wrong
motion shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from clinbundles.mcmr.fourier import READOUT, fft2c, ifftc

KEPT_MIDDLE = 1
"""Lines on each side of the middle of k-space that are never held out: without them a frame has no brightness."""


def hold_out_lines(
    mask: torch.Tensor, share: float, seed: int = 0, kept_middle: int = KEPT_MIDDLE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Split acquired lines by chance, frame by frame, into kept and held-out ones.

    Args:
        mask: (T, Y) or (T, X, Y).
        share: of a frame's lines away from the middle that are held out; at least one line.
        seed: of the choice.
        kept_middle: lines on each side of the middle that are kept.

    Returns:
        Two masks of the same shape: kept and held out.

    Raises:
        ValueError: a share outside 0 to 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share of lines to hold out is {share}: expected between 0 and 1")
    chance = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(mask.shape[0], mask.shape[-1])
    for frame, lines in enumerate(_outer_lines(mask, kept_middle)):
        count = min(max(1, round(share * len(lines))), len(lines) - 1)
        if count > 0:  # the only line stays
            chosen[frame, lines[torch.randperm(len(lines), generator=chance)[:count]]] = 1
    held = mask * _like(chosen, mask)
    return mask - held, held


def interleaved_halves(mask: torch.Tensor, kept_middle: int = KEPT_MIDDLE) -> tuple[torch.Tensor, torch.Tensor]:
    """Two masks with every other acquired line of each frame, the middle lines in both.

    Which half begins changes from frame to frame.
    """
    taken = torch.zeros(mask.shape[0], mask.shape[-1])
    for frame, lines in enumerate(_outer_lines(mask, kept_middle)):
        taken[frame, lines[frame % 2 :: 2]] = 1
    middle = torch.zeros(mask.shape[-1])
    centre = mask.shape[-1] // 2
    middle[centre - kept_middle : centre + kept_middle + 1] = 1
    first = mask * _like(torch.maximum(taken, middle.expand_as(taken)), mask)
    second = mask * _like(1 - taken, mask)
    return first, second


def line_misfits(
    images: torch.Tensor,
    kspace: torch.Tensor,
    sensitivity_maps: torch.Tensor,
    mask: torch.Tensor,
    rows: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Energy of A x - y on each line of a mask, over its readout and all coils, in the order (frame, line).

    Args:
        images: complex (T, X, Y).
        kspace: (T, N, X, Y).
        sensitivity_maps: (N, X, Y).
        mask: (T, Y) or (T, X, Y) of the lines to look at.
        rows: image rows from the first to before the second; None: all. Lines are complete along the readout, so
            that each row has its own share of the misfit (Parseval); with a mask (T, X, Y) they are not, and rows are
            ignored.

    Returns:
        (L,) float64.
    """
    found = []
    for frame, image in enumerate(images):
        sampled = mask[frame] if mask[frame].ndim == 2 else mask[frame].expand(images.shape[1], -1)
        lines = torch.nonzero(sampled.any(0))[:, 0]
        if not len(lines):
            continue
        error = (fft2c(sensitivity_maps * image)[:, :, lines] - kspace[frame][:, :, lines]) * sampled[:, lines]
        if rows is not None and mask.ndim == 2:
            error = ifftc(error, READOUT)[:, rows[0] : rows[1]]
        found.append(error.abs().double().square().sum((0, 1)).cpu())
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


@dataclass(frozen=True)
class LineComparison:
    """Misfits of two reconstructions on the same lines.

    Attributes:
        lines: their number.
        ratio: geometric mean over lines of ours / theirs; every line counts alike, bright or dark.
        lower_bound: of the ratio, two standard errors (of its logarithm, over lines) below it.
    """

    lines: int
    ratio: float
    lower_bound: float


def compare_misfits(ours: torch.Tensor, theirs: torch.Tensor) -> LineComparison:
    """Compare misfits (L,) line by line; lines that either explains exactly are left out. NaN without lines."""
    counted = (ours > 0) & (theirs > 0)
    logarithm = (ours[counted] / theirs[counted]).log()
    number = len(logarithm)
    if number == 0:
        return LineComparison(0, math.nan, math.nan)
    mean = float(logarithm.mean())
    error = float(logarithm.std()) / math.sqrt(number) if number > 1 else math.inf
    return LineComparison(number, math.exp(mean), math.exp(mean - 2 * error))


def _outer_lines(mask: torch.Tensor, kept_middle: int) -> list[torch.Tensor]:
    """Indices of each frame's acquired lines away from the middle."""
    sampled = (mask if mask.ndim == 2 else mask.any(1)).cpu() != 0
    away = (torch.arange(mask.shape[-1]) - mask.shape[-1] // 2).abs() > kept_middle
    return [torch.nonzero(frame & away)[:, 0] for frame in sampled]


def _like(lines: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    lines = lines.to(mask)
    return lines if mask.ndim == 2 else lines[:, None]
