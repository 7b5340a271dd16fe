"""Classical vessel filters: Otsu, adaptive threshold, Frangi, Sato, oriented flux, as soft responses in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.filters import frangi, sato, threshold_otsu

from retinal_octa_vessel_segmentation.evaluation.oriented_flux import oriented_flux


def otsu_response(image: np.ndarray, sigma_px: float = 0.0, background_px: float | None = None) -> np.ndarray:
    """Grey value after smoothing, scaled so that Otsu's threshold of the image becomes 0.5.

    Args:
        image: float (H, W) in [0, 1].
        sigma_px: smoothing before.
        background_px: standard deviation of the background that is divided out; None: none.

    Returns:
        float (H, W) in [0, 1].
    """
    grey = _smooth(_flatten(image, background_px), sigma_px)
    low, high = grey.min(), grey.max()
    if high <= low:
        return np.zeros(grey.shape)
    middle = threshold_otsu(grey)
    return np.interp(grey, (low, max(middle, low + 1e-9), high), (0.0, 0.5, 1.0))


def adaptive_response(image: np.ndarray, sigma_px: float = 0.0, window_px: float = 15.0) -> np.ndarray:
    """Grey value above its Gaussian-weighted neighbourhood, 0.5 where they are equal.

    Args:
        image: float (H, W) in [0, 1].
        sigma_px: smoothing before.
        window_px: standard deviation of the neighbourhood in pixels.
    """
    return np.clip(0.5 + _smooth(image, sigma_px) - gaussian_filter(image, window_px), 0.0, 1.0)


def frangi_response(
    image: np.ndarray,
    sigmas_px: Sequence[float] = (1, 2, 3),
    beta: float = 0.5,
    gamma: float | None = None,
    black_ridges: bool = False,
    background_px: float | None = None,
) -> np.ndarray:
    """Frangi's vesselness (skimage), scaled to its 99th percentile. ``gamma`` None: half the largest Hessian norm."""
    flat = _flatten(image, background_px)
    return _scaled(frangi(flat, sigmas=list(sigmas_px), beta=beta, gamma=gamma, black_ridges=black_ridges))


def sato_response(
    image: np.ndarray,
    sigmas_px: Sequence[float] = (1, 2, 3),
    black_ridges: bool = False,
    background_px: float | None = None,
) -> np.ndarray:
    """Sato's tubeness (skimage), scaled to its 99th percentile."""
    return _scaled(sato(_flatten(image, background_px), sigmas=list(sigmas_px), black_ridges=black_ridges))


def oriented_flux_response(
    image: np.ndarray,
    radii_px: Sequence[float] = (1, 2, 3, 4, 5),
    sigma_px: float = 1.0,
    black_ridges: bool = False,
    background_px: float | None = None,
) -> np.ndarray:
    """Optimally oriented flux, scaled to its 99th percentile."""
    return _scaled(oriented_flux(_flatten(image, background_px), radii_px, sigma_px, black_ridges))


BASELINES: dict[str, Callable[..., np.ndarray]] = {
    "otsu": otsu_response,
    "adaptive": adaptive_response,
    "frangi": frangi_response,
    "sato": sato_response,
    "oof": oriented_flux_response,
}

_SCALES = ((0.5,), (1,), (2,), (3,), (1, 2), (1, 2, 3), (0.5, 1, 1.5, 2), (1, 2, 3, 4), (2, 3, 4))
_RADII = ((1,), (2,), (3,), (1, 2), (1, 2, 3), (2, 3, 4), (1, 2, 3, 4, 5))

PARAMETER_GRIDS: dict[str, dict[str, tuple]] = {
    "otsu": {"sigma_px": (0.0, 0.5, 1.0, 1.5, 2.0), "background_px": (None, 10.0, 20.0, 40.0)},
    "adaptive": {"sigma_px": (0.0, 0.5, 1.0, 1.5, 2.0), "window_px": (4.0, 8.0, 15.0, 30.0, 60.0)},
    "frangi": {
        "sigmas_px": ((1,), (2,), (1, 2), (0.5, 1, 1.5, 2), (1, 2, 3), (2, 3, 4)),
        "beta": (0.5, 1.0),
        "gamma": (None, 0.01),
        "black_ridges": (False, True),
        "background_px": (None, 20.0),
    },
    "sato": {"sigmas_px": _SCALES, "black_ridges": (False, True), "background_px": (None, 20.0)},
    "oof": {
        "radii_px": _RADII,
        "sigma_px": (0.5, 1.0, 1.5),
        "black_ridges": (False, True),
        "background_px": (None, 20.0),
    },
}


def baseline_response(name: str, image: np.ndarray, **parameters: object) -> np.ndarray:
    """Response of a baseline by name.

    Args:
        name: one of ``BASELINES``.
        image: float (H, W) in [0, 1].
        parameters: of that baseline.

    Returns:
        float (H, W) in [0, 1], larger where a vessel is likelier; a threshold makes it a mask.

    Raises:
        ValueError: unknown name, or an image that is not (H, W) within [0, 1].
    """
    if name not in BASELINES:
        raise ValueError(f"no baseline '{name}'; there are {', '.join(BASELINES)}")
    image = np.asarray(image, dtype=float)
    if image.ndim != 2 or not np.isfinite(image).all() or image.min() < 0 or image.max() > 1:
        raise ValueError(
            f"image has shape {image.shape}, expected (H, W) with finite values in [0, 1]: divide 8 bits by 255"
        )
    return BASELINES[name](image, **parameters)


def _smooth(image: np.ndarray, sigma_px: float) -> np.ndarray:
    return gaussian_filter(image, sigma_px) if sigma_px > 0 else image


def _flatten(image: np.ndarray, background_px: float | None) -> np.ndarray:
    """Divide by the local mean, so that shadows and vignetting do not decide; overall level kept."""
    if background_px is None:
        return image
    background = gaussian_filter(image, background_px)
    return image * (image.mean() / np.maximum(background, 0.1 * image.mean() + 1e-6))


def _scaled(response: np.ndarray) -> np.ndarray:
    """In [0, 1]: a percentile, not the maximum, so that one bright spot does not decide the scale."""
    positive = response[response > 0]
    return np.clip(response / np.percentile(positive, 99), 0.0, 1.0) if positive.size else np.zeros(response.shape)
