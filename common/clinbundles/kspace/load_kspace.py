"""Loading of one case of raw data, whatever its format, into the tensors of the reconstruction."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from clinbundles.kspace.bart_cfl import read_bart, read_bart_array
from clinbundles.kspace.cmrxrecon_reader import read_cmrxrecon, read_mat_array
from clinbundles.kspace.ismrmrd_reader import read_ismrmrd
from clinbundles.kspace.kspace_case import Array, KspaceCase, KspaceChoice, KspaceError, centred_affine
from clinbundles.kspace.npy_reader import CASE_FILE, read_npy, read_npy_array
from clinbundles.kspace.sampled_lines import fitted_mask, sampled_mask
from clinbundles.kspace.use_noise import whitened_case

READERS: dict[str, Callable[[Path, str, KspaceChoice], KspaceCase]] = {
    ".npy": read_npy,
    ".cfl": read_bart,
    ".hdr": read_bart,
    ".mat": read_cmrxrecon,
    ".h5": read_ismrmrd,
    ".hdf5": read_ismrmrd,
    ".mrd": read_ismrmrd,
}
_DEFAULT_THICKNESS_MM = 8.0
_OTHER_NAMES = {"sensitivity_maps": ("csm", "maps"), "roi": ("heart_bbox",)}
_CHOICES = ("axes", "slice", "set", "repetition", "variable")
_ORDER = {"sensitivity_maps": "NXY", "reference": "TXY", "noise": "NS"}

logger = logging.getLogger(__name__)


class LoadKspaced(MapTransform):
    """Load one slice of a dynamic acquisition: ISMRMRD (.h5, .mrd), CMRxRecon (.mat), BART (.cfl), .npy, a case folder.

    Also called: raw data import. Conventions: :mod:`clinbundles.kspace.kspace_case`. The case names a file, or a folder
    with ``kspace.npy``, under ``keys``. It may also have the paths ``mask``, ``sensitivity_maps``, ``reference`` (T, X,
    Y), ``noise`` (N, S) and ``truth`` (.npz), and the values ``spacing_mm``, ``frame_ms``, ``cyclic``, ``roi``,
    ``affine``, ``thickness_mm``, ``noise_sd``, ``slice``, ``set``, ``repetition``, ``axes`` and ``variable``; what
    the case says wins over what the file says. Written to the sample:

    - ``kspace`` complex64 (T, N, X, Y); ``mask`` float32 (T, Y), or (T, X, Y) where lines were sampled in part;
    - ``sensitivity_maps`` complex64 (N, X, Y), ``reference`` complex64 (T, X, Y): where they are given;
    - ``spacing_mm`` (2,) float32, 1 mm where nobody knows it (``spacing_known`` is then False); ``frame_ms`` float, NaN
      where unknown; ``cyclic`` bool; ``affine`` (4, 4) float64, RAS; ``roi`` (x0, y0, x1, y1) or None;
    - ``noise_sd`` float: of a complex sample, 1 after whitening, NaN where unknown;
    - ``acquisition``: further facts for ``CheckKspaced``; ``case``: the name;
    - with ``truth``, the arrays of the simulator under their names.

    Noise (noise scans of an ISMRMRD file, or ``noise`` of the case) whitens the coils: see
    :mod:`clinbundles.mcmr.noise_whitening`.

    Args:
        keys: key of the file or folder; the result is always ``kspace``.
        sensitivity_maps: whether given maps are read.
        reference: whether a given reference is read.
        truth: whether a simulator's truth is read.
        whiten: whether noise is used.
        axes, slice, set, repetition, variable: as in the case, for all cases that do not say it themselves.
        spacing_mm: pixel size of cases and files that do not say it.
        crop_oversampling, pad_phase_encoding: see :class:`clinbundles.kspace.kspace_case.KspaceChoice`.

    Raises:
        KspaceError: names the case, the field, what was found and what was expected.
        FileNotFoundError: no such file.
    """

    def __init__(
        self,
        keys: KeysCollection = "kspace",
        *,
        sensitivity_maps: bool = True,
        reference: bool = True,
        truth: bool = False,
        whiten: bool = True,
        axes: str | None = None,
        slice: int | None = None,
        set: int | None = None,
        repetition: int | None = None,
        variable: str | None = None,
        spacing_mm: tuple[float, float] | None = None,
        crop_oversampling: bool = True,
        pad_phase_encoding: bool = True,
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys names {len(self.keys)} keys, expected one: a case has one k-space")
        self.sensitivity_maps = sensitivity_maps
        self.reference = reference
        self.truth = truth
        self.spacing_mm = spacing_mm
        self.choice = KspaceChoice(
            axes, slice, set, repetition, variable, whiten, crop_oversampling, pad_phase_encoding
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read the case into a copy of the sample; one that holds k-space already passes unchanged."""
        sample = dict(data)
        given = sample.get(self.keys[0])
        if isinstance(given, torch.Tensor):
            return sample
        if given is None:
            raise KspaceError(f"the case has no '{self.keys[0]}' (it has {', '.join(map(str, sample))}): name its file")
        path = Path(given[0] if isinstance(given, list | tuple) and len(given) == 1 else given)
        if path.is_dir():
            path = path / CASE_FILE
        case = case_name(sample, path)
        if not path.exists():
            raise FileNotFoundError(f"case '{case}': {path.name} does not exist")
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise KspaceError(
                f"case '{case}': kspace is a file of the kind {path.suffix or 'without ending'!r}, expected one of "
                f"{', '.join(READERS)} or a folder with {CASE_FILE}"
            )
        stated = {name: sample.pop(name) for name in _CHOICES if name in sample}
        choice = replace(self.choice, **{name: value for name, value in stated.items() if value is not None})
        found = self._with_entries(reader(path, case, choice), sample, case, choice)
        sample.pop(self.keys[0])
        if choice.whiten:
            found = whitened_case(found, case)
        return {**sample, **self._tensors(found, case)}

    def _with_entries(
        self, found: KspaceCase, sample: dict[Hashable, Any], case: str, choice: KspaceChoice
    ) -> KspaceCase:
        """What the case itself says, taken out of the sample."""
        entries: dict[str, Any] = {}
        names = ("spacing_mm", "frame_ms", "cyclic", "roi", "affine", "thickness_mm", "noise_sd")
        for name in (*names, "mask", "sensitivity_maps", "reference", "noise", "truth"):
            values = [sample.pop(key, None) for key in (name, *_OTHER_NAMES.get(name, ()))]
            value = next((value for value in values if value is not None), None)
            if value is None:
                continue
            if name in names:
                entries[name] = _value(value, name, case)
            elif name == "truth":
                if self.truth and isinstance(value, str | Path):
                    with np.load(value, allow_pickle=False) as file:
                        entries[name] = {key: file[key] for key in file.files}
            else:
                entries[name] = _array(value, name, case, choice)
        return replace(found, **entries)

    def _tensors(self, found: KspaceCase, case: str) -> dict[Hashable, Any]:
        kspace = np.ascontiguousarray(complex_only(found.kspace, case, "kspace"), dtype=np.complex64)
        mask = sampled_mask(kspace) if found.mask is None else fitted_mask(found.mask, kspace.shape, case=case)
        spacing = found.spacing_mm or self.spacing_mm
        if spacing is None:
            logger.warning(
                "case '%s': the pixel size is not known: lengths are in pixels; give spacing_mm in the case", case
            )
        pixel = (float(spacing[0]), float(spacing[1])) if spacing is not None else (1.0, 1.0)
        shape = (kspace.shape[2], kspace.shape[3])
        affine = found.affine
        if affine is None:
            affine = centred_affine(shape, pixel, found.thickness_mm or _DEFAULT_THICKNESS_MM)
        sample: dict[Hashable, Any] = {
            "kspace": torch.from_numpy(kspace),
            "mask": torch.from_numpy(mask),
            "spacing_mm": torch.tensor(pixel),
            "spacing_known": spacing is not None,
            "frame_ms": math.nan if found.frame_ms is None else float(found.frame_ms),
            "cyclic": True if found.cyclic is None else bool(found.cyclic),
            "affine": torch.from_numpy(np.asarray(affine, dtype=np.float64)),
            "roi": found.roi,
            "noise_sd": math.nan if found.noise_sd is None else float(found.noise_sd),
            "acquisition": dict(found.acquisition),
            "case": case,
        }
        for name, wished in (("sensitivity_maps", self.sensitivity_maps), ("reference", self.reference)):
            array = getattr(found, name)
            if wished and array is not None:
                array = complex_only(array, case, name)
                sample[name] = torch.from_numpy(np.ascontiguousarray(array, dtype=np.complex64))
        if self.truth:
            sample |= {name: torch.from_numpy(np.asarray(array)) for name, array in found.truth.items()}
        return sample


