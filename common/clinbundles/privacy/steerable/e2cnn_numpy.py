"""e2cnn 0.2 under NumPy 2: where NumPy 1 copied silently when it had to, NumPy 2 raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import e2cnn.kernels.utils
import numpy as np


@contextmanager
def e2cnn_numpy() -> Iterator[None]:
    """While it lasts, e2cnn's kernels read `np.array(x, copy=False)` as `np.asarray(x)`; later all is as before."""
    names = ModuleType("numpy")
    names.__dict__.update(np.__dict__)

    def array(values: Any, copy: bool = True) -> np.ndarray:
        return np.array(values) if copy else np.asarray(values)

    names.__dict__["array"] = array
    before = e2cnn.kernels.utils.np
    e2cnn.kernels.utils.np = names
    try:
        yield
    finally:
        e2cnn.kernels.utils.np = before
