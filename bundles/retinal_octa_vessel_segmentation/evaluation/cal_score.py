"""CAL: connectivity, area and length agreement of vessel segmentations (Gegundez-Arias et al. 2012)."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.ndimage import label as connected_parts
from skimage.morphology import disk, skeletonize

from retinal_octa_vessel_segmentation.evaluation.segmentation_metrics import checked_pair

TOLERANCE_PX = 2


def cal_score(prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """The three factors and their product, each 0 to 1.

    Gegundez-Arias, Aquino, Bravo, Marin, "A function for quality evaluation of retinal vessel segmentations", IEEE
    TMI 31(2), 2012, equations 1-4: connectivity 1 - min(1, |#c_g - #c_p| / #G) with the numbers of 8-connected
    parts, and the overlaps of areas and of skeletons after either is dilated by a disc of 2 pixels. Both empty 1,
    one empty 0.

    Args:
        prediction, label: (H, W), boolean, {0, 1} or {0, 255}.

    Returns:
        ``connectivity``, ``area``, ``length``, ``cal`` (the product).

    Raises:
        ValueError: see ``checked_pair``.
    """
    prediction, label = checked_pair(prediction, label)
    if not prediction.any() or not label.any():
        value = float(not prediction.any() and not label.any())
        return {"connectivity": value, "area": value, "length": value, "cal": value}
    parts = [connected_parts(mask, structure=np.ones((3, 3)))[1] for mask in (label, prediction)]
    connectivity = 1 - min(1.0, abs(parts[0] - parts[1]) / np.count_nonzero(label))
    area = _tolerant_overlap(prediction, label)
    length = _tolerant_overlap(skeletonize(prediction), skeletonize(label))
    return {"connectivity": connectivity, "area": area, "length": length, "cal": connectivity * area * length}


def _tolerant_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Part of the union that lies within the tolerance of the other set."""
    disc = disk(TOLERANCE_PX)
    near = (binary_dilation(first, disc) & second) | (first & binary_dilation(second, disc))
    return float(np.count_nonzero(near) / np.count_nonzero(first | second))
