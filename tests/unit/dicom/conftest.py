"""What the DICOM tests share."""

import numpy as np
import pytest


@pytest.fixture
def volume() -> np.ndarray:
    """Integers (I, J, K) without any symmetry."""
    return np.random.default_rng(5).integers(-300, 1200, (9, 7, 5), dtype=np.int16)
