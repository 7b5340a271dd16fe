"""How close a reconstructed cine is to its reference: PSNR, SSIM, HFEN, NRMSE and the x-t profile.

Images are (T, X, Y), complex or magnitudes; a region is (x0, y0, x1, y1), end excluded. PSNR, SSIM, HFEN and the
profile look at magnitudes, NRMSE at complex values. All are of the whole cine, inside the region if one is given.

Scale: no metric rescales by itself. ``reconstruction_scores`` does so for every method alike, by one least-squares
scalar per cine and region: a real one that fits the magnitudes, and for NRMSE a complex one. Maps from data leave a
smooth phase open, which no scalar takes away: NRMSE compares methods fairly only if reference and images were combined
with the same maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.metrics.regression import SSIMMetric
from torch.nn.functional import conv2d, grid_sample

Region = Sequence[int]
Line = tuple[tuple[float, float], tuple[float, float]]

LOG_SIZE, LOG_SIGMA = (
    13,
    1.5,
)  # pixels (Ravishankar and Bresler, IEEE TMI 2011: 15 x 15; ours as in the MCMR papers' code)
SSIM_WINDOW = 11


def crop(images: torch.Tensor, region: Region | None) -> torch.Tensor:
    """(..., X, Y) inside (x0, y0, x1, y1), end excluded; all of it if None.

    Raises:
        ValueError: a region that is empty or leaves the image.
    """
    if region is None:
        return images
    x0, y0, x1, y1 = (int(edge) for edge in region)
    rows, columns = images.shape[-2:]
    if not (0 <= x0 < x1 <= rows and 0 <= y0 < y1 <= columns):
        raise ValueError(
            f"region (x0, y0, x1, y1) = {(x0, y0, x1, y1)} does not lie in an image of {rows} x {columns} pixels: "
            "expected 0 <= x0 < x1 <= X and 0 <= y0 < y1 <= Y"
        )
    return images[..., x0:x1, y0:y1]


def _pair(
    images: torch.Tensor, reference: torch.Tensor, region: Region | None, magnitude: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both in double precision inside the region, as magnitudes if asked for, after a look at shapes and values."""
    if images.shape != reference.shape or images.ndim != 3:
        raise ValueError(
            f"images has shape {tuple(images.shape)} and reference {tuple(reference.shape)}: expected the same "
            "(T, X, Y)"
        )
    images, reference = (crop(values.detach(), region) for values in (images, reference))
    if not torch.isfinite(torch.view_as_real(images) if images.is_complex() else images).all():
        raise ValueError("images holds values that are not finite: the reconstruction diverged")
    if not reference.abs().max() > 0:
        raise ValueError("reference is zero everywhere in the region: nothing to compare with")
    if magnitude:
        return images.abs().double(), reference.abs().double()
    return images.to(torch.complex128), reference.to(torch.complex128)


def magnitude_scale(images: torch.Tensor, reference: torch.Tensor, region: Region | None = None) -> float:
    """The scalar a >= 0 that makes || a |images| - |reference| || least over the whole cine; 1 for zero images."""
    ours, theirs = _pair(images, reference, region)
    energy = float(ours.square().sum())
    return float((ours * theirs).sum()) / energy if energy > 0 else 1.0


def complex_scale(images: torch.Tensor, reference: torch.Tensor, region: Region | None = None) -> complex:
    """The scalar a that makes ||a images - reference|| least over the whole cine; 1 for zero images."""
    ours, theirs = _pair(images, reference, region, magnitude=False)
    energy = float(ours.abs().square().sum())
    return complex((ours.conj() * theirs).sum()) / energy if energy > 0 else 1.0 + 0j


def psnr(images: torch.Tensor, reference: torch.Tensor, region: Region | None = None) -> float:
    """Peak signal-to-noise ratio in dB: 20 log10(max |reference| / RMSE of magnitudes); inf for identical images."""
    ours, theirs = _pair(images, reference, region)
    error = float((ours - theirs).square().mean().sqrt())
    return 20 * math.log10(float(theirs.max()) / error) if error > 0 else math.inf


def ssim(images: torch.Tensor, reference: torch.Tensor, region: Region | None = None) -> float:
    """Structural similarity of magnitudes, MONAI's, per frame with data range max |reference|; mean over frames.

    Gaussian window of 11 pixels, sigma 1.5, where it fits (Wang et al., IEEE TIP 2004).
    """
    ours, theirs = _pair(images, reference, region)
    if min(ours.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} x {SSIM_WINDOW} pixels, the region has {tuple(ours.shape[-2:])}")
    metric = SSIMMetric(spatial_dims=2, data_range=float(theirs.max()), win_size=SSIM_WINDOW)
    return float(metric(ours[:, None], theirs[:, None]).mean())


