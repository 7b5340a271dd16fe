"""Quality gate: says in words why an en-face OCT angiograph is doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, median_filter

from retinal_octa_vessel_segmentation.measurement.binary_mask import binary_mask, same_shape
from retinal_octa_vessel_segmentation.measurement.pixel_spacing import checked_spacing

USUAL_FIELDS_MM = (2.0, 3.0, 4.5, 6.0, 8.0, 9.0, 10.0, 12.0, 15.0)


@dataclass(frozen=True)
class QualityLimits:
    """Limits beyond which an image is doubtful: set on 20 real images (ROSSA 1-20), 12 of the test scanner, and damage.

    Attributes:
        signal_floor: smallest ``vessel_signal``.
        sharpness_floor: smallest ``sharpness``.
        contrast_floor: smallest ``contrast``.
        motion_ceiling: largest fraction of rows (or columns) with motion artefacts.
        saturation_ceiling: largest fraction of pixels at the image's upper end.
        field_tolerance: relative distance from a usual field of view.
        confidence_floor: smallest ``confidence``. The shipped weights give 0.37 to 0.44 on the 20 validation eyes of
            the scanner phantom and on ROSSA 1-20.
    """

    signal_floor: float = 1.4
    sharpness_floor: float = 0.4
    contrast_floor: float = 0.25
    motion_ceiling: float = 0.10
    saturation_ceiling: float = 0.05
    field_tolerance: float = 0.10
    confidence_floor: float = 0.35


@dataclass(frozen=True)
class QualityReport:
    """What was found.

    Attributes:
        reasons: sentences for the user; empty when nothing is doubtful.
        numbers: what was measured, by name.
        score: 1 when every number is on the good side of its limit by a factor of two, 0.5 at the limit of the
            worst, 0 at worst.
    """

    reasons: tuple[str, ...]
    numbers: dict[str, float]
    score: float

    @property
    def doubtful(self) -> bool:
        return bool(self.reasons)


def assess_quality(
    image: np.ndarray,
    spacing_mm: float | Sequence[float],
    vessel_mask: np.ndarray | None = None,
    probability: np.ndarray | None = None,
    limits: QualityLimits | None = None,
) -> QualityReport:
    """Judge an image and, where given, its segmentation.

    Args:
        image: (H, W), grey values, not z-scored; floats in [0, 1] or integers (upper end: 255, or the next full
            number of bits).
        spacing_mm: mm per pixel, one number or (row, column).
        vessel_mask: (H, W), all vessels.
        probability: (H, W) in [0, 1], of being vessel.
        limits: default ``QualityLimits()``.

    Raises:
        ValueError: an image that is not (H, W) or not finite, or masks of another shape.
    """
    limits = limits or QualityLimits()
    spacing = checked_spacing(spacing_mm)
    grey = _unit_range(image)
    numbers: dict[str, float] = {}
    reasons: list[str] = []
    margins: list[float] = []

    def judge(name: str, value: float, limit: float, low_is_bad: bool, reason: str) -> None:
        numbers[name] = value
        margin = value / limit if low_is_bad else limit / max(value, 1e-9)
        margins.append(margin)
        if margin < 1:
            reasons.append(reason)

    signal, contrast = vessel_signal(grey), float(np.subtract(*np.percentile(grey, (95, 5))))
    judge(
        "vessel_signal", signal, limits.signal_floor, True,
        f"weak signal: vessels stand out {signal:.2f} times from the pixel noise (at least {limits.signal_floor:g})",
    )  # fmt: skip
    sharp = sharpness(grey)
    judge(
        "sharpness", sharp, limits.sharpness_floor, True,
        f"out of focus: fine structure has {sharp:.2f} of the strength of coarse (floor {limits.sharpness_floor:g})",
    )  # fmt: skip
    judge(
        "contrast", contrast, limits.contrast_floor, True,
        f"low contrast: 90 % of the grey values span {contrast:.0%} of the range (floor {limits.contrast_floor:.0%})",
    )  # fmt: skip
    motion = max(motion_fraction(grey), motion_fraction(grey.T))
    judge(
        "motion_fraction", motion, limits.motion_ceiling, False,
        f"eye motion: {motion:.0%} of the lines are bright or displaced (at most {limits.motion_ceiling:.0%})",
    )  # fmt: skip
    saturated = float((grey >= 0.999).mean())
    judge(
        "saturated_fraction", saturated, limits.saturation_ceiling, False,
        f"saturation: {saturated:.0%} of the pixels are at the upper end (at most {limits.saturation_ceiling:.0%})",
    )  # fmt: skip
    field = [side * step for side, step in zip(grey.shape, spacing, strict=True)]
    off = max(min(abs(side - usual) / usual for usual in USUAL_FIELDS_MM) for side in field)
    judge(
        "field_deviation", off, limits.field_tolerance, False,
        f"unusual field of view: {field[0]:.2f} x {field[1]:.2f} mm; check spacing_mm or fov_mm",
    )  # fmt: skip
    if vessel_mask is not None:
        vessels = binary_mask(vessel_mask, "vessel_mask")
        same_shape(vessels, grey, "vessel_mask", "image")
        border = np.concatenate([vessels[0], vessels[-1], vessels[:, 0], vessels[:, -1]])
        numbers["border_vessel_pixels"] = float(border.sum())
        if not border.any():
            margins.append(0.5)
            reasons.append("no vessel reaches the border of the image: cropped, masked, or not an en-face angiograph")
    if probability is not None:
        same_shape(np.asarray(probability), grey, "probability", "image")
        sure = confidence(np.asarray(probability))
        judge(
            "confidence", sure, limits.confidence_floor, True,
            f"unsure segmentation: mean confidence {sure:.2f} where vessels may be (floor {limits.confidence_floor:g})",
        )  # fmt: skip
    score = float(np.clip(min(margins) / 2, 0.0, 1.0))
    return QualityReport(tuple(reasons), numbers, score)


def vessel_signal(grey: np.ndarray) -> float:
    """Strength of structure of vessel size over pixel noise: about 1 for white noise alone.

    Standard deviation of the band between Gaussians of 1.5 and 6 pixels, over that of white noise in the same band.

    Args:
        grey: (H, W) in [0, 1].
    """
    return float(np.sqrt(_band_variance(grey, 1.5, 6.0) / max(_noise_variance(grey, 1.5, 6.0), 1e-12)))


def sharpness(grey: np.ndarray) -> float:
    """Structure of 1 to 2.5 pixels over structure of 3 to 9 pixels, noise taken off: small for a defocused image.

    Args:
        grey: (H, W) in [0, 1].
    """
    fine, coarse = (
        max(_band_variance(grey, *band) - _noise_variance(grey, *band), 0.0) for band in ((1.0, 2.5), (3.0, 9.0))
    )
    return float(np.sqrt(fine / max(coarse, 1e-12)))


def _band_variance(grey: np.ndarray, low_px: float, high_px: float) -> float:
    return float((gaussian_filter(grey, low_px) - gaussian_filter(grey, high_px)).var())


def _noise_variance(grey: np.ndarray, low_px: float, high_px: float) -> float:
    """Variance in a band of white noise as strong as the image's second differences say (Immerkaer 1996)."""
    columns = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    both = columns[:-2] - 2 * columns[1:-1] + columns[2:]
    noise = np.sqrt(np.pi / 2) * np.abs(both).mean() / 6
    kept = 1 / (4 * np.pi * low_px**2) + 1 / (4 * np.pi * high_px**2) - 1 / (np.pi * (low_px**2 + high_px**2))
    return float(noise**2 * kept)


