"""Stored values of a NIfTI file, with an error in words where a file is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np


def read_nifti_values(path: Path) -> tuple[Any, np.ndarray]:
    """The nibabel image, and its values in the stored type unless the header scales them.

    Raises:
        ValueError: a file that nibabel cannot read; the message names it.
    """
    try:
        image: Any = nibabel.load(path)
        stored = image.dataobj
        scaled = stored.slope not in (1, None) or stored.inter not in (0, None)
        return image, np.asarray(stored) if scaled else np.asarray(stored.get_unscaled())
    except Exception as error:  # nibabel raises a dozen kinds
        raise ValueError(f"{path.name}: cannot be read as NIfTI, is it damaged or cut off?") from error
