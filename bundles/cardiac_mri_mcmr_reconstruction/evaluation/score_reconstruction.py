"""The scores of one case by which trainings are compared, with or without a reference."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from cardiac_mri_mcmr_reconstruction.results.measure_reconstruction import SCORES, measure_sample
from cardiac_mri_mcmr_reconstruction.results.plausibility import RECONSTRUCTION, REPORT, VIEW_SHARING

HELD_OUT = "held_out"
REPORTED = (HELD_OUT, "folding", "implausible")


class ScoreReconstructiond(MapTransform):
    """Score a judged reconstruction; each score is a tensor (1,) under its name, NaN where it has no value.

    Besides those of :mod:`~cardiac_mri_mcmr_reconstruction.results.measure_reconstruction`: ``held_out``, the share of
    the energy of held-out lines that is explained, which needs no reference; ``folding``, % of the heart's region;
    ``implausible``, 0 or 1.

    Args:
        keys: the iterates, judged by ``CheckPlausibilityd``.
        select_by: the score that ``score`` repeats, by which the best epoch is chosen.
        init: what the first iterate is, as in the settings of the reconstruction.

    Raises:
        ValueError: a ``select_by`` that is no score, or that a case does not have.
    """

    def __init__(self, keys: KeysCollection = "pred", select_by: str = "roi_psnr", init: str = "view_shared") -> None:
        super().__init__(keys)
        if select_by not in (*SCORES, HELD_OUT):
            raise ValueError(f"select_by is {select_by!r}: expected one of {', '.join((*SCORES, HELD_OUT))}")
        self.select_by = select_by
        self.init = init

    @torch.no_grad()
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scores of a case; k-space, maps and iterates are left out, and ``pred`` is the reconstruction."""
        report = data[REPORT]
        scores = measure_sample(data, str(self.keys[0]), self.init) | dict.fromkeys(REPORTED, math.nan)
        scores["implausible"] = float(report["verdict"] != "plausible")
        if report["motion"] is not None and report["motion"]["folding_percent"] is not None:
            scores["folding"] = report["motion"]["folding_percent"]
        if report["held_out"] is not None and report["held_out"]["misfit"]["over_data_energy"] is not None:
            scores[HELD_OUT] = 1 - report["held_out"]["misfit"]["over_data_energy"]
        scores["score"] = scores[self.select_by]
        if not math.isfinite(scores["score"]):
            raise ValueError(
                f"case '{data.get('case', '')}' has no {self.select_by}: it has no reference, or its region is too "
                "small. Select by image_psnr, or without references by held_out"
            )
        kept = {key: data[key] for key in ("case", VIEW_SHARING, REPORT) if key in data}
        values = {name: torch.tensor([value]) for name, value in scores.items()}
        return {**kept, **values, self.keys[0]: data[RECONSTRUCTION]}
