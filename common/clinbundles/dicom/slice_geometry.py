"""Where the slices of a volume lie in the patient, in DICOM's words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class SliceGeometry:
    """Position, orientation and spacing of the slices of a volume (I, J, K); I runs along the columns of a slice.

    Attributes:
        positions: K triples (mm, LPS), the centre of the first pixel of each slice (ImagePositionPatient).
        orientation: direction cosines of I, then of J (ImageOrientationPatient).
        pixel_spacing: mm between rows, then between columns (PixelSpacing).
        slice_spacing: mm between the slices.
    """

    positions: list[list[float]]
    orientation: list[float]
    pixel_spacing: list[float]
    slice_spacing: float


def slice_geometry(affine: np.ndarray, slices: int) -> SliceGeometry:
    """The slices of a volume with a 4x4 affine in RAS mm.

    Raises:
        ValueError: an axis of the affine has no length.
    """
    lps = RAS_TO_LPS @ np.asarray(affine, dtype=float)
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    if not np.all(lengths > 0):
        raise ValueError(f"the volume's affine has an axis without length: {lengths.tolist()} mm")
    directions = lps[:3, :3] / lengths
    positions = [(lps[:3, 3] + k * lps[:3, 2]).tolist() for k in range(slices)]
    orientation = [*directions[:, 0].tolist(), *directions[:, 1].tolist()]
    return SliceGeometry(positions, orientation, [float(lengths[1]), float(lengths[0])], float(lengths[2]))