def laplacian_of_gaussian(size: int = LOG_SIZE, sigma: float = LOG_SIGMA) -> torch.Tensor:
    """(size, size) float64: Laplacian of a Gaussian whose sum is one, moved to sum zero."""
    place = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    square = place[:, None].square() + place.square()
    gaussian = torch.exp(-square / (2 * sigma**2))
    kernel = gaussian / gaussian.sum() * (square - 2 * sigma**2) / sigma**4
    return kernel - kernel.mean()


def hfen(images: torch.Tensor, reference: torch.Tensor, region: Region | None = None) -> float:
    """High-frequency error norm: ||LoG(|images|) - LoG(|reference|)|| / ||LoG(|reference|)||, 13 x 13, sigma 1.5.

    Only where the kernel fits. It is normalised by the reference, hence not symmetric (Ravishankar and Bresler,
    IEEE TMI 2011).
    """
    ours, theirs = _pair(images, reference, region)
    if min(ours.shape[-2:]) < LOG_SIZE:
        raise ValueError(f"HFEN needs {LOG_SIZE} x {LOG_SIZE} pixels, the region has {tuple(ours.shape[-2:])}")
    kernel = laplacian_of_gaussian().to(ours.device)[None, None]
    edges, true_edges = (conv2d(values[:, None], kernel) for values in (ours, theirs))
    return _relative_norm(edges - true_edges, true_edges)


def nrmse(images: torch.Tensor, reference: torch.Tensor, region: Region | None = None) -> float:
    """||images - reference|| / ||reference||, complex."""
    ours, theirs = _pair(images, reference, region, magnitude=False)
    return _relative_norm(ours - theirs, theirs)


def xt_profile(images: torch.Tensor, line: Line) -> torch.Tensor:
    """(T, L) magnitudes along a line over time, bilinear, one sample per pixel of its length.

    Args:
        images: (T, X, Y).
        line: its two ends (row, column) in pixels, both inside the image.
    """
    ends = torch.tensor(line, dtype=torch.float64, device=images.device)
    last = torch.tensor(images.shape[-2:], dtype=torch.float64, device=images.device) - 1
    if ends.shape != (2, 2) or (ends < 0).any() or (ends > last).any():
        raise ValueError(f"line {line} leaves the image: expected two ends (row, column) within {tuple(last.tolist())}")
    count = round(float((ends[1] - ends[0]).norm())) + 1
    along = torch.linspace(0, 1, count, dtype=torch.float64, device=images.device)[:, None]
    places = (ends[0] + along * (ends[1] - ends[0])) * (2 / last) - 1
    values = images.abs().double()[None]
    found = grid_sample(values, places.flip(-1)[None, None], mode="bilinear", padding_mode="border", align_corners=True)
    return found[0, :, 0]


def middle_line(size: Sequence[int], region: Region | None = None) -> Line:
    """Through the middle of the region (or image) along its columns' axis, from its first column to its last."""
    x0, y0, x1, y1 = region if region is not None else (0, 0, *size[-2:])
    row = (x0 + x1 - 1) / 2
    return (row, float(y0)), (row, float(y1 - 1))


def xt_profile_nrmse(images: torch.Tensor, reference: torch.Tensor, line: Line) -> float:
    """||profile - true profile|| / ||true profile||: how well the motion of edges across the line is kept."""
    _pair(images, reference, None)
    true_profile = xt_profile(reference, line)
    return _relative_norm(xt_profile(images, line) - true_profile, true_profile)


def reconstruction_scores(
    images: torch.Tensor,
    reference: torch.Tensor,
    region: Region | None = None,
    line: Line | None = None,
    rescale: bool = True,
) -> dict[str, float]:
    """All metrics of a cine: psnr (dB), ssim, hfen, nrmse, xt_nrmse.

    Args:
        images: (T, X, Y), complex or magnitudes.
        reference: (T, X, Y).
        region: of the heart, (x0, y0, x1, y1), end excluded.
        line: of the x-t profile; the region's middle line if None.
        rescale: first multiply the images by the one scalar that fits the reference best in the region.
    """
    scaled = images * magnitude_scale(images, reference, region) if rescale else images
    turned = images * complex_scale(images, reference, region) if rescale else images
    return {
        "psnr": psnr(scaled, reference, region),
        "ssim": ssim(scaled, reference, region),
        "hfen": hfen(scaled, reference, region),
        "nrmse": nrmse(turned, reference, region),
        "xt_nrmse": xt_profile_nrmse(scaled, reference, line or middle_line(images.shape, region)),
    }


def _relative_norm(error: torch.Tensor, truth: torch.Tensor) -> float:
    return float(error.abs().square().sum().sqrt() / truth.abs().square().sum().sqrt())
