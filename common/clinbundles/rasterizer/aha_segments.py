"""The 17 segments of the left ventricle (Cerqueira et al., Circulation 105:539, 2002)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clinbundles.rasterizer.long_axis import LongAxis

SEGMENTS = (
    "basal anterior", "basal anteroseptal", "basal inferoseptal", "basal inferior", "basal inferolateral",
    "basal anterolateral", "mid anterior", "mid anteroseptal", "mid inferoseptal", "mid inferior",
    "mid inferolateral", "mid anterolateral", "apical anterior", "apical septal", "apical inferior",
    "apical lateral", "apex",
)  # fmt: skip
APEX_DEPTH = 0.95  # of the cavity's length: what lies deeper is segment 17


def aha_segments(points: NDArray, axis: LongAxis, apex_depth: float = APEX_DEPTH) -> NDArray[np.int64]:
    """Segment numbers (N,) 1 to 17 of points (N, 3).

    Thirds of the cavity's length; six segments of 60 degrees in the basal and middle third, from the anterior insertion
    of the right ventricle: anteroseptal, inferoseptal, inferior, inferolateral, anterolateral, anterior. Four of 90
    degrees in the apical third, the septal one centred on the septum (60 degrees). What is above the base is basal.
    """
    depth, angle = axis.depth(points), axis.angle(points)
    sixth = np.array([2, 3, 4, 5, 6, 1])[np.minimum((angle // 60).astype(int), 5)]
    quarter = np.array([14, 15, 16, 13])[(((angle - 15.0) % 360.0) // 90).astype(int) % 4]
    found = np.where(depth < 1 / 3, sixth, np.where(depth < 2 / 3, sixth + 6, quarter))
    return np.where(depth >= apex_depth, 17, found)


def segment_means(
    values: NDArray[np.floating], segments: NDArray[np.integer], weights: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Means (..., 17) of values (..., N) over segments; NaN where a segment has none. Values that are NaN do not count.

    Args:
        values: (..., N).
        segments: (N,) 1 to 17.
        weights: (N,) such as areas.
    """
    known = np.isfinite(values)
    share = np.ones(len(segments)) if weights is None else np.asarray(weights, float)
    member = (np.asarray(segments)[:, None] == np.arange(1, 18)).astype(float) * share[:, None]
    total = known.astype(float) @ member
    return (np.where(known, values, 0.0) @ member) / np.where(total > 0, total, np.nan)
