"""A hash by which a resumed training recognises its data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clinbundles.data.content_hash import json_hash

__all__ = ["datalist_fingerprint"]


def datalist_fingerprint(datalist: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 (hex) of a MONAI datalist: of its values, in order.

    Files count by name and size, whatever folder they are in; arrays by content.
    """
    return json_hash([{key: _plain(value) for key, value in record.items()} for record in datalist])


def _plain(value: Any) -> Any:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        array = np.ascontiguousarray(value)
        return [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (str, os.PathLike)):
        path = Path(value)
        return [path.name, path.stat().st_size] if path.is_absolute() and path.is_file() else str(value)
    return value
