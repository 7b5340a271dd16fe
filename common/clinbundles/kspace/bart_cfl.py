"""BART's pair of files: NAME.hdr with the dimensions, NAME.cfl with complex64 values, first dimension fastest.

Dimensions as BART numbers them: 0 readout, 1 and 2 phase encoding, 3 coils, 4 sets of maps, 5 echoes, ..., 10 time,
11 time (second), 13 slices. BART's transform is centred too; its scaling is the user's (`fft -u` is orthonormal).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from clinbundles.data.atomic_file import atomic_path
from clinbundles.kspace.axis_order import arrange_axes
from clinbundles.kspace.kspace_case import Array, KspaceCase, KspaceChoice, KspaceError

_LETTERS = {0: "X", 1: "Y", 3: "N", 10: "T", 11: "T", 13: "Z"}
_NAMES = {2: "a second phase encoding (3D)", 4: "sets of maps", 5: "echoes", 14: "averages"}


def read_bart(path: Path, case: str, choice: KspaceChoice) -> KspaceCase:
    """K-space with the dimensions 0, 1, 3, 10 or 11, and 13.

    Raises:
        KspaceError: files that do not fit each other, or further dimensions.
    """
    return KspaceCase(read_bart_array(path, case, "kspace", "TNXY", choice))


def read_bart_array(path: Path, case: str, field: str, wanted: str | None, choice: KspaceChoice | None = None) -> Array:
    """An array in the order ``wanted`` ("TNXY", "NXY", "TXY"), or without its axes of length 1 (None).

    Raises:
        KspaceError: as :func:`read_bart`.
    """
    array = read_cfl(path, case)
    if wanted is None or set(wanted) - set("TNXY"):
        return np.squeeze(array)
    choice = choice or KspaceChoice()
    if choice.axes:
        return arrange_axes(np.squeeze(array), choice.axes, wanted, case=case, field=field, chosen_slice=choice.slice)
    long = [at for at, length in enumerate(array.shape) if length > 1 or at in (0, 1)]
    strange = [at for at in long if at not in _LETTERS]
    if strange or {10, 11} <= set(long):
        what = (
            ", ".join(f"{at} ({_NAMES.get(at, 'not an axis of a cine')})" for at in strange) or "10 and 11 (two times)"
        )
        raise KspaceError(
            f"case '{case}': {field} has the BART dimensions {array.shape}, with length above 1 in {what}; expected "
            "readout 0, phase encoding 1, coils 3, time 10 or 11, slices 13: extract one of them, or say axes"
        )
    axes = "".join(_LETTERS[at] for at in long)
    flat = array.reshape([array.shape[at] for at in long])
    return arrange_axes(flat, axes, wanted, case=case, field=field, chosen_slice=choice.slice)


def read_cfl(path: str | os.PathLike[str], case: str = "") -> Array:
    """The array of NAME.cfl and NAME.hdr with all its dimensions; either name, or NAME alone.

    Raises:
        FileNotFoundError: one of the two is missing.
        KspaceError: dimensions that cannot be read or that do not fit the size of the data.
    """
    header, data = _pair(path, case)
    shape = read_shape(path, case)
    expected, found = 8 * int(np.prod(shape, dtype=np.int64)), data.stat().st_size
    if expected != found:
        raise KspaceError(
            f"case '{case}': {data.name} has {found} bytes, but the dimensions {shape} of {header.name} need "
            f"{expected}: the files do not belong together, or the copy broke off"
        )
    return np.fromfile(data, dtype="<c8").reshape(shape, order="F")


def read_shape(path: str | os.PathLike[str], case: str = "") -> list[int]:
    """The dimensions that NAME.hdr states.

    Raises:
        FileNotFoundError, KspaceError: as :func:`read_cfl`.
    """
    header, _ = _pair(path, case)
    lines = [line for line in header.read_text(errors="replace").splitlines() if line.strip()]
    try:
        at = next(number for number, line in enumerate(lines) if line.strip() == "# Dimensions")
        shape = [int(word) for word in lines[at + 1].split()]
        if not shape or min(shape) < 1:
            raise ValueError
    except (StopIteration, IndexError, ValueError):
        raise KspaceError(
            f"case '{case}': {header.name} has no line '# Dimensions' followed by numbers: it is no header of BART"
        ) from None
    return shape


def _pair(path: str | os.PathLike[str], case: str) -> tuple[Path, Path]:
    stem = Path(path)
    stem = stem.with_suffix("") if stem.suffix in (".cfl", ".hdr") else stem
    header, data = Path(f"{stem}.hdr"), Path(f"{stem}.cfl")
    for file in (header, data):
        if not file.is_file():
            raise FileNotFoundError(f"case '{case}': {file.name} does not exist: BART needs both .hdr and .cfl")
    return header, data


def write_cfl(path: str | os.PathLike[str], array: Array) -> Path:
    """Write NAME.cfl and NAME.hdr, each in one step, as complex64 with up to 16 dimensions.

    Raises:
        ValueError: more dimensions.
    """
    if array.ndim > 16:
        raise ValueError(f"the array has {array.ndim} dimensions, BART knows 16")
    stem = Path(path)
    stem = stem.with_suffix("") if stem.suffix in (".cfl", ".hdr") else stem
    with atomic_path(f"{stem}.cfl") as temporary:
        np.asarray(array, dtype="<c8").ravel(order="F").tofile(temporary)
    shape = " ".join(str(length) for length in (*array.shape, *(1,) * (16 - array.ndim)))
    with atomic_path(f"{stem}.hdr") as temporary:
        temporary.write_text(f"# Dimensions\n{shape}\n")
    return Path(f"{stem}.cfl")
