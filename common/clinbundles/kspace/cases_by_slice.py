"""One case per slice, for files that hold several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinbundles.kspace.bart_cfl import read_shape
from clinbundles.kspace.cmrxrecon_reader import MATLAB_AXES, variable_shape
from clinbundles.kspace.ismrmrd_reader import ismrmrd_slices
from clinbundles.kspace.load_kspace import case_name


def cases_by_slice(cases: Sequence[Mapping[str, Any]], key: str = "kspace") -> list[dict[str, Any]]:
    """The cases with one entry per slice: ``slice`` is its number from 0, the names get ``_s00``, ``_s01``, ...

    Headers alone are read. A case that names its slice already, or that has one, stays as it is.

    Args:
        cases: as a datalist has them.
        key: key of the file.
    """
    found = []
    for case in cases:
        path = Path(str(case[key]))
        name = case_name(dict(case), path)
        slices = 1 if case.get("slice") is not None else count_slices(path, name, case.get("axes"))
        if slices == 1:
            found.append(dict(case))
            continue
        for number in range(slices):
            named = {
                field: f"{case[field]}_s{number:02d}" for field in ("case", "study") if case.get(field) is not None
            }
            found.append({**case, **(named or {"case": f"{name}_s{number:02d}"}), "slice": number})
    return found


def count_slices(path: Path, case: str, axes: str | None = None) -> int:
    """Number of slices of a file; 1 for formats and axes that have none."""
    suffix = path.suffix.lower()
    if suffix in (".h5", ".hdf5", ".mrd"):
        return len(ismrmrd_slices(path, case))
    if suffix == ".mat":
        shape = variable_shape(path, case)
        letters = axes or MATLAB_AXES.get(len(shape), "")
        return shape[letters.index("Z")] if "Z" in letters else 1
    if suffix in (".cfl", ".hdr"):
        lengths = read_shape(path, case)
        return lengths[13] if len(lengths) > 13 else 1
    return 1
