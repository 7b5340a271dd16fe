"""The mean of a number that a postprocessing step has measured per case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction
from monai.utils import MetricReduction


class ScoreOf:
    """``output_transform`` that takes one number of each case out of an engine's output.

    Args:
        name: key of the number.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, output: Sequence[Mapping[str, Any]]) -> tuple[list[Any], None]:
        return [item[self.name] for item in output], None


class CaseScore(CumulativeIterationMetric):
    """For ``monai.handlers.IgniteMetricHandler(metric_fn=...)``: numbers that are there already, one per case.

    A postprocessing transform measures many things of a case at once and puts each under a key of its own; this
    metric averages one of them, which :class:`ScoreOf` names. Takes (B, 1) or a list of tensors (1,); NaN is left out
    of the mean, which is NaN where nothing else was seen.

    Args:
        reduction: how ``aggregate`` reduces over cases.
    """

    def __init__(self, reduction: MetricReduction | str = MetricReduction.MEAN) -> None:
        super().__init__()
        self.reduction = reduction

    def _compute_list(self, y_pred: list[torch.Tensor], y: object = None, **kwargs: object) -> torch.Tensor:
        return torch.stack([torch.as_tensor(value, dtype=torch.float32).reshape(1) for value in y_pred])

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: object) -> torch.Tensor:
        return torch.as_tensor(y_pred, dtype=torch.float32).reshape(-1, 1)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """Reduce the numbers of all cases seen since ``reset``."""
        values = self.get_buffer()
        if not isinstance(values, torch.Tensor):
            raise ValueError("the score has seen no case")
        reduced, known = do_metric_reduction(values, reduction or self.reduction)
        return torch.where(known > 0, reduced, torch.nan)  # MONAI says 0 where no case has a number
