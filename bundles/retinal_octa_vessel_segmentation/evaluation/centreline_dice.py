"""Centreline Dice (clDice): do the centrelines of prediction and label lie within each other's vessels?"""

from __future__ import annotations

import numpy as np
from skimage.morphology import skeletonize

from retinal_octa_vessel_segmentation.evaluation.segmentation_metrics import checked_pair, ratio


def centreline_dice(prediction: np.ndarray, label: np.ndarray) -> float:
    """Harmonic mean of topology precision |S_p & G| / |S_p| and topology sensitivity |S_g & P| / |S_g|; S: skeleton.

    Shit et al., "clDice - a novel topology-preserving loss function for tubular structure segmentation", CVPR 2021.
    A vessel too thin costs little, a vessel that is broken or missed costs its length. Both empty 1, one empty 0.

    Args:
        prediction, label: (H, W), boolean, {0, 1} or {0, 255}.

    Returns:
        0 to 1.

    Raises:
        ValueError: see ``checked_pair``.
    """
    prediction, label = checked_pair(prediction, label)
    if not prediction.any() or not label.any():
        return float(not prediction.any() and not label.any())
    predicted_line, real_line = skeletonize(prediction), skeletonize(label)
    precision = np.count_nonzero(predicted_line & label) / np.count_nonzero(predicted_line)
    sensitivity = np.count_nonzero(real_line & prediction) / np.count_nonzero(real_line)
    return ratio(2 * precision * sensitivity, precision + sensitivity, False)
