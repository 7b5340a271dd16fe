"""Hashes that tell which data a result came from: of what a manifest says, and of what the files hold."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinbundles.data.manifest import Manifest, read_manifest


def manifest_hash(manifest: str | os.PathLike[str] | Manifest) -> str:
    """SHA-256 (hex) of what a manifest says; comments and the order of keys do not matter."""
    return json_hash(read_manifest(manifest).content)


def dataset_hash(cases: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 (hex) of the contents of a datalist's files and of its other values; every file is read.

    Two copies of the same data in different folders have the same hash: a file counts by key and content.
    """
    total = hashlib.sha256()
    for case in cases:
        content = {key: _file_or_value(value) for key, value in case.items()}
        total.update(json_hash(content).encode())
    return total.hexdigest()


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 (hex) of a file's content."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def json_hash(content: Any) -> str:
    """SHA-256 (hex) of plain data, whatever the order of the keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _file_or_value(value: Any) -> Any:
    if isinstance(value, str | os.PathLike) and os.path.isabs(value) and Path(value).is_file():
        return {"sha256": file_hash(value)}
    return value
