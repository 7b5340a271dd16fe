"""What training sees of a cine: a strip of readout rows around the heart, and which of its lines count."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform, RandomizableTransform

from clinbundles.mcmr.fourier import PHASE_ENCODING, READOUT, fftc, ifftc

_KEPT = ("kspace", "mask", "sensitivity_maps", "reference", "flow_to_ed", "myocardium")


class CineTrainingTensorsd(MapTransform):
    """Keep of a loaded case what training needs (deterministic, to be cached), the readout already in image space.

    ``reference`` becomes the complex image that the estimated maps give: magnitude of the case's reference, phase of
    the fully sampled data. Without a reference it is the combination of the fully sampled data itself. A case whose
    data are undersampled has none, and can only train the mode ``kspace``.

    Args:
        keys: k-space (T, N, X, Y), with ``mask`` and ``sensitivity_maps`` beside it.
    """

    def __init__(self, keys: str = "kspace") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` is a sample of ``LoadKspaced`` with sensitivity maps."""
        kept: dict[Hashable, Any] = {
            key: torch.as_tensor(data[key]).as_subclass(torch.Tensor) for key in _KEPT if data.get(key) is not None
        }
        rows = ifftc(kept["kspace"], READOUT)
        whole = bool((kept["mask"] > 0).all())
        if whole:
            coils = ifftc(rows, PHASE_ENCODING)
            combined = (coils * kept["sensitivity_maps"].conj()).sum(1)
            magnitude = kept["reference"].abs() if "reference" in kept else combined.abs()
            kept["reference"] = torch.polar(magnitude, combined.angle())
        else:
            kept.pop("reference", None)
        roi = data.get("roi")
        size = kept["kspace"].shape[-2]
        kept["heart_rows"] = torch.tensor([0, size] if roi is None else [int(roi[0]), int(roi[2])])
        kept["kspace"] = rows
        return kept


class RandReadoutStripd(RandomizableTransform, MapTransform):
    """Cut some readout rows around the heart out of all tensors, and bring the readout back to k-space.

    Lines of phase encoding are sampled completely along the readout, so that rows of the image are independent of each
    other but for motion across the strip's ends: a strip is a smaller examination with the same sampling.

    Args:
        keys: k-space with the readout in image space (T, N, X, Y), of :class:`CineTrainingTensorsd`.
        rows: of the strip; null: all.
        jitter: pixels by which its middle is moved at most.
    """

    def __init__(self, keys: str = "kspace", rows: int | None = 64, jitter: int = 8) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        self.rows, self.jitter = rows, jitter

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` is a sample of :class:`CineTrainingTensorsd`."""
        sample = dict(data)
        size = sample["kspace"].shape[-2]
        rows = size if self.rows is None else min(self.rows, size)
        middle = int(torch.as_tensor(sample.pop("heart_rows")).float().mean())
        moved = middle + (int(self.R.randint(-self.jitter, self.jitter + 1)) if self.jitter else 0)
        first = min(max(moved - rows // 2, 0), size - rows)
        for key in _KEPT:
            if key in sample and (key != "mask" or sample[key].ndim == 3):
                sample[key] = sample[key][..., first : first + rows, :]
        sample["kspace"] = fftc(sample["kspace"], READOUT)
        return sample


class RandHoldOutLinesd(RandomizableTransform, MapTransform):
    """Take acquired lines away from the reconstruction, to be what its loss is measured on (``kspace`` mode).

    Adds ``held_out_mask``; ``mask`` and k-space lose those lines. The middle of k-space stays.

    Args:
        keys: k-space (T, N, X, Y).
        share: of the acquired lines of each frame.
        kept_middle: lines on each side of the middle that are never held out.
        prob: 0: nothing is held out (modes with a reference).
    """

    def __init__(self, keys: str = "kspace", share: float = 0.2, kept_middle: int = 1, prob: float = 1.0) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 < share < 1:
            raise ValueError(f"share of lines held out is {share}: expected between 0 and 1")
        self.share, self.kept_middle = share, kept_middle

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` has ``kspace`` and ``mask`` (T, Y)."""
        sample = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return sample
        mask = sample["mask"]
        if mask.ndim != 2:
            raise ValueError(f"mask has shape {tuple(mask.shape)}: holding out lines needs line sampling, (T, Y)")
        held = torch.zeros_like(mask)
        middle = mask.shape[1] // 2
        for frame, sampled in enumerate(mask):
            lines = torch.nonzero(sampled)[:, 0]
            lines = lines[(lines - middle).abs() > self.kept_middle]
            count = max(1, round(self.share * len(lines)))
            held[frame, lines[torch.as_tensor(self.R.permutation(len(lines))[:count])]] = 1
        sample["held_out_mask"], sample["mask"] = held, mask - held
        sample["held_out"] = sample["kspace"] * held[:, None, None]
        sample["kspace"] = sample["kspace"] * sample["mask"][:, None, None]
        return sample


def prepare_cine(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **options: Any
) -> tuple[Any, Any, tuple[()], dict[str, Any]]:
    """What MONAI's trainer hands on: k-space, targets of the loss, nothing more by place, mask and maps by name."""
    moved = {
        key: value.as_subclass(torch.Tensor).to(device=device, non_blocking=non_blocking, **options)
        for key, value in batch.items()
        if isinstance(value, torch.Tensor)
    }
    given = {key: moved[key] for key in ("mask", "sensitivity_maps")}
    return moved["kspace"], moved, (), given
