"""How far stated probabilities can be trusted: reliability bins and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReliabilityBins:
    """Predictions by their confidence; each array has one entry per bin.

    Attributes:
        edges: (bins + 1,) confidences from 0 to 1.
        count: predictions in the bin.
        confidence: their mean confidence; NaN where there is none.
        accuracy: share of them that are right; NaN where there is none.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability_bins(probabilities: NDArray, labels: NDArray, bins: int = 15) -> ReliabilityBins:
    """Group predictions by the probability of the predicted class, in bins of equal width that hold their upper edge.

    Args:
        probabilities: (N, C), each row sums to 1.
        labels: (N,) class numbers.
        bins: number of bins (Guo et al., ICML 2017: 15).
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1, dtype=np.float64)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_confidence = np.bincount(place, weights=confidence, minlength=bins) / count
        accuracy = np.bincount(place, weights=right.astype(float), minlength=bins) / count
    return ReliabilityBins(edges, count, mean_confidence, accuracy)


def expected_calibration_error(probabilities: NDArray, labels: NDArray, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy of the bins, weighted by their predictions; 0 to 1.

    Naeini, Cooper, Hauskrecht, AAAI 2015. Args as in :func:`reliability_bins`.
    """
    found = reliability_bins(probabilities, labels, bins)
    used = found.count > 0
    gaps = np.abs(found.accuracy[used] - found.confidence[used])
    return float((gaps * found.count[used]).sum() / found.count.sum())
