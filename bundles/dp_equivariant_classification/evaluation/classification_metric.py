"""Scores of a whole set as MONAI metrics that a config names."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric

from dp_equivariant_classification.evaluation.classification_scores import SCORES, classification_scores


class ClassificationMetric(CumulativeIterationMetric):
    """One score of all images together, for ``monai.handlers.IgniteMetricHandler(metric_fn=...)``.

    Takes probabilities (B, C) and labels (B,) or lists of them; nothing but their sum over the set has the score, so
    ``save_details`` of the handler must be false.

    Args:
        metric: accuracy, balanced_accuracy, auroc or ece.

    Raises:
        ValueError: another name.
    """

    def __init__(self, metric: str = "accuracy") -> None:
        super().__init__()
        if metric not in SCORES:
            raise ValueError(f"no metric {metric!r}; there are {', '.join(SCORES)}")
        self.metric = metric

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: object) -> torch.Tensor:
        return self._compute_tensor(torch.stack(list(y_pred)), torch.stack([torch.as_tensor(one) for one in y]))

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: object) -> torch.Tensor:
        if y is None:
            raise ValueError(f"metric {self.metric!r} needs labels")
        label = torch.as_tensor(y).reshape(-1, 1).to(y_pred)
        return torch.cat([torch.as_tensor(y_pred), label], dim=1)

    def aggregate(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The score over all images since ``reset``."""
        rows = self.get_buffer()
        if not isinstance(rows, torch.Tensor):
            raise ValueError(f"metric {self.metric!r} has seen no image")
        values = rows.detach().cpu().double().numpy()
        score = classification_scores(values[:, :-1], values[:, -1].astype(int))[self.metric]
        return torch.tensor(score, dtype=torch.float32)


class CorrectClassd:
    """Add ``correct``, 1 or 0, and ``confidence`` to each sample: what the table of cases lists.

    Args:
        pred_key: probabilities (C,).
        label_key: class number.
    """

    def __init__(self, pred_key: str = "pred", label_key: str = "label") -> None:
        self.pred_key, self.label_key = pred_key, label_key

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Compare one prediction with its label."""
        pred = torch.as_tensor(data[self.pred_key]).as_subclass(torch.Tensor)
        right = pred.argmax() == torch.as_tensor(data[self.label_key]).as_subclass(torch.Tensor).to(pred.device)
        return {**data, "correct": right.reshape(1).float(), "confidence": pred.max().reshape(1)}
