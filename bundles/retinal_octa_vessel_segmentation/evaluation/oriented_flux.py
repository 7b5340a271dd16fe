"""Optimally oriented flux (OOF): a line filter that does not mix neighbouring vessels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import j1


def oriented_flux_matrix(image: np.ndarray, radius_px: float, sigma_px: float = 1.0) -> np.ndarray:
    """Flux of the smoothed image's gradient through a circle around each pixel, per length of the circle.

    Law and Chung, "Three dimensional curvilinear structure detection using optimally oriented flux", ECCV 2008, in
    two dimensions: Q_ij(x) = 1 / (2 pi r) * integral over |n| = 1 of d_i (G_sigma * I)(x + r n) n_j r dn.
    By the divergence theorem it is the integral of the second derivatives over the disc, hence in Fourier space, u in
    cycles per pixel:
    Q_ij = -2 pi u_i u_j J1(2 pi r |u|) / |u| * exp(-2 pi^2 sigma^2 |u|^2) * I. The image is taken as periodic.

    Args:
        image: float (H, W).
        radius_px: radius r of the circle in pixels.
        sigma_px: standard deviation of the smoothing in pixels.

    Returns:
        float64 (2, 2, H, W), symmetric in the first two axes (row, column).
    """
    u = np.fft.fftfreq(image.shape[0])[:, None]
    v = np.fft.rfftfreq(image.shape[1])[None, :]
    frequency = np.hypot(u, v)
    safe = np.where(frequency > 0, frequency, 1.0)
    kernel = -2 * np.pi * j1(2 * np.pi * radius_px * safe) / safe * np.exp(-2 * (np.pi * sigma_px * frequency) ** 2)
    spectrum = np.fft.rfft2(image) * kernel
    entries = [np.fft.irfft2(spectrum * product, s=image.shape) for product in (u * u, u * v, v * v)]
    return np.array([[entries[0], entries[1]], [entries[1], entries[2]]])


def oriented_flux(
    image: np.ndarray, radii_px: Sequence[float] = (1, 2, 3, 4, 5), sigma_px: float = 1.0, black_ridges: bool = False
) -> np.ndarray:
    """Largest inward flux across vessels over all directions and radii, at least 0.

    At the middle of a bright line, flux through the circle across the line is inward (the smaller eigenvalue is
    negative) and that along the line vanishes.

    Args:
        image: float (H, W); mirrored at its borders.
        radii_px: radii to try, in pixels.
        sigma_px: smoothing before, in pixels.
        black_ridges: look for dark lines instead of bright ones.

    Returns:
        float64 (H, W), in grey values per pixel.

    Raises:
        ValueError: when there is no radius or one is not positive.
    """
    radii = [float(radius) for radius in radii_px]
    if not radii or min(radii) <= 0:
        raise ValueError(f"radii_px is {list(radii_px)}, expected at least one positive radius")
    margin = min(int(np.ceil(max(radii) + 4 * sigma_px)), min(image.shape) - 1)
    padded = np.pad(image.astype(float), margin, mode="reflect")
    response = np.zeros(image.shape)
    for radius in radii:
        matrix = oriented_flux_matrix(padded, radius, sigma_px)[:, :, margin:-margin, margin:-margin]
        (a, b), (_, d) = matrix
        spread = np.sqrt(((a - d) / 2) ** 2 + b**2)
        inward = (a + d) / 2 + spread if black_ridges else spread - (a + d) / 2
        np.maximum(response, inward, out=response)
    return response
