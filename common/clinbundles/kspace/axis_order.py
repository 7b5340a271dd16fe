"""The order of axes: arrays of any order become T frames, N coils, X readout, Y phase encoding."""

from __future__ import annotations

import numpy as np

from clinbundles.kspace.kspace_case import Array, KspaceError

_MEANING = {
    "T": "frames",
    "N": "coils",
    "X": "readout",
    "Y": "phase encoding",
    "Z": "slices",
    "_": "an axis of length 1",
}


def arrange_axes(
    array: Array, axes: str, wanted: str, *, case: str, field: str, chosen_slice: int | None = None
) -> Array:
    """Bring an array into the order ``wanted``; an axis that it lacks becomes one of length 1, except X and Y.

    Args:
        array: any.
        axes: one letter per axis of ``array``: T, N, X, Y, Z (slices), ``_`` for an axis of length 1.
        wanted: the letters of the result, such as "TNXY".
        case: name of the case, for messages.
        field: what the array is, for messages.
        chosen_slice: number of the slice to take, from 0; needed where there are several.

    Raises:
        KspaceError: letters that do not fit the array; several slices and none chosen.
    """
    letters = axes.upper()
    unknown = sorted(set(letters) - set(_MEANING))
    twice = sorted({letter for letter in letters if letter != "_" and letters.count(letter) > 1})
    if unknown or twice:
        raise KspaceError(
            f"case '{case}': axes is {axes!r} with {', '.join(unknown or twice)} {'unknown' if unknown else 'twice'}; "
            f"expected one of each of {', '.join(f'{letter} ({meaning})' for letter, meaning in _MEANING.items())}"
        )
    if len(letters) != array.ndim:
        raise KspaceError(
            f"case '{case}': {field} has {array.ndim} axes {array.shape}, but axes {axes!r} names {len(letters)}: "
            "correct axes or the file"
        )
    for letter, length in zip(letters, array.shape, strict=True):
        if length != 1 and letter not in (*wanted, "Z"):
            raise KspaceError(
                f"case '{case}': {field} has an axis of length {length} that axes {axes!r} calls {letter} "
                f"({_MEANING[letter]}), expected length 1: give an array with the axes {wanted}, or correct axes"
            )
    if "Z" in letters and "Z" not in wanted:
        at = letters.index("Z")
        array = np.take(array, slice_number(array.shape[at], chosen_slice, case=case), axis=at)
        letters = letters.replace("Z", "")
    lacking = [letter for letter in "XY" if letter in wanted and letter not in letters]
    if lacking:
        raise KspaceError(
            f"case '{case}': axes {axes!r} of {field} names no {' and no '.join(lacking)}: every array has a readout "
            "axis X and a phase-encoding axis Y"
        )
    spare = [at for at, letter in enumerate(letters) if letter not in wanted]
    array = np.squeeze(array, axis=tuple(spare))
    letters = "".join(letter for letter in letters if letter in wanted)
    array = np.transpose(array, [letters.index(letter) for letter in wanted if letter in letters])
    for at, letter in enumerate(wanted):
        if letter not in letters:
            array = np.expand_dims(array, at)
    return array


def slice_number(slices: int, chosen: int | None, *, case: str) -> int:
    """The slice to read.

    Raises:
        KspaceError: several slices and none chosen, or one that is not there.
    """
    if chosen is None and slices > 1:
        raise KspaceError(
            f"case '{case}': the file holds {slices} slices, expected one slice per case: set slice to 0 ... "
            f"{slices - 1} in the case, or list one case per slice with clinbundles.kspace.cases_by_slice"
        )
    number = chosen or 0
    if not 0 <= number < slices:
        raise KspaceError(f"case '{case}': slice is {number}, but the file holds the slices 0 ... {slices - 1}")
    return number
