"""The classes: shapes of a leukocyte's nucleus."""

from __future__ import annotations

from enum import IntEnum


class LeukocyteClass(IntEnum):
    """Shape of the nucleus. Cells that look like it: lymphocyte, monocyte, eosinophil, neutrophil."""

    ROUND = 0
    KIDNEY = 1
    BILOBED = 2
    SEGMENTED = 3


CLASSES = tuple(shape.name.lower() for shape in LeukocyteClass)
"""Names by label."""
