"""The exam frame: coordinates of the heart in which all motion is computed, whatever the scanner's axes were."""

from __future__ import annotations

import numpy as np

# RAS. From apex to base the left ventricle runs to the right, backwards and upwards.
APEX_TO_BASE = np.array([1.0, -1.0, 1.0]) / np.sqrt(3)
# From septum to lateral wall it runs to the left and backwards.
SEPTUM_TO_LATERAL = np.array([-1.0, -1.0, 0.0]) / np.sqrt(2)


def exam_axes(normal: np.ndarray) -> np.ndarray:
    """(3, 3) the axes of the exam frame as columns, RAS.

    z is the LV long axis from apex to base; x points from the septum to the lateral wall, namely along the patient's
    left-posterior direction projected on the short-axis plane; y = z cross x points to the inferior wall.

    Args:
        normal: (3,) normal of the short-axis planes, of either sign.
    """
    z = np.asarray(normal, dtype=float) / np.linalg.norm(normal)
    z = z if z @ APEX_TO_BASE >= 0 else -z
    x = SEPTUM_TO_LATERAL - (SEPTUM_TO_LATERAL @ z) * z
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def frame_to_world(axes: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(4, 4) rigid map from the exam frame to RAS, mm.

    Args:
        axes: (3, 3) of :func:`exam_axes`.
        centre: (3,) estimated LV centre, RAS mm: the origin of the frame.
    """
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = centre
    return affine


def rigid_inverse(affine: np.ndarray) -> np.ndarray:
    """(4, 4) inverse of a rigid map."""
    inverse = np.eye(4)
    inverse[:3, :3] = affine[:3, :3].T
    inverse[:3, 3] = -affine[:3, :3].T @ affine[:3, 3]
    return inverse
