"""ISMRMRD raw data (HDF5)."""

from __future__ import annotations

from pathlib import Path

from clinbundles.kspace.kspace_case import KspaceCase, KspaceChoice, KspaceError


def read_ismrmrd(path: Path, case: str, choice: KspaceChoice) -> KspaceCase:
    """Refuse, until the reader is there."""
    raise KspaceError(f"case '{case}': ISMRMRD files cannot be read yet")
