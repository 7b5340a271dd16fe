"""The file SHA256SUMS of a package: one line per file, as `sha256sum -c SHA256SUMS` reads it."""

from __future__ import annotations

from pathlib import Path

from clinbundles.data.content_hash import file_hash

NAME = "SHA256SUMS"


def write_checksums(root: Path) -> Path:
    """Write the SHA-256 of every file below a folder, sorted by name."""
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    lines = [f"{file_hash(root / name)}  {name}\n" for name in files if name != NAME]
    (root / NAME).write_text("".join(lines), encoding="utf-8")
    return root / NAME


def read_checksums(root: Path) -> dict[str, str]:
    """Name to SHA-256 of each line; empty if there is no such file."""
    path = root / NAME
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
