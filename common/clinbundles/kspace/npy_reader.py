"""K-space as a NumPy file, alone or in a case folder with maps, mask, reference and truth beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from clinbundles.kspace.axis_order import arrange_axes
from clinbundles.kspace.kspace_case import Array, KspaceCase, KspaceChoice, KspaceError

CASE_FILE = "kspace.npy"
_BESIDE = {"mask": "mask.npy", "sensitivity_maps": "maps.npy", "reference": "reference.npy"}
_FACTS = ("roi", "noise_sd", "frame_ms", "spacing_mm", "cyclic", "affine", "thickness_mm")


def read_npy_array(path: Path, case: str, field: str) -> Array:
    """An array as it is in the file; nothing pickled is read.

    Raises:
        KspaceError: no NumPy file.
    """
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise KspaceError(
            f"case '{case}': {field} ({path.name}) cannot be read as a NumPy array ({type(error).__name__}): it is "
            "damaged or another format"
        ) from None


def read_npy(path: Path, case: str, choice: KspaceChoice) -> KspaceCase:
    """K-space (T, N, X, Y), or of the order that ``choice.axes`` says.

    A file called ``kspace.npy`` is a case folder's: ``mask.npy`` (T, Y) or (T, X, Y), ``maps.npy`` (N, X, Y),
    ``reference.npy`` (T, X, Y) and ``truth.npz`` are read with it where they are.

    Raises:
        KspaceError: no such array, or axes that nobody stated.
    """
    array = read_npy_array(path, case, "kspace")
    axes = choice.axes
    if axes is None:
        if array.ndim != 4:
            raise KspaceError(
                f"case '{case}': kspace has {array.ndim} axes {array.shape}, expected 4 (frames, coils, readout, phase "
                "encoding): say the order of another array by axes, such as 'NYX' for (coil, ky, kx)"
            )
        axes = "TNXY"
    kspace = arrange_axes(array, axes, "TNXY", case=case, field="kspace", chosen_slice=choice.slice)
    if path.name != CASE_FILE:
        return KspaceCase(kspace)
    found: dict[str, Any] = {
        field: read_npy_array(path.with_name(name), case, field)
        for field, name in _BESIDE.items()
        if path.with_name(name).is_file()
    }
    truth = _truth(path.with_name("truth.npz"), case)
    facts = {name: truth.pop(name) for name in _FACTS if name in truth}
    return KspaceCase(
        kspace,
        **found,
        roi=_integers(facts.get("roi")),
        spacing_mm=_pair(facts.get("spacing_mm")),
        thickness_mm=_number(facts.get("thickness_mm")),
        frame_ms=_number(facts.get("frame_ms")),
        noise_sd=_number(facts.get("noise_sd")),
        cyclic=bool(facts["cyclic"]) if "cyclic" in facts else None,
        affine=facts.get("affine"),
        truth=truth,
    )


def _truth(path: Path, case: str) -> dict[str, Array]:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zip, zlib and NumPy each have their own
        raise KspaceError(
            f"case '{case}': truth.npz cannot be read ({type(error).__name__}): make the case again"
        ) from (None)


def _number(value: Array | None) -> float | None:
    return None if value is None else float(value)


def _pair(value: Array | None) -> tuple[float, float] | None:
    if value is None:
        return None
    both = np.broadcast_to(np.asarray(value, dtype=float).ravel(), (2,))
    return float(both[0]), float(both[1])


def _integers(value: Array | None) -> tuple[int, int, int, int] | None:
    if value is None or np.size(value) != 4:
        return None
    x0, y0, x1, y1 = (int(number) for number in np.asarray(value).ravel())
    return x0, y0, x1, y1
