"""Classical filters: oriented flux against integration by hand; responses; tuning."""

from __future__ import annotations

import numpy as np
import pytest

from retinal_octa_vessel_segmentation.evaluation.baseline_tuning import tune_on_validation
from retinal_octa_vessel_segmentation.evaluation.classical_filters import BASELINES, PARAMETER_GRIDS, baseline_response
from retinal_octa_vessel_segmentation.evaluation.oriented_flux import oriented_flux, oriented_flux_matrix
from retinal_octa_vessel_segmentation.evaluation.segmentation_metrics import overlap_metrics


def vessels(seed: int = 0, noise: float = 0.08) -> tuple[np.ndarray, np.ndarray]:
    """Image and label: three bright bars under uneven light and noise."""
    label = np.zeros((96, 96), dtype=bool)
    label[20:23], label[:, 50:54] = True, True
    steps = np.arange(96)
    label[steps, np.clip(95 - steps, 0, 95)] = label[steps, np.clip(94 - steps, 0, 95)] = True
    light = np.linspace(0.4, 1.0, 96)[None, :]
    image = (0.25 + 0.45 * label) * light + np.random.default_rng(seed).normal(0, noise, label.shape)
    return np.clip(image, 0, 1), label


@pytest.mark.parametrize("radius", [1.0, 2.5, 5.0])
@pytest.mark.parametrize("sigma", [1.0, 1.5])
def test_oriented_flux_equals_direct_integration_over_the_circle(radius: float, sigma: float) -> None:
    size, own = 64, 3.0
    grid = np.arange(size)
    centre = np.array([31.3, 33.6])
    distance2 = (grid[:, None] - centre[0]) ** 2 + (grid[None, :] - centre[1]) ** 2
    image = np.exp(-distance2 / (2 * own**2))
    total = own**2 + sigma**2  # a Gaussian blurred by a Gaussian is a Gaussian

    def gradient(points: np.ndarray) -> np.ndarray:
        away = points - centre
        value = own**2 / total * np.exp(-(away**2).sum(-1) / (2 * total))
        return -away / total * value[..., None]

    angle = 2 * np.pi * np.arange(360) / 360
    normal = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    matrix = oriented_flux_matrix(image, radius, sigma)
    for point in ((31, 33), (28, 36), (40, 30)):
        flux = gradient(np.array(point) + radius * normal)  # (360, 2)
        expected = np.einsum("ni,nj->ij", flux, normal) / 360  # integral / (2 pi r)
        np.testing.assert_allclose(matrix[:, :, point[0], point[1]], expected, atol=1e-6)


def test_oriented_flux_is_strongest_in_the_middle_of_a_line_at_its_radius() -> None:
    image = np.zeros((60, 60))
    image[27:34] = 1.0
    response = oriented_flux(image, radii_px=(3,))
    assert (response.argmax(axis=0)[10:50] == 30).all()
    assert response[30, 30] > oriented_flux(image, radii_px=(1,))[30, 30]
    np.testing.assert_allclose(oriented_flux(1 - image, (3,), black_ridges=True), response, atol=1e-9)
    np.testing.assert_allclose(oriented_flux(image.T, (3,)), response.T, atol=1e-9)
    assert oriented_flux(np.ones((40, 40))).max() < 1e-12
    with pytest.raises(ValueError, match="at least one positive radius"):
        oriented_flux(image, radii_px=())


@pytest.mark.parametrize("name", list(BASELINES))
def test_responses_lie_in_unit_range_and_rank_vessels_higher(name: str) -> None:
    image, label = vessels()
    response = baseline_response(name, image)
    assert response.shape == image.shape
    assert response.min() >= 0
    assert response.max() <= 1
    assert response[label].mean() > 1.3 * response[~label].mean()
    flat = baseline_response(name, np.full((64, 64), 0.3))
    assert np.isfinite(flat).all()
    assert set(PARAMETER_GRIDS) == set(BASELINES)


def test_tuning_does_at_least_as_well_as_every_single_setting() -> None:
    images, labels = zip(*(vessels(seed) for seed in (1, 2)), strict=True)
    grid = {"sigma_px": (0.0, 1.0), "window_px": (4.0, 12.0)}
    tuned = tune_on_validation(images, labels, "adaptive", grid=grid)
    best = 0.0
    for sigma in grid["sigma_px"]:
        for window in grid["window_px"]:
            responses = [baseline_response("adaptive", image, sigma_px=sigma, window_px=window) for image in images]
            for threshold in np.arange(256) / 256:
                scores = [overlap_metrics(r >= threshold, t)["dice"] for r, t in zip(responses, labels, strict=True)]
                best = max(best, float(np.mean(scores)))
    assert tuned.score >= best - 1e-9
    masks = [tuned(image) for image in images]
    dice = [overlap_metrics(mask, label)["dice"] for mask, label in zip(masks, labels, strict=True)]
    assert np.mean(dice) == pytest.approx(tuned.score)
    assert tuned.score > 0.8


def test_wrong_arguments_are_named() -> None:
    image, label = vessels()
    with pytest.raises(ValueError, match="no baseline 'frangy'; there are otsu"):
        baseline_response("frangy", image)
    with pytest.raises(ValueError, match="divide 8 bits by 255"):
        baseline_response("otsu", 255 * image)
    with pytest.raises(ValueError, match="1 images and 2 labels"):
        tune_on_validation([image], [label, label], "otsu")
    with pytest.raises(ValueError, match="score is 'iou'"):
        tune_on_validation([image], [label], "otsu", score="iou")
