"""MATLAB files of the CMRxRecon challenges and others like them: `kspace_full`, `kspace_sub04`, `kspace`, `mask04`.

MATLAB's order is (kx, ky, coil, slice, t). Version 7.3 is HDF5, whose axes come reversed and whose complex values are
pairs `real`, `imag`; older versions are read by SciPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from clinbundles.kspace.axis_order import arrange_axes, slice_number
from clinbundles.kspace.kspace_case import Array, KspaceCase, KspaceChoice, KspaceError
from clinbundles.kspace.sampled_lines import over_readout

_KSPACE = ("kspace", "kspace_full", "kspace_sub", "data_full", "ksp")  # beginnings, the exact name first
_BEGINNINGS = {
    "mask": ("mask",),
    "sensitivity_maps": ("sensitivity_maps", "csm", "maps", "sens"),
    "reference": ("reference", "img", "image"),
    "noise": ("noise",),
}
MATLAB_AXES = {5: "XYNZT", 4: "XYNZ"}  # MATLAB drops a last axis of length 1
_COMPANION_AXES = {
    "mask": {2: "XY", 3: "XYT"},
    "sensitivity_maps": {3: "XYN", 4: "XYNZ"},
    "reference": {3: "XYT", 4: "XYZT"},
    "noise": {2: "SN"},
}


def read_cmrxrecon(path: Path, case: str, choice: KspaceChoice) -> KspaceCase:
    """K-space (kx, ky, coil, slice, t) of a .mat file; a mask in the same file is read with it.

    Raises:
        KspaceError: no such variable, several of them, several slices and none chosen, other axes.
    """
    names = list_variables(path, case)
    name = choice.variable or _variable(names, _KSPACE, case, "kspace")
    kspace = _kspace(path, name, case, choice)
    masks = [other for other in names if other.lower().startswith("mask")]
    if not masks:
        return KspaceCase(kspace)
    if len(masks) > 1:
        raise KspaceError(
            f"case '{case}': the file has the masks {', '.join(masks)}, expected one: save the one that belongs to "
            f"{name} to a file of its own and name it as mask in the case"
        )
    mask = _companion(read_variable(path, masks[0], case), "mask", "TXY", case, choice)
    shape = (kspace.shape[0], kspace.shape[2], kspace.shape[3])
    try:
        mask = np.broadcast_to(mask, shape)
    except ValueError:
        raise KspaceError(
            f"case '{case}': {masks[0]} has the axes (frames, kx, ky) {mask.shape}, but {name} has {shape}: "
            "they must agree"
        ) from None
    return KspaceCase(kspace, mask=over_readout(mask))


def read_mat_array(path: Path, case: str, field: str, wanted: str | None, choice: KspaceChoice) -> Array:
    """A companion of the k-space: its first variable whose name says so, else the only one.

    Raises:
        KspaceError: as :func:`read_cmrxrecon`.
    """
    names = list_variables(path, case)
    name = names[0] if len(names) == 1 else _variable(names, _BEGINNINGS.get(field, (field,)), case, field)
    array = read_variable(path, name, case)
    if field == "mask":
        mask = _companion(array, field, "TXY", case, choice)
        return mask[0] if mask.shape[0] == 1 else mask
    return _companion(array, field, wanted or "", case, choice)


def list_variables(path: Path, case: str) -> list[str]:
    """Names of the numeric arrays of a .mat file, of version 7.3 or older.

    Raises:
        KspaceError: no MAT file.
    """
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return [name for name, item in file.items() if isinstance(item, h5py.Dataset)]
        return [name for name, _, _ in scipy.io.whosmat(str(path))]
    except Exception as error:  # both libraries' messages name paths
        raise KspaceError(
            f"case '{case}': {path.suffix} cannot be read as a MATLAB file ({type(error).__name__})"
        ) from (None)


def variable_shape(path: Path, case: str, variable: str | None = None) -> tuple[int, ...]:
    """Shape of the k-space in MATLAB's order, without reading it.

    Raises:
        KspaceError: no such variable.
    """
    names = list_variables(path, case)
    name = variable or _variable(names, _KSPACE, case, "kspace")
    if name not in names:
        raise KspaceError(f"case '{case}': the file has no variable {name!r}; it has {', '.join(names) or 'none'}")
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            return tuple(reversed(file[name].shape))
    return next(tuple(shape) for other, shape, _ in scipy.io.whosmat(str(path)) if other == name)


def read_variable(path: Path, name: str, case: str, taken: tuple[int, int] | None = None) -> Array:
    """An array in MATLAB's order of axes, complex where it was complex.

    Args:
        path, name: file and variable.
        case: name of the case, for messages.
        taken: an axis (in MATLAB's order) and the one index to read of it; the axis stays, with length 1.

    Raises:
        KspaceError: no such variable, or the file is damaged.
    """
    names = list_variables(path, case)
    if name not in names:
        raise KspaceError(f"case '{case}': the file has no variable {name!r}; it has {', '.join(names) or 'none'}")
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                data = file[name]
                part: list[slice] = [slice(None)] * data.ndim
                if taken is not None:
                    part[data.ndim - 1 - taken[0]] = slice(taken[1], taken[1] + 1)
                return joined_complex(data[tuple(part)]).T
        content: Mapping[str, Any] = scipy.io.loadmat(str(path), variable_names=[name])
        array = np.asarray(content[name])
        return array if taken is None else np.take(array, [taken[1]], axis=taken[0])
    except (OSError, ValueError, KeyError) as error:
        raise KspaceError(
            f"case '{case}': {name} cannot be read ({type(error).__name__}): the file is damaged"
        ) from None


def joined_complex(array: Array) -> Array:
    """A compound of `real` and `imag`, as MATLAB writes complex values into HDF5, as complex; others unchanged."""
    if array.dtype.names is None or not {"real", "imag"} <= set(array.dtype.names):
        return array
    joined = np.empty(array.shape, dtype=np.complex64 if array.dtype["real"].itemsize == 4 else np.complex128)
    joined.real, joined.imag = array["real"], array["imag"]
    return joined


def _kspace(path: Path, name: str, case: str, choice: KspaceChoice) -> Array:
    """(T, N, X, Y); of several slices only the chosen one is read."""
    shape = variable_shape(path, case, name)
    axes = choice.axes or MATLAB_AXES.get(len(shape))
    if axes is None:
        raise KspaceError(
            f"case '{case}': kspace has {len(shape)} axes {shape} in MATLAB's order, expected 5 (kx, ky, coil, "
            "slice, t): say the order of another array by axes, such as 'XYNT'"
        )
    taken = None
    if "Z" in axes.upper() and len(axes) == len(shape):
        at = axes.upper().index("Z")
        taken = (at, slice_number(shape[at], choice.slice, case=case))
    return arrange_axes(read_variable(path, name, case, taken), axes, "TNXY", case=case, field="kspace")


def _companion(array: Array, field: str, wanted: str, case: str, choice: KspaceChoice) -> Array:
    known = _COMPANION_AXES[field]
    axes = known.get(array.ndim)
    if axes is None:
        expected = " or ".join(f"{letters} ({number} axes)" for number, letters in known.items())
        raise KspaceError(f"case '{case}': {field} has {array.ndim} axes {array.shape}, expected {expected}")
    if field == "noise":
        return array.T if array.shape[0] > array.shape[1] else array
    return arrange_axes(array, axes, wanted, case=case, field=field, chosen_slice=choice.slice)


def _variable(names: list[str], beginnings: tuple[str, ...], case: str, field: str) -> str:
    for beginning in beginnings:
        if beginning in names:
            return beginning
    found = [name for name in names if name.lower().startswith(beginnings)]
    if len(found) == 1:
        return found[0]
    raise KspaceError(
        f"case '{case}': the file has {len(found)} variables that may be {field} "
        f"({', '.join(found or names) or 'no array'}), expected one that begins with {' or '.join(beginnings)}: "
        "name it by variable"
    )
