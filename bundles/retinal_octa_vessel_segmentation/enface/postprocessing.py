"""What happens to the network's output: back to the input grid, label map, measures, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.transforms import Activationsd, Compose, Invertd

from retinal_octa_vessel_segmentation.enface.save_vessel_results import SaveImageVesselResultsd
from retinal_octa_vessel_segmentation.enface.vessel_label_map import SMALLEST_OBJECT_MM2, VesselLabelMapd
from retinal_octa_vessel_segmentation.measurement.measure_vessels import FAZ_THRESHOLD, MeasureVesselsd


def postprocessing(
    preprocessing: Compose,
    output_dir: str | Path | None = None,
    threshold: float = 0.5,
    larger_threshold: float = 0.5,
    smallest_object_mm2: float = SMALLEST_OBJECT_MM2,
    faz_threshold: float = FAZ_THRESHOLD,
    measure: bool = True,
    overlay: bool = True,
    dicom_description: str | Path | None = None,
    version: str = "",
) -> Compose:
    """Postprocessing of logits ``pred`` (2, h, w) at the training pixel size.

    ``probability`` becomes (2, H, W) float32 in [0, 1] on the input grid (any vessel, larger vessel); ``pred`` becomes
    the label map uint8 (1, H, W): 0 background, 1 capillary, 2 larger vessel; ``biomarkers``, ``quality`` and
    ``results`` are added by measuring, ``files`` by writing.

    Args:
        preprocessing: the preprocessing of the image, which is inverted.
        output_dir: folder of the results; None writes none (evaluation).
        threshold: smallest probability of a vessel.
        larger_threshold: smallest probability of a larger vessel.
        smallest_object_mm2: area in mm2 below which an object is dropped.
        faz_threshold: smallest probability of a vessel where the FAZ is outlined.
        measure: whether to measure biomarkers; needed for writing.
        overlay: whether to draw the figure.
        dicom_description: the bundle's ``configs/dicom.yaml``, for results of DICOM images; None writes no DICOM.
        version: of the bundle.

    Raises:
        ValueError: ``output_dir`` without ``measure``.
    """
    if output_dir is not None and not measure:
        raise ValueError("output_dir is set but measure is false: the files hold the measures, so both belong together")
    steps: list[Any] = [
        Activationsd(keys="pred", sigmoid=True),
        Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False),
        VesselLabelMapd(
            keys="pred",
            threshold=threshold,
            larger_threshold=larger_threshold,
            smallest_object_mm2=smallest_object_mm2,
        ),
    ]
    if measure:
        steps.append(MeasureVesselsd(faz_threshold=faz_threshold))
    if output_dir is not None:
        steps.append(
            SaveImageVesselResultsd(
                output_dir=output_dir, overlay=overlay, dicom_description=dicom_description, version=version
            )
        )
    return Compose(steps)
