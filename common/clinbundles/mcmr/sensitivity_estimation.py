"""Coil sensitivity maps from the data themselves: ESPIRiT or the coil images of the time average.

Frames that are sampled with different lines have no calibration region each, but their average over time has one:
every line is averaged over the frames that sampled it. The heart's motion blurs that average, which the smooth maps do
not mind.

Source: Uecker et al., ESPIRiT - an eigenvalue approach to autocalibrating parallel MRI, MRM 71 (2014), as SigPy has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sigpy.mri.app
import torch
from torch import Tensor

from clinbundles.mcmr.fourier import ifft2c


def time_average(kspace: Tensor, mask: Tensor) -> Tensor:
    """Average of every sample over the frames that sampled it; zero where none did.

    Args:
        kspace: complex (T, N, X, Y), zero where not sampled.
        mask: (T, Y) or (T, X, Y).

    Returns:
        (N, X, Y).
    """
    count = _over_readout(mask).sum(dim=0)
    return kspace.sum(dim=0) / count.clamp_min(1).to(kspace.real.dtype)


def missing_centre_lines(mask: Tensor, width: int, readout: int | None = None) -> list[int]:
    """Lines of the centre of k-space that no frame sampled (for masks of samples: not over the centre of the readout).

    Args:
        mask: (T, Y) or (T, X, Y).
        width: number of lines around n // 2, and of readout samples; larger than k-space means all of it.
        readout: samples of the readout to ask for, by default ``width``.
    """
    covered = _over_readout(mask).bool().any(dim=0)
    covered = covered[_centre(covered.shape[0], readout or width)] if covered.shape[0] > 1 else covered
    lines = _centre(mask.shape[-1], width)
    return [line for line in range(lines.start, lines.stop) if not bool(covered[:, line].all())]


def espirit_maps(
    kspace: Tensor,
    mask: Tensor,
    *,
    calibration_width: int = 24,
    kernel_width: int = 6,
    threshold: float = 0.02,
    crop: float = 0.9,
    iterations: int = 50,
) -> Tensor:
    """One set of maps by ESPIRiT on the time average.

    The phase is that of the strongest combination of coils, so that it has no jumps where one coil sees nothing.
    The time grows with the square of the number of coils: compress to about 10 coils before.

    Args:
        kspace: complex (T, N, X, Y), zero where not sampled.
        mask: (T, Y) or (T, X, Y).
        calibration_width: lines and readout samples of the centre that are used.
        kernel_width: in samples of k-space.
        threshold: singular values below this share of the largest are noise.
        crop: pixels whose eigenvalue is smaller lie outside the support, where the maps are zero.
        iterations: of the power method.

    Returns:
        (N, X, Y) complex64; the root of the sum of their squares is 1 inside the support and 0 outside.

    Raises:
        ValueError: lines of the centre that no frame sampled (named), wrong widths, no signal.
    """
    average = _calibration(kspace, mask, calibration_width)
    shortest = min(calibration_width, *average.shape[-2:])
    if not 2 <= kernel_width < shortest:
        raise ValueError(f"kernel_width is {kernel_width}, expected 2 to {shortest - 1}, below the calibration width")
    app = sigpy.mri.app.EspiritCalib(
        average.cpu().numpy(),
        calib_width=shortest,
        thresh=threshold,
        kernel_width=kernel_width,
        crop=crop,
        max_iter=iterations,
        show_pbar=False,
    )
    # SigPy divides by the first coil to set the phase, which is 0 / 0 where that coil sees nothing
    with np.errstate(invalid="ignore", divide="ignore"):
        maps = torch.from_numpy(app.run().copy()).to(torch.complex64)
    maps = torch.where(torch.isfinite(torch.view_as_real(maps)).all(-1), maps, torch.zeros_like(maps))
    return _with_smooth_phase(_unit(maps, 0.5), average.cpu()).to(kspace.device)


def time_average_maps(kspace: Tensor, mask: Tensor, *, calibration_width: int = 24, support: float = 0.05) -> Tensor:
    """Coil images of the time average at low resolution, divided by their root sum of squares.

    Args:
        kspace: complex (T, N, X, Y), zero where not sampled.
        mask: (T, Y) or (T, X, Y).
        calibration_width: lines and readout samples of the centre, weighted by a Hann window.
        support: share of the largest root sum of squares below which there is no tissue.

    Returns:
        (N, X, Y) complex64, as :func:`espirit_maps`.

    Raises:
        ValueError: lines of the centre that no frame sampled (named), no signal.
    """
    average = _calibration(kspace, mask, calibration_width)
    windowed = torch.zeros_like(average)
    rows, lines = (_centre(length, calibration_width) for length in average.shape[-2:])
    window = torch.outer(*(_hann(part.stop - part.start) for part in (rows, lines))).to(average.device)
    windowed[:, rows, lines] = average[:, rows, lines] * window
    images = ifft2c(windowed)
    largest = torch.linalg.vector_norm(images, dim=0).max()
    return _with_smooth_phase(_unit(images, float(support * largest)), average).to(torch.complex64)


def _calibration(kspace: Tensor, mask: Tensor, width: int) -> Tensor:
    missing = missing_centre_lines(mask, width)
    if missing:
        lines = _centre(mask.shape[-1], width)
        raise ValueError(
            f"the centre of the time-averaged k-space is not covered: of the lines {lines.start} ... {lines.stop - 1} "
            f"no frame has {named_lines(missing)}, expected every line in at least one frame: give sensitivity maps, "
            "or lower calibration_width"
        )
    average = time_average(kspace, mask)
    if not bool(average.abs().max() > 0):
        raise ValueError("kspace is zero everywhere: maps cannot be estimated")
    return average


def named_lines(lines: Sequence[int]) -> str:
    """Numbers in words: the first 12 of them."""
    return ", ".join(map(str, lines[:12])) + (f" and {len(lines) - 12} more" if len(lines) > 12 else "")


def _with_smooth_phase(maps: Tensor, average: Tensor) -> Tensor:
    """Turn the maps so that the combination of coils with the most energy in the calibration region is real."""
    rows, lines = (_centre(length, 24) for length in average.shape[-2:])
    samples = average[:, rows, lines].reshape(average.shape[0], -1)
    strongest = torch.linalg.eigh(samples @ samples.mH)[1][:, -1]
    virtual = torch.einsum("n,nxy->xy", strongest.conj(), maps)  # N coils
    return maps * torch.exp(-1j * torch.angle(virtual))


def _unit(maps: Tensor, least: float) -> Tensor:
    size = torch.linalg.vector_norm(maps, dim=0)
    return torch.where(size > least, maps / size.clamp_min(torch.finfo(size.dtype).tiny), torch.zeros_like(maps))


def _over_readout(mask: Tensor) -> Tensor:
    return mask[:, None, :] if mask.ndim == 2 else mask


def _centre(length: int, width: int) -> slice:
    """The ``width`` indices around length // 2, at most all."""
    width = min(width, length)
    start = length // 2 - width // 2
    return slice(start, start + width)


def _hann(length: int) -> Tensor:
    """A Hann window whose largest value stands at length // 2; its ends are not zero."""
    at = torch.arange(length, dtype=torch.float32) - length // 2
    return torch.cos(torch.pi * at / (length + 1)) ** 2