def case_name(sample: Mapping[Any, Any], path: Path) -> str:
    """The name of a case: its ``case`` or ``study``, else the file's or the case folder's name."""
    for key in ("case", "study"):
        if sample.get(key):
            return str(sample[key])
    return path.parent.name if path.name == CASE_FILE else path.stem


def complex_only(array: Array, case: str, field: str) -> Array:
    """The array, if it is complex.

    Raises:
        KspaceError: it is real.
    """
    if np.iscomplexobj(array):
        return array
    pairs = "; its last axis of length 2 looks like real and imaginary part: join them" if array.shape[-1] == 2 else ""
    raise KspaceError(
        f"case '{case}': {field} has real values ({array.dtype}, shape {array.shape}), expected complex values: "
        f"magnitude images (DICOM) cannot be reconstructed, export the raw data{pairs}"
    )


def _array(value: Any, name: str, case: str, choice: KspaceChoice) -> Array:
    """A companion of the k-space: an array in memory, or a file."""
    if not isinstance(value, str | Path):
        return np.asarray(value)
    path = Path(value)
    if not path.exists():
        raise FileNotFoundError(f"case '{case}': {name} ({path.name}) does not exist")
    suffix = path.suffix.lower()
    if suffix in (".cfl", ".hdr"):
        return read_bart_array(path, case, name, _ORDER.get(name))
    if suffix == ".mat":
        return read_mat_array(path, case, name, _ORDER.get(name), choice)
    if suffix == ".npy":
        return read_npy_array(path, case, name)
    if suffix in (".txt", ".csv") and name == "mask":
        return np.loadtxt(path, delimiter="," if suffix == ".csv" else None, ndmin=2)
    raise KspaceError(
        f"case '{case}': {name} is a file {suffix!r}, expected .npy, .mat, .cfl" + " or .txt" * (name == "mask")
    )


def _value(value: Any, name: str, case: str) -> Any:
    try:
        if name == "cyclic":
            if isinstance(value, str):
                return {"true": True, "false": False}[value.strip().lower()]
            return bool(value)
        numbers = [float(number) for number in np.asarray(value, dtype=float).ravel()]
        if name == "affine":
            return np.asarray(numbers).reshape(4, 4)
        if name == "roi":
            x0, y0, x1, y1 = (int(number) for number in numbers)
            return x0, y0, x1, y1
        if name == "spacing_mm":
            first, *rest = numbers
            second = rest[0] if rest else first
            if len(numbers) > 2 or not (first > 0 and second > 0):
                raise ValueError
            return first, second
        (number,) = numbers
        return number
    except (ValueError, TypeError, KeyError):
        raise KspaceError(f"case '{case}': {name} is {value!r}, expected {_EXPECTED[name]}") from None


_EXPECTED = {
    "cyclic": "true or false",
    "affine": "4 x 4 numbers",
    "roi": "four whole numbers x0, y0, x1, y1",
    "spacing_mm": "one or two numbers above 0, in mm",
    "frame_ms": "one number, in ms",
    "thickness_mm": "one number, in mm",
    "noise_sd": "one number",
}
