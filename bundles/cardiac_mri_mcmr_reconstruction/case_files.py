"""The files of a case: which of them is the k-space, and which are its companions."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Transform

from clinbundles.kspace.kspace_case import KspaceError

EXTENSIONS = (".h5", ".hdf5", ".mrd", ".mat", ".cfl", ".npy")
"""Endings of files with k-space; the header of a .cfl lies beside it."""

_NAMES = {
    "kspace": ("kspace",),
    "mask": ("mask",),
    "sensitivity_maps": ("sensitivity_maps", "maps", "csm"),
    "reference": ("reference",),
    "noise": ("noise",),
}


def is_kspace_of_folder(file: Path) -> bool:
    """Whether a file's name says that its folder is one case: ``kspace`` with any ending."""
    return file.stem.lower() in _NAMES["kspace"]


class FindCaseFilesd(Transform):
    """Name the files of a case by what they hold, as ``LoadKspaced`` takes them.

    ``image`` is the path of a file with k-space, or all files of a case folder, in which names tell them apart:
    ``kspace``, ``mask``, ``sensitivity_maps`` (``maps``, ``csm``), ``reference``, ``noise``, with the endings .npy,
    .mat, .cfl. A case that names ``kspace`` itself, as manifests do, passes unchanged.

    Raises:
        KspaceError: a folder without k-space, or with two files for one thing.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``image`` becomes ``kspace`` and its companions."""
        sample = dict(data)
        if "kspace" in sample:
            return sample
        if "image" not in sample:
            raise KspaceError(f"the case has {', '.join(map(str, sample))}: name its k-space under 'kspace' or 'image'")
        sample.update(files_of_case(sample.pop("image"), str(sample.get("study", ""))))
        return sample


def files_of_case(image: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], case: str = "") -> dict[str, str]:
    """``kspace`` and its companions, by name; see :class:`FindCaseFilesd`."""
    if isinstance(image, str | os.PathLike):
        return {"kspace": os.fspath(image)}
    paths = sorted(Path(file) for file in image)
    found: dict[str, str] = {}
    for field, names in _NAMES.items():
        fitting = [path for path in paths if path.stem.lower() in names and path.suffix.lower() in EXTENSIONS]
        if len(fitting) > 1:
            raise KspaceError(
                f"case '{case}': {' and '.join(path.name for path in fitting)} are both {field}, expected one file"
            )
        if fitting:
            found[field] = str(fitting[0])
    if "kspace" not in found:
        raise KspaceError(
            f"case '{case}': no file is called kspace ({', '.join(path.name for path in paths[:5])}), expected kspace "
            f"with one of the endings {', '.join(EXTENSIONS)}"
        )
    return found
