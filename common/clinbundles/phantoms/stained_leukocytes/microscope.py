"""The microscope: focus, light, camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from clinbundles.phantoms.stained_leukocytes.field_of_view import FieldOfView

READ_NOISE = 0.01
"""Standard deviation of the camera's noise, where 1 is the light without a specimen."""


@dataclass(frozen=True)
class Microscope:
    """Settings with which a smear is photographed.

    Attributes:
        blur_um: standard deviation of the Gaussian point spread; more of it is defocus.
        photons: N0, photons per pixel and colour without a specimen.
        gain: (3,) of the colours.
    """

    blur_um: float
    photons: float
    gain: tuple[float, float, float]


def draw_microscope(rng: np.random.Generator) -> Microscope:
    """The settings for a smear."""
    red, green, blue = rng.uniform(0.9, 1.05, 3)
    return Microscope(
        blur_um=float(rng.uniform(0.25, 0.9)),
        photons=float(rng.uniform(150.0, 500.0)),
        gain=(float(red), float(green), float(blue)),
    )


def photograph(
    light: NDArray[np.float64], field: FieldOfView, microscope: Microscope, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Photograph (pixels, pixels, 3) of the light (3, n, n) that the specimen lets through."""
    sigma = microscope.blur_um / field.sample_um
    blurred = gaussian_filter(light, (0.0, sigma, sigma), mode="nearest", truncate=3.0)
    counted = rng.poisson(microscope.photons * field.pixel_means(blurred)) / microscope.photons
    signal = np.asarray(microscope.gain)[:, None, None] * counted + rng.normal(0.0, READ_NOISE, counted.shape)
    return np.round(255.0 * np.clip(signal, 0.0, 1.0)).astype(np.uint8).transpose(1, 2, 0)
