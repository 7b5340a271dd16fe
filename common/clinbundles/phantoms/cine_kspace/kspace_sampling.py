"""From a fine grid to the k-space of the acquisition matrix: truncated Fourier sums, readout oversampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FINE = 3
"""Fine samples per pixel and direction."""

OVERSAMPLING = 2
"""Readout samples per reconstructed one: what lies beside the field of view is filtered away, it does not fold over."""


def fine_coordinates(pixels: int, oversampling: int = 1) -> NDArray[np.float64]:
    """Coordinates (FINE * oversampling * pixels,) of the fine samples in pixels of the reconstruction grid.

    The middle one of each pixel's samples lies on its centre.
    """
    first = pixels // 2 - (oversampling * pixels) // 2
    return np.asarray(first + (np.arange(FINE * oversampling * pixels) - (FINE - 1) / 2) / FINE)


def phase_encoding(pixels: int) -> NDArray[np.complex64]:
    """E (pixels, FINE * pixels): k = E @ picture, centred and orthonormal; everything above the matrix is cut off.

    A picture that is 1 everywhere has the k-space of an image that is 1 everywhere.
    """
    return _fourier(pixels, fine_coordinates(pixels)).astype(np.complex64)


def readout(pixels: int) -> NDArray[np.complex64]:
    """E (pixels, FINE * OVERSAMPLING * pixels) of the readout: sampled more densely, then cut to the field of view."""
    wide = OVERSAMPLING * pixels
    first = pixels // 2 - wide // 2
    samples = _fourier(wide, fine_coordinates(pixels, OVERSAMPLING) - first)
    image = (np.conj(_centred_dft(wide)).T @ samples)[-first : pixels - first]
    return np.asarray((_centred_dft(pixels) @ image).astype(np.complex64))


def _fourier(pixels: int, coordinates: NDArray[np.float64]) -> NDArray[np.complex128]:
    k = np.arange(pixels) - pixels // 2
    wave = np.exp(-2j * np.pi * np.outer(k, coordinates - pixels // 2) / pixels)
    return np.asarray(wave / (FINE * np.sqrt(pixels)))


def _centred_dft(pixels: int) -> NDArray[np.complex128]:
    k = np.arange(pixels) - pixels // 2
    return np.asarray(np.exp(-2j * np.pi * np.outer(k, k) / pixels) / np.sqrt(pixels))
