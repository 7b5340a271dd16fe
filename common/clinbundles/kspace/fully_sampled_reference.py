"""The reference of real data: the cine that the fully sampled k-space gives."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform

from clinbundles.mcmr.fourier import ifft2c


class FullySampledReferenced(Transform):
    """Write ``reference`` (T, X, Y): the coil images of ``kspace_full``, combined with ``sensitivity_maps``.

    The combination sum conj(S) x is the least-squares one for white noise and unit maps (Roemer et al., The NMR phased
    array, MRM 16 (1990)). ``kspace_full``, from ``SampleLinesd(keep_full=True)``, is taken out of the sample. A case
    with a reference, or without ``kspace_full``, passes unchanged. This reference has the data's noise.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the reference of one case."""
        sample = dict(data)
        full = sample.pop("kspace_full", None)
        if full is None or "reference" in sample:
            return sample
        maps = sample["sensitivity_maps"].conj()
        # a frame at a time: all coil images together are as large as the k-space again
        sample["reference"] = torch.stack([(maps * ifft2c(frame)).sum(dim=0) for frame in full])
        return sample
