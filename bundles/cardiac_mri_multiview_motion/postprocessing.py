"""What happens to the network's output: measures and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Compose

from cardiac_mri_multiview_motion.measurement.measure_motion import MeasureMotiond
from cardiac_mri_multiview_motion.measurement.refine_fields import RefineFieldsd
from cardiac_mri_multiview_motion.save_motion_results import SaveImageMotionResultsd
from clinbundles.cine import LAX_VIEWS
from clinbundles.motion.kinematic_refinement import Refinement


def postprocessing(
    output_dir: str | Path | None = None,
    figures: bool = True,
    views: Sequence[str] = LAX_VIEWS,
    refine_steps: int = 0,
) -> Compose:
    """Measure a prediction (T, 7, I, J, K), and write the results where ``output_dir`` is given.

    Args:
        output_dir: folder of the results; None writes none.
        figures: whether to draw the figures.
        views: long-axis views in the order of the network.
        refine_steps: steps of test-time refinement by the exam's own pictures; 0: none.
    """
    steps: list[Any] = [RefineFieldsd("pred", Refinement(steps=refine_steps))] if refine_steps else []
    steps.append(MeasureMotiond(keys="pred"))
    if output_dir is not None:
        steps.append(SaveImageMotionResultsd(output_dir, figures=figures, views=views))
    return Compose(steps)
