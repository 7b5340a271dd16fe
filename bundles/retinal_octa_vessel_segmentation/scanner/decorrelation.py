"""Speckle decorrelation: the signal of OCT angiography, from the physics of complex speckle.

Blood moves between repeated scans, so its speckle changes; tissue stays. With repeats k = 1..n of a pixel::

    g_(k+1) = rho g_k + sqrt(1 - rho^2) w,      A_k = |s g_k + noise|
    D = 1 - mean_k  A_k A_(k+1) / ((A_k^2 + A_(k+1)^2) / 2)

g and w are circular complex Gaussian of variance 1. D is 0 for static tissue without noise and 1 - pi/4 for speckle
that is renewed between scans; amplitudes are Rayleigh distributed (mean / standard deviation 1.913). The measure D is
the one of split-spectrum amplitude decorrelation angiography (Jia et al., Optics Express 20(4), 2012).

Axis letters: H rows, W columns, K repeats, D depths.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter


def complex_gaussian(shape: tuple[int, int], generator: np.random.Generator, grain_px: float = 0.0) -> np.ndarray:
    """Circular complex Gaussian values of variance 1, (H, W) complex64.

    Args:
        shape: (H, W).
        generator: source of randomness.
        grain_px: standard deviation in pixels of the Gaussian that makes neighbours alike; 0 for independent pixels.
    """
    parts: np.ndarray = generator.standard_normal((2, *shape), dtype=np.float32)
    if grain_px > 0:
        # the filter is separable: along each axis it leaves the share "energy" of the variance
        impulse = np.zeros((2 * int(4 * grain_px + 1) + 1,), np.float64)
        impulse[len(impulse) // 2] = 1.0
        energy = (gaussian_filter(impulse, grain_px, mode="constant") ** 2).sum()
        parts = np.stack([gaussian_filter(part, grain_px, mode="wrap") for part in parts]) / np.float32(energy)
    return (parts[0] + 1j * parts[1]) * np.float32(np.sqrt(0.5))


def speckle_amplitudes(
    rho: np.ndarray,
    signal: np.ndarray | float,
    noise: np.ndarray | float,
    repeats: int,
    generator: np.random.Generator,
    grain_px: float = 0.0,
) -> np.ndarray:
    """Amplitudes of repeated scans.

    Args:
        rho: correlation of the speckle between one scan and the next, (H, W) in [0, 1].
        signal: root mean square amplitude of the backscattered light, (H, W) or scalar, 0 or more.
        noise: root mean square amplitude of the detector noise, (H, W) or scalar, 0 or more.
        repeats: number of scans K, at least 2.
        generator: source of randomness.
        grain_px: size of the speckle grains, see `complex_gaussian`; detector noise is independent in every pixel.

    Returns:
        (K, H, W) float32.

    Raises:
        ValueError: if `repeats` is below 2 or `rho` is outside [0, 1].
    """
    if repeats < 2:
        raise ValueError(f"repeats is {repeats}: decorrelation compares at least 2 scans")
    if not (rho.min() >= 0 and rho.max() <= 1):
        raise ValueError(f"rho spans {rho.min():.3g} to {rho.max():.3g}: a correlation lies in [0, 1]")
    rho = rho.astype(np.float32)
    renewed = np.sqrt(1.0 - rho**2)
    amplitudes = np.empty((repeats, *rho.shape), np.float32)
    speckle = complex_gaussian(rho.shape, generator, grain_px)
    for k in range(repeats):
        if k:
            speckle = rho * speckle + renewed * complex_gaussian(rho.shape, generator, grain_px)
        detector = complex_gaussian(rho.shape, generator)
        amplitudes[k] = np.abs(np.asarray(signal, np.float32) * speckle + np.asarray(noise, np.float32) * detector)
    return amplitudes


def amplitude_decorrelation(amplitudes: np.ndarray) -> np.ndarray:
    """D (H, W) in [0, 1] of amplitudes (K, H, W); 0 where both amplitudes of a pair are 0."""
    first, second = amplitudes[:-1], amplitudes[1:]
    power = 0.5 * (first**2 + second**2)
    correlation = np.divide(first * second, power, out=np.ones_like(power), where=power > 0)
    return 1.0 - correlation.mean(axis=0)


def reflectance_weight(amplitudes: np.ndarray, noise: np.ndarray | float) -> np.ndarray:
    """Share (H, W) in [0, 1] with which D is shown where little light returns.

    Detector noise decorrelates by itself, so scanners suppress pixels of a reflectance near the noise (a threshold in
    Jia et al. 2012). Here smoothly: P / (P + 4 noise^2) with P the mean power without noise, cut at 0.

    Args:
        amplitudes: (K, H, W).
        noise: root mean square amplitude of the detector noise, (H, W) or scalar.
    """
    power = np.maximum((amplitudes**2).mean(axis=0) - np.square(noise), 0.0)
    return power / np.maximum(power + 4.0 * np.square(noise), 1e-12)


def projected_decorrelation(
    rho: np.ndarray,
    signal: np.ndarray | float,
    noise: np.ndarray | float,
    repeats: int,
    generator: np.random.Generator,
    grain_px: float = 0.0,
) -> np.ndarray:
    """Mean of D, weighted by reflectance, over the depths of a slab (average projection) and all spectral bands.

    Args:
        rho: correlation at each depth, (D, H, W) in [0, 1]; speckle is independent between entries.
        signal, noise, repeats, generator, grain_px: see `speckle_amplitudes`.

    Returns:
        (H, W) float32.
    """
    total = np.zeros(rho.shape[1:], np.float32)
    for layer in rho:
        amplitudes = speckle_amplitudes(layer, signal, noise, repeats, generator, grain_px)
        total += amplitude_decorrelation(amplitudes) * reflectance_weight(amplitudes, noise)
    return total / len(rho)
