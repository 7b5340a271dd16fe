"""Removal of readout oversampling: the field of view that nobody asked for is cut off in the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clinbundles.kspace.kspace_case import Array


def crop_readout(kspace: Array, readout: int) -> npt.NDArray[np.complex64]:
    """Centred k-space (..., X, Y) to (..., ``readout``, Y) by an inverse FFT along X, a cut and an FFT back.

    Exact where the whole readout was sampled. Where a part is missing (asymmetric echo), samples next to the edge of
    that part are blurred by it over one or two samples.

    Raises:
        ValueError: ``readout`` is longer than X.
    """
    length = kspace.shape[-2]
    if not 1 <= readout <= length:
        raise ValueError(f"the readout has {length} samples, it cannot be cut to {readout}")
    if readout == length:
        return np.asarray(kspace, dtype=np.complex64)
    start = length // 2 - readout // 2
    image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, axes=-2), axis=-2, norm="ortho"), axes=-2)
    image = image[..., start : start + readout, :]
    back = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(image, axes=-2), axis=-2, norm="ortho"), axes=-2)
    return back.astype(np.complex64)


def crop_readout_mask(sampled: Array, readout: int) -> npt.NDArray[np.bool_]:
    """Which samples of the cut readout were acquired: (..., X, Y) to (..., ``readout``, Y).

    A sample of the cut readout stands for the nearest one of the full readout.
    """
    length = sampled.shape[-2]
    nearest = length // 2 + (np.arange(readout) - readout // 2) * (length / readout)
    return sampled[..., np.clip(np.round(nearest).astype(int), 0, length - 1), :] != 0