def motion_fraction(grey: np.ndarray) -> float:
    """Fraction of rows that are bright throughout (bulk motion) or do not continue the row above (displacement).

    A row is bright when its mean exceeds the running median of 15 rows by more than 6 robust deviations and by 0.06.
    A row is displaced when its correlation with the row above is 0.35 below the running median and another shift of
    2 to 12 pixels fits better by 0.25, or when it repeats the row above exactly.

    Args:
        grey: (H, W) in [0, 1].
    """
    mean = grey.mean(axis=1)
    rise = mean - median_filter(mean, size=15, mode="nearest")
    deviation = 1.4826 * np.median(np.abs(rise))
    bad = rise > max(6 * deviation, 0.06)

    rows = gaussian_filter(grey, (0.0, 1.0))
    rows = rows - gaussian_filter(rows, (0.0, 20.0))
    straight = _row_correlation(rows, 0)
    shifted = np.max([_row_correlation(rows, shift) for shift in range(-12, 13) if abs(shift) >= 2], axis=0)
    usual = median_filter(straight, size=31, mode="nearest")
    displaced = (straight < usual - 0.35) & (shifted > straight + 0.25)
    repeated = (np.abs(np.diff(grey, axis=0)).max(axis=1) == 0) & (grey[1:].std(axis=1) > 0)
    bad[1:] |= displaced | repeated
    return float(bad.mean())


def confidence(probability: np.ndarray) -> float:
    """Mean of |2 p - 1| over the pixels with p > 0.1, 0 to 1; 1 when there is no such pixel."""
    open_question = probability[probability > 0.1]
    return float(np.abs(2 * open_question - 1).mean()) if open_question.size else 1.0


def _row_correlation(rows: np.ndarray, shift: int) -> np.ndarray:
    """Correlation of each row with the one above moved by ``shift`` pixels, over their common part. (H - 1,)"""
    width = rows.shape[1]
    low, high = max(shift, 0), min(width, width + shift)
    below, above = rows[1:, low:high], rows[:-1, low - shift : high - shift]
    below, above = below - below.mean(axis=1, keepdims=True), above - above.mean(axis=1, keepdims=True)
    norm = np.sqrt((below**2).sum(axis=1) * (above**2).sum(axis=1))
    return (below * above).sum(axis=1) / np.maximum(norm, 1e-9)


def _unit_range(image: np.ndarray) -> np.ndarray:
    """Image as float in [0, 1]."""
    image = np.asarray(image)
    if image.ndim != 2 or min(image.shape) < 32:
        raise ValueError(f"image has shape {image.shape}, expected (H, W) with sides of at least 32 pixels")
    if np.issubdtype(image.dtype, np.integer) and image.min() >= 0:
        bits = max(8, int(image.max()).bit_length())  # 10 and 12 bits are stored in 16
        return image / (2**bits - 1)
    if not np.isfinite(image).all():
        raise ValueError("image contains NaN or infinite values")
    if image.min() < 0 or image.max() > 1:
        raise ValueError(f"image spans {image.min():g} to {image.max():g}, expected [0, 1]: assess it before z-scoring")
    return image.astype(float)
