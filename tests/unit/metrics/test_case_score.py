"""Means of numbers measured per case."""

from __future__ import annotations

import pytest
import torch

from clinbundles.metrics.case_score import CaseScore


def test_mean_of_case_scores_leaves_out_what_is_not_defined():
    score = CaseScore()
    score([torch.tensor([1.0]), torch.tensor([3.0])])
    score(torch.tensor([[float("nan")]]))
    assert float(score.aggregate()) == 2.0
    assert score.get_buffer().shape == (3, 1)


def test_score_without_cases_says_so():
    with pytest.raises(ValueError, match="seen no case"):
        CaseScore().aggregate()
