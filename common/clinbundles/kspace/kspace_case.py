"""One dynamic acquisition of one slice, as every reader returns it and every transform expects it.

The conventions of the whole package, fixed here and in :mod:`clinbundles.mcmr.fourier`:

- axes T frames, N coils, X readout, Y phase encoding, always in this order;
- k-space is centred: its centre (DC) lies at index n // 2 of both X and Y;
- the Fourier transform is orthonormal, so noise has the same variance in k-space and in the image;
- what was not sampled is exactly zero, and the mask says which samples these are;
- an affine leads from (x, y, 0) in pixels to the patient in mm, RAS as in NIfTI; pixel (X // 2, Y // 2) is the centre
  of the field of view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class KspaceError(ValueError):
    """Raw data that cannot be used as they are; the message says what was found, what was expected, what to do."""


@dataclass(frozen=True)
class KspaceCase:
    """What one file (or folder) says of one slice; None where it says nothing.

    Attributes:
        kspace: (T, N, X, Y) complex64.
        mask: (T, Y) or (T, X, Y) float32 of zeros and ones; None: what is not zero was sampled.
        sensitivity_maps: (N, X, Y) complex64.
        reference: (T, X, Y) complex64, an image without noise to compare with.
        spacing_mm: pixel size along X and Y, mm.
        thickness_mm: of the slice.
        frame_ms: time between frames.
        cyclic: whether the last frame is followed by the first.
        affine: 4x4, see above.
        roi: (x0, y0, x1, y1) in pixels, the box [x0, x1) x [y0, y1) around the heart.
        noise: (N, S) complex, samples of noise alone that have not been used yet.
        noise_sd: square root of the mean of |noise|^2 of a complex sample of k-space, where it is known.
        acquisition: further facts that :class:`clinbundles.kspace.CheckKspaced` looks at.
        truth: arrays that a simulator knows.
    """

    kspace: Array
    mask: Array | None = None
    sensitivity_maps: Array | None = None
    reference: Array | None = None
    spacing_mm: tuple[float, float] | None = None
    thickness_mm: float | None = None
    frame_ms: float | None = None
    cyclic: bool | None = None
    affine: Array | None = None
    roi: tuple[int, int, int, int] | None = None
    noise: Array | None = None
    noise_sd: float | None = None
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    truth: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class KspaceChoice:
    """What a user chose where a file leaves a choice.

    Attributes:
        axes: letters of the array's axes (see :mod:`clinbundles.kspace.axis_order`), for files that do not say them.
        slice: number of the slice, from 0.
        set: counter of the set (ISMRMRD).
        repetition: counter of the repetition (ISMRMRD), where a cine was acquired several times.
        variable: name of the array in a MAT file.
        whiten: whether noise scans decorrelate the coils.
        crop_oversampling: whether readout oversampling is removed.
        pad_phase_encoding: whether phase encoding is filled with zeros up to the matrix of the reconstruction.
    """

    axes: str | None = None
    slice: int | None = None
    set: int | None = None
    repetition: int | None = None
    variable: str | None = None
    whiten: bool = True
    crop_oversampling: bool = True
    pad_phase_encoding: bool = True


def centred_affine(
    shape: tuple[int, int], spacing_mm: tuple[float, float], thickness_mm: float
) -> npt.NDArray[np.float64]:
    """Affine of an image (X, Y) whose place in the patient is not known: the pixel of the centre lies at the origin."""
    affine = np.diag([spacing_mm[0], spacing_mm[1], thickness_mm, 1.0])
    affine[:2, 3] = [-(shape[0] // 2) * spacing_mm[0], -(shape[1] // 2) * spacing_mm[1]]
    return affine
