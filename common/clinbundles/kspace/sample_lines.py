"""Retrospective undersampling: a fully sampled cine keeps a few lines of each frame."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from torch import Tensor

from clinbundles.kspace.cmrxrecon_reader import list_variables, read_variable
from clinbundles.kspace.kspace_case import Array, KspaceError
from clinbundles.kspace.sampled_lines import fitted_mask
from clinbundles.mcmr.sampling_masks import variable_density_lines
from clinbundles.mcmr.sensitivity_estimation import named_lines


class SampleLinesd(Randomizable, Transform):
    """Keep every frame's share of lines of a fully sampled ``kspace``, in a variable-density pattern or a given one.

    Also called: undersampling, acceleration. ``mask`` becomes the new mask and ``kspace`` zero outside of it.

    Args:
        acceleration: fully sampled lines / kept lines; of several, one is drawn for each case.
        seed: with it, acceleration and lines depend on the seed and the name of the case alone, as validation needs
            it. Without it (training) both are drawn anew each time, from the random state that MONAI sets.
        mask_file: a pattern instead: .npy, .txt, .csv or .mat (its only array) with (T, Y), (Y, T), (Y,) or (T, X, Y),
            as :func:`clinbundles.kspace.sampled_lines.fitted_mask` reads it; not zero is sampled.
        keep_full: whether the sample keeps the fully sampled k-space as ``kspace_full``.

    Raises:
        KspaceError: the k-space lacks lines (named), the pattern asks for some of these or has another shape.
        ValueError: an acceleration below 1.
    """

    def __init__(
        self,
        acceleration: float | Sequence[float] = 8.0,
        seed: int | None = None,
        mask_file: str | Path | None = None,
        keep_full: bool = False,
    ) -> None:
        several = acceleration if isinstance(acceleration, Sequence) else (acceleration,)
        self.accelerations = tuple(float(value) for value in several)
        if not self.accelerations or not all(value >= 1 for value in self.accelerations):
            raise ValueError(f"acceleration is {acceleration}, expected numbers of at least 1")
        self.seed = seed
        self.mask_file = None if mask_file is None else Path(mask_file)
        self.keep_full = keep_full

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Undersample one case; adds ``acceleration``: lines that were there / lines that are kept."""
        sample = dict(data)
        case = str(sample.get("case", ""))
        kspace, mask = sample["kspace"], sample["mask"]
        full = mask if mask.ndim == 3 else mask[:, None, :]
        lines = full.bool().any(dim=1)  # (T, Y)
        if self.mask_file is not None:
            kept = torch.from_numpy(fitted_mask(read_mask(self.mask_file, case), tuple(kspace.shape), case=case))
            wanted = (kept if kept.ndim == 2 else kept.amax(dim=1)).bool()
            _refuse_missing(wanted & ~lines, case, f"the pattern {self.mask_file.name} asks for")
        else:
            _refuse_holes(full, lines, case)
            kept = self._drawn(lines, case)
        new = full * (kept if kept.ndim == 3 else kept[:, None, :]).to(full.device)
        if self.keep_full:
            sample["kspace_full"] = kspace
        sample["kspace"] = kspace * new[:, None]
        sample["mask"] = new if new.shape[1] > 1 else new[:, 0]
        sample["acceleration"] = float(full.sum() / new.sum().clamp_min(1))
        return sample

    def _drawn(self, lines: Tensor, case: str) -> Tensor:
        """(T, Y) float32 of zeros and ones, among the lines that every frame has."""
        everywhere = torch.nonzero(lines.any(dim=0)).flatten()
        if not len(everywhere):
            raise KspaceError(f"case '{case}': mask samples no line at all, expected fully sampled k-space")
        first, last = int(everywhere[0]), int(everywhere[-1])  # lines beyond are zero padding
        _refuse_missing(~lines[:, first : last + 1], case, "retrospective undersampling needs", first)
        if self.seed is None:
            generator = self.R
        else:
            generator = np.random.RandomState(zlib.crc32(f"{self.seed}/{case}".encode()))
        acceleration = self.accelerations[generator.randint(len(self.accelerations))]
        seed = int(generator.randint(2**31 - 1))
        kept = torch.zeros(lines.shape)
        kept[:, first : last + 1] = variable_density_lines(len(lines), last + 1 - first, acceleration, seed)
        return kept


def read_mask(path: Path, case: str = "") -> Array:
    """A pattern of lines from .npy, .txt, .csv or .mat.

    Raises:
        FileNotFoundError: no such file.
        KspaceError: another format, or a .mat file with several arrays.
    """
    if not path.is_file():
        raise FileNotFoundError(f"case '{case}': the mask file {path.name} does not exist")
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if suffix in (".txt", ".csv"):
            return np.squeeze(np.loadtxt(path, delimiter="," if suffix == ".csv" else None, ndmin=2))
        if suffix == ".mat":
            return _only_array(path, case)
    except KspaceError:
        raise
    except (ValueError, OSError, NotImplementedError) as error:
        raise KspaceError(f"case '{case}': the mask file {path.name} cannot be read ({type(error).__name__})") from None
    raise KspaceError(f"case '{case}': the mask file {path.name} is {suffix!r}, expected .npy, .txt, .csv or .mat")


def _only_array(path: Path, case: str) -> Array:
    names = list_variables(path, case)
    masks = [name for name in names if name.lower().startswith("mask")] or names
    if len(masks) != 1:
        raise KspaceError(
            f"case '{case}': the mask file {path.name} holds {', '.join(names) or 'no array'}, expected one array"
        )
    array = np.squeeze(read_variable(path, masks[0], case))
    return np.moveaxis(array, -1, 0) if array.ndim == 3 else array  # (kx, ky, t) in MATLAB's order


def _refuse_holes(full: Tensor, lines: Tensor, case: str) -> None:
    """A readout may be shorter (asymmetric echo), but then in all lines."""
    expected = full.amax(dim=(0, 2))[None, :, None] * lines[:, None, :]
    holes = int((expected != full).sum())
    if holes:
        raise KspaceError(
            f"case '{case}': mask lacks {holes} single samples within lines that were acquired, expected fully sampled "
            "k-space"
        )


def _refuse_missing(missing: Tensor, case: str, why: str, first: int = 0) -> None:
    if not bool(missing.any()):
        return
    frames = torch.nonzero(missing.any(dim=1)).flatten().tolist()
    lines = (torch.nonzero(missing[frames[0]]).flatten() + first).tolist()
    raise KspaceError(
        f"case '{case}': {why} lines that were not acquired: frame {frames[0]} lacks {named_lines(lines)}"
        f"{f', {len(frames) - 1} further frames lack some too' if len(frames) > 1 else ''}; expected fully sampled "
        "k-space"
    )
