"""Tune a classical baseline on labelled validation images, generously, so that a comparison with it is fair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from skimage.morphology import remove_small_objects

from retinal_octa_vessel_segmentation.evaluation.centreline_dice import centreline_dice
from retinal_octa_vessel_segmentation.evaluation.classical_filters import PARAMETER_GRIDS, baseline_response
from retinal_octa_vessel_segmentation.evaluation.segmentation_metrics import checked_pair, overlap_metrics

THRESHOLD_STEPS = 256
SCREENING_IMAGES = 6  # with more, all settings are tried on these and the best quarter on all
SMALLEST_OBJECTS_PX = (0, 10, 20, 40, 80, 160)
SCORES = ("dice", "cldice", "mean")


@dataclass(frozen=True)
class TunedBaseline:
    """A baseline with the settings that did best.

    Attributes:
        name, parameters: for ``baseline_response``.
        threshold: response from which a pixel is vessel.
        smallest_object_px: 8-connected parts with fewer pixels are removed.
        score: mean over the validation images of what was maximised.
    """

    name: str
    parameters: dict[str, object] = field(default_factory=dict)
    threshold: float = 0.5
    smallest_object_px: int = 0
    score: float = float("nan")

    def response(self, image: np.ndarray) -> np.ndarray:
        """Soft response in [0, 1]."""
        return baseline_response(self.name, image, **self.parameters)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Boolean vessel mask (H, W) of an image with values in [0, 1]."""
        return _mask(self.response(image), self.threshold, self.smallest_object_px)


def tune_on_validation(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    name: str,
    score: str = "dice",
    grid: dict[str, tuple] | None = None,
    finalists: int = 6,
) -> TunedBaseline:
    """Best settings of a baseline on labelled images: filter scales, polarity, background, threshold, clean-up.

    All settings of the grid are ranked by mean Dice at the best of 256 thresholds; of more than 6 images, 6 choose the
    quarter that is tried on all. The best few are then tried with neighbouring thresholds and with removal of small
    objects (which the network's output gets too) and ranked by ``score``.

    Args:
        images: (H, W) each, values in [0, 1].
        labels: masks of the same shapes.
        name: one of ``BASELINES``.
        score: "dice", "cldice", or "mean" of the two.
        grid: values to try by parameter; default ``PARAMETER_GRIDS[name]``.
        finalists: how many settings are tried in full.

    Raises:
        ValueError: no image, unequal numbers, unknown name or score, bad masks.
    """
    if not images or len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} labels: give as many labels as images, at least one")
    if score not in SCORES:
        raise ValueError(f"score is '{score}', expected one of {', '.join(SCORES)}")
    truths = [checked_pair(label, label)[0] for label in labels]
    grid = PARAMETER_GRIDS.get(name, {}) if grid is None else grid
    pairs = list(zip(images, truths, strict=True))
    settings = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    if len(pairs) > SCREENING_IMAGES:
        some = [pairs[i] for i in np.linspace(0, len(pairs) - 1, SCREENING_IMAGES).astype(int)]
        settings = [parameters for _, _, parameters in _ranked(name, settings, some)]
        settings = settings[: max(len(settings) // 4, 2 * finalists)]
    ranked = _ranked(name, settings, pairs)

    best = TunedBaseline(name, score=-1.0)
    for _, step, parameters in ranked[:finalists]:
        responses = [baseline_response(name, image, **parameters) for image in images]
        for smallest in SMALLEST_OBJECTS_PX:
            for shift in (-30, -15, 0, 15):
                threshold = min(max(step + shift, 1), THRESHOLD_STEPS - 1) / THRESHOLD_STEPS
                masks = [_mask(response, threshold, smallest) for response in responses]
                value = float(np.mean([_score(mask, truth, score) for mask, truth in zip(masks, truths, strict=True)]))
                if value > best.score:
                    best = TunedBaseline(name, parameters, threshold, smallest, value)
    return best


def _ranked(
    name: str, settings: list[dict[str, object]], pairs: list[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[float, int, dict[str, object]]]:
    """(mean Dice at the best threshold, that threshold's step, settings), best first."""
    ranked = []
    for parameters in settings:
        curves = [_dice_by_threshold(baseline_response(name, image, **parameters), truth) for image, truth in pairs]
        curve = np.mean(curves, axis=0)
        ranked.append((float(curve.max()), int(curve.argmax()), parameters))
    return sorted(ranked, key=lambda entry: -entry[0])


def _mask(response: np.ndarray, threshold: float, smallest_object_px: int) -> np.ndarray:
    mask = response >= threshold
    if smallest_object_px < 2:
        return mask
    return remove_small_objects(mask, max_size=smallest_object_px - 1, connectivity=2)


def _score(mask: np.ndarray, truth: np.ndarray, score: str) -> float:
    dice = overlap_metrics(mask, truth)["dice"] if score != "cldice" else 0.0
    line = centreline_dice(mask, truth) if score != "dice" else 0.0
    return (dice + line) / (2 if score == "mean" else 1)


def _dice_by_threshold(response: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice of ``response >= k / 256`` for k = 0 ... 255, from two cumulative histograms."""
    level = np.minimum((response * THRESHOLD_STEPS).astype(int), THRESHOLD_STEPS - 1)
    vessel = np.bincount(level[truth], minlength=THRESHOLD_STEPS)[::-1].cumsum()[::-1]
    predicted = np.bincount(level.ravel(), minlength=THRESHOLD_STEPS)[::-1].cumsum()[::-1]
    return 2 * vessel / np.maximum(predicted + truth.sum(), 1)
