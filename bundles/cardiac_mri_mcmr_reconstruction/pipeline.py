"""The deterministic steps around the reconstruction, the same for training, evaluation and inference."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Transform

from cardiac_mri_mcmr_reconstruction.case_files import FindCaseFilesd
from cardiac_mri_mcmr_reconstruction.results.plausibility import CheckPlausibilityd
from cardiac_mri_mcmr_reconstruction.results.save_reconstruction import SaveImageReconstructiond
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import UnrolledSettings
from clinbundles.kspace import (
    CheckKspaced,
    CompressCoilsd,
    EstimateSensitivityMapsd,
    FullySampledReferenced,
    LoadKspaced,
    SampleLinesd,
)

GIVEN = "given"


def preprocessing(
    acceleration: float | None = None,
    mask_file: str | None = None,
    coils: int | None = 10,
    maps: str = GIVEN,
    calibration_width: int = 24,
    axes: str | None = None,
    spacing_mm: Sequence[float] | None = None,
    seed: int = 0,
    truth: bool = False,
    for_network: bool = True,
) -> Compose:
    """Preprocessing of a case: ``image``, its k-space (T, N, X, Y), ``mask``, ``sensitivity_maps`` and facts.

    Args:
        acceleration: keep a share of the lines of a fully sampled case, drawn from its name; None or 0: as acquired.
        mask_file: lines to keep instead of drawn ones.
        coils: to compress to; None or 0: all.
        maps: "given": those of the case, ESPIRiT where it has none; "espirit" or "time_average": always estimated.
        calibration_width: lines and readout samples of the centre that maps are estimated from.
        axes: letters of the axes of arrays that do not say it (``clinbundles.kspace.axis_order``).
        spacing_mm: pixel size of cases that do not say it.
        seed: of the lines that are kept.
        truth: whether a simulator's truth is read.
        for_network: whether k-space has the name ``image``, by which MONAI's engines look for a network's input.
    """
    steps: list[Any] = [
        FindCaseFilesd(),
        LoadKspaced(
            "kspace",
            sensitivity_maps=maps == GIVEN,
            truth=truth,
            axes=axes,
            spacing_mm=None if spacing_mm is None else (float(spacing_mm[0]), float(spacing_mm[-1])),
        ),
    ]
    if acceleration or mask_file is not None:
        steps.append(SampleLinesd(acceleration or 1.0, seed=seed, mask_file=mask_file, keep_full=True))
    steps += [
        CheckKspaced(calibration_width=calibration_width),
        CompressCoilsd(coils or None),
        EstimateSensitivityMapsd("espirit" if maps == GIVEN else maps, calibration_width=calibration_width),
        FullySampledReferenced(),
        KeepTensorsd(),
    ]
    return Compose([*steps, KspaceAsImaged()] if for_network else steps)


def postprocessing(
    settings: UnrolledSettings,
    output_dir: str | Path | None = None,
    held_out_share: float = 0.1,
    fallback: bool = True,
    uncertainty: bool = False,
    figures: bool = True,
    film: bool = True,
    dicom: bool = False,
    source_header: str | None = None,
    version: str = "",
    weights_file: str | None = None,
) -> Compose:
    """Postprocessing of ``pred``, the iterates of a case: verdict, measures, files.

    Args:
        settings: of the reconstruction.
        output_dir: folder of the results; None writes none.
        held_out_share: of the acquired lines, by which the motion is judged; 0: none.
        fallback: whether view sharing takes the place of an implausible reconstruction.
        uncertainty: whether it is estimated from two halves of the lines.
        figures, film, dicom: whether to write them.
        source_header: a DICOM file of the same examination, for patient and study of the DICOM series.
        version: of the bundle.
        weights_file: of the network, for the report; None: motion without weights.
    """
    steps: list[Any] = [
        ImageAsKspaced(),
        CheckPlausibilityd("pred", settings, held_out_share, fallback=fallback, halves=uncertainty),
    ]
    if output_dir is not None:
        steps.append(
            SaveImageReconstructiond(
                output_dir,
                settings,
                figures=figures,
                film=film,
                dicom=dicom,
                source_header=source_header,
                version=version,
                weights_file=weights_file,
            )
        )
    return Compose(steps)


class KeepTensorsd(Transform):
    """Keep what a batch can be made of: tensors, arrays, numbers, texts; ``roi`` becomes a tensor (4,)."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Drop what is None, and mappings such as the header's facts."""
        kept: dict[Hashable, Any] = {}
        for key, value in data.items():
            if isinstance(value, torch.Tensor | np.ndarray | bool | int | float | str):
                kept[key] = value
        if data.get("roi") is not None:
            kept["roi"] = torch.as_tensor([int(edge) for edge in data["roi"]])
        return kept


class KspaceAsImaged(Transform):
    """Call the k-space ``image``."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Rename it."""
        sample = dict(data)
        sample["image"] = sample.pop("kspace")
        return sample


class ImageAsKspaced(Transform):
    """Call the input ``kspace`` again."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Rename it."""
        sample = dict(data)
        sample["kspace"] = sample.pop("image")
        return sample
