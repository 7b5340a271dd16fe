"""PyTorch's own zip files (TorchScript, exported programs) without the paths of the machine that wrote them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clinbundles.data.atomic_file import atomic_path

_ALIGNMENT = 64  # bytes: PyTorch starts each record at a multiple of it
_LOCAL_HEADER = 30  # bytes of a zip's local header before the name


def remove_source_paths(path: Path) -> None:
    """Take out what names source files with their folders: it serves error messages, and shows whose machine it was.

    In TorchScript these are the records `*.debug_pkl`, in an exported program the stack traces of the nodes.

    Args:
        path: a `.ts` or `.pt2` file; it is rewritten.
    """
    _rewrite(path, _without_paths)


def _without_paths(name: str, content: bytes) -> bytes | None:
    if name.endswith(".debug_pkl"):
        return None
    if "/models/" in name and name.endswith(".json"):  # the graph of an exported program
        return json.dumps(_without_key(json.loads(content), "stack_trace")).encode()
    return content


def _without_key(node: Any, key: str) -> Any:
    if isinstance(node, dict):
        return {name: _without_key(value, key) for name, value in node.items() if name != key}
    if isinstance(node, list):
        return [_without_key(value, key) for value in node]
    return node


def _rewrite(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Copy an archive record by record, uncompressed and aligned as PyTorch does; None leaves a record out."""
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(path) as old,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as new,
    ):
        for record in old.infolist():
            content = change(record.filename, old.read(record))
            if content is None:
                continue
            entry = zipfile.ZipInfo(record.filename)  # 1 January 1980
            start = new.start_dir + _LOCAL_HEADER + len(record.filename.encode()) + 4
            padding = -start % _ALIGNMENT
            entry.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding  # as PyTorch pads
            new.writestr(entry, content)
