"""The quality gate says nothing about a clear image and names each kind of damage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from retinal_octa_vessel_segmentation.measurement.quality_gate import (
    QualityLimits,
    assess_quality,
    motion_fraction,
    vessel_signal,
)

PIXEL_MM = 3 / 304


def clear_image() -> tuple[np.ndarray, np.ndarray]:
    """Vessel-like ridges with a little noise, and their mask."""
    generator = np.random.default_rng(0)
    field = gaussian_filter(generator.normal(size=(304, 304)), 5)
    vessels = np.abs(field) < 0.3 * field.std()
    image = 0.15 + 0.6 * gaussian_filter(vessels.astype(float), 1.0) + generator.normal(0, 0.02, field.shape)
    return np.clip(image, 0, 1), vessels


def shifted(image: np.ndarray) -> np.ndarray:
    generator, moved = np.random.default_rng(1), image.copy()
    for row in generator.choice(np.arange(1, 304), 45, replace=False):
        moved[row:] = np.roll(moved[row:], generator.choice([-1, 1]) * generator.integers(4, 10), axis=1)
    return moved


def white_rows(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    image[np.random.default_rng(1).choice(304, 40, replace=False)] += 0.3
    return image.clip(0, 1)


def repeated_rows(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    for row in range(5, 290, 30):
        image[row : row + 6] = image[row]
    return image


DAMAGE: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "noise": (
        lambda i: np.clip(0.3 + 0.1 * i + np.random.default_rng(2).normal(0, 0.15, i.shape), 0, 1),
        "weak signal",
    ),
    "defocus": (lambda i: gaussian_filter(i, 4), "out of focus"),
    "dim": (lambda i: 0.1 * i, "low contrast"),
    "displaced": (shifted, "eye motion"),
    "white": (white_rows, "eye motion"),
    "white columns": (lambda i: white_rows(i.T).T, "eye motion"),
    "repeated": (repeated_rows, "eye motion"),
    "overexposed": (lambda i: np.clip(3 * i, 0, 1), "saturation"),
}


def test_clear_image_passes_with_numbers() -> None:
    image, vessels = clear_image()
    report = assess_quality(image, PIXEL_MM, vessels, 0.05 + 0.9 * vessels)
    assert report.reasons == ()
    assert not report.doubtful
    assert report.score > 0.5
    assert {"vessel_signal", "contrast", "motion_fraction", "saturated_fraction", "confidence"} <= set(report.numbers)


@pytest.mark.parametrize("kind", list(DAMAGE))
def test_each_damage_is_named(kind: str) -> None:
    damage, words = DAMAGE[kind]
    report = assess_quality(damage(clear_image()[0]), PIXEL_MM)
    assert any(words in reason for reason in report.reasons), report
    assert report.score < 0.5


def test_eight_twelve_and_sixteen_bit_images_are_judged_alike() -> None:
    image = clear_image()[0]
    image = (image - image.min()) / (image.max() - image.min())
    for bits in (8, 12, 16):
        stored = np.round(image * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)
        numbers = assess_quality(stored, PIXEL_MM).numbers
        assert numbers["contrast"] == pytest.approx(assess_quality(image, PIXEL_MM).numbers["contrast"], abs=0.01)


def test_field_border_and_confidence_are_judged() -> None:
    image, vessels = clear_image()
    assert any("field of view: 5.20 x 5.20 mm" in reason for reason in assess_quality(image, 5.2 / 304).reasons)
    inside = np.zeros_like(vessels)
    inside[100:200, 150] = True
    assert any("border" in reason for reason in assess_quality(image, PIXEL_MM, inside).reasons)
    unsure = assess_quality(image, PIXEL_MM, probability=np.full(image.shape, 0.45))
    assert any("unsure" in reason for reason in unsure.reasons)
    assert not assess_quality(image, PIXEL_MM, probability=np.zeros(image.shape)).doubtful
    assert not assess_quality(image, 5.2 / 304, limits=QualityLimits(field_tolerance=0.5)).doubtful


def test_white_noise_has_vessel_signal_one_and_no_motion() -> None:
    noise = np.random.default_rng(3).normal(0.5, 0.05, (400, 400))
    assert vessel_signal(noise) == pytest.approx(1.0, abs=0.03)
    assert motion_fraction(noise) < 0.02


def test_images_that_cannot_be_judged_are_refused() -> None:
    image = clear_image()[0]
    with pytest.raises(ValueError, match="before z-scoring"):
        assess_quality(image - 0.5, PIXEL_MM)
    with pytest.raises(ValueError, match="NaN"):
        assess_quality(np.where(image > 0.5, np.nan, image), PIXEL_MM)
    with pytest.raises(ValueError, match="at least 32 pixels"):
        assess_quality(image[:10], PIXEL_MM)
    with pytest.raises(ValueError, match="vessel_mask has shape"):
        assess_quality(image, PIXEL_MM, np.zeros((10, 10)))
