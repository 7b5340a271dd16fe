"""Loading of one study's image, whatever it comes as: NIfTI or a DICOM series."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImaged

from clinbundles.dicom import SeriesError, list_series, mismatches, read_series
from clinbundles.dicom.series_listing import is_dicom

_CHANNEL_DIM = "original_channel_dim"


class LoadImageStudyd(LoadImaged):
    """Load a NIfTI file or a DICOM series as float32, channel first, with the affine in RAS mm.

    Also called: DICOM import, volume reader. A DICOM series is given as the list of its files, as the folder that holds
    it, or as one enhanced multi-frame file; see :func:`clinbundles.dicom.read_series`. Both ways give one geometry: the
    NIfTI that converters make of a series and the series itself agree in patient coordinates. Everything else is read
    as by MONAI's ``LoadImaged`` with ``ensure_channel_first``. A key that already holds an image (MONAI Label, MONAI
    Deploy) passes unchanged.

    Args:
        keys: keys of the paths.
        series_rules: what a DICOM series must be, as in ``configs/dicom.yaml``: keyword -> regular expression.
        time: whether the image has a time axis, which becomes the last one: (1, I, J, K, T). Without it, a DICOM series
            with several frames at one position is refused, and the fourth axis of a NIfTI file becomes the channels,
            as MONAI does.
        allow_missing_keys: skip keys that a case lacks.

    Raises:
        SeriesError: a series that is no regular image, or not one of the bundle's; says what was found.
    """

    def __init__(
        self,
        keys: KeysCollection,
        series_rules: Mapping[str, str] | None = None,
        time: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, image_only=True, ensure_channel_first=True, allow_missing_keys=allow_missing_keys)
        self.series_rules = dict(series_rules or {})
        self.time = time

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Load every key that holds a path or a list of paths."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            paths = _paths(sample[key])
            if paths is None:
                continue
            if _are_dicom(paths):
                image = self._read_dicom(paths)
            else:
                image = self._loader(sample[key], reader)
                if self.time:
                    image = _time_last(image, paths[0].name)
            # whatever step makes sure of channels in a host finds them here
            image.meta[_CHANNEL_DIM] = 0
            sample[key] = image
        return sample

    def _read_dicom(self, paths: Sequence[Path]) -> MetaTensor:
        found = [series for series in list_series(paths) if series.has_image]
        if len(found) == 1:
            against = mismatches(found[0], self.series_rules) if not found[0].damaged else []
            if against:
                raise SeriesError(f"{found[0]}: {'; '.join(against)}")
        elif self.series_rules and paths[0].is_dir():
            found = [series for series in found if not mismatches(series, self.series_rules)] or found
        return read_series(found[0] if len(found) == 1 else paths, time=self.time)


def _paths(value: Any) -> list[Path] | None:
    """The paths that a case names, or None if it holds an image."""
    if isinstance(value, str | os.PathLike):
        return [Path(value)]
    if isinstance(value, list | tuple) and value and all(isinstance(path, str | os.PathLike) for path in value):
        return [Path(path) for path in value]
    return None


def _are_dicom(paths: Sequence[Path]) -> bool:
    first = paths[0]
    if not first.exists():
        raise FileNotFoundError(f"{first.name}: no such file or folder")
    # a name that says DICOM is refused by the reader of DICOM if it is none
    return first.is_dir() or is_dicom(first) or first.suffix.lower() in (".dcm", ".dicom")


def _time_last(image: MetaTensor, where: str) -> MetaTensor:
    """(T, I, J, K), as MONAI reads a NIfTI series, to (1, I, J, K, T).

    Raises:
        ValueError: no time axis.
    """
    if image.ndim != 4 or image.shape[0] == 1:
        raise ValueError(
            f"{where}: has the shape {tuple(image.shape[1:])}, expected a series (columns, rows, slices, times)"
        )
    series = MetaTensor(torch.movedim(image.as_tensor(), 0, -1)[None].contiguous()).copy_meta_from(image)
    series.meta["spatial_shape"] = np.asarray(series.shape[1:4])
    return series
