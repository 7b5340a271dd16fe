"""Raw MR data in and cines out: readers of k-space, checks, and writers that scanners' viewers open."""

from clinbundles.kspace.kspace_case import KspaceError
from clinbundles.kspace.load_kspace import LoadKspaced

__all__ = ["KspaceError", "LoadKspaced"]
