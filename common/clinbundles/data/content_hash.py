"""Hashes that tell which data a result came from: of what a manifest says, and of what a file holds."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from clinbundles.data.manifest import Manifest, read_manifest


def manifest_hash(manifest: str | os.PathLike[str] | Manifest) -> str:
    """SHA-256 (hex) of what a manifest says; comments and the order of keys do not matter."""
    return json_hash(read_manifest(manifest).content)


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
