"""Means of numbers measured per case."""

from __future__ import annotations

import pytest
import torch

from clinbundles.metrics.case_score import CaseScore, ScoreOf


def test_mean_of_case_scores_leaves_out_what_is_not_defined():
    score = CaseScore()
    score([torch.tensor([1.0]), torch.tensor([3.0])])
    score(torch.tensor([[float("nan")]]))
    assert float(score.aggregate()) == 2.0
    assert score.get_buffer().shape == (3, 1)


@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_batch"])
def test_a_score_that_no_case_has_is_not_a_number_and_not_zero(reduction):
    score = CaseScore(reduction)
    score(torch.tensor([[float("nan")], [float("nan")]]))
    assert score.aggregate().isnan().all()


def test_score_without_cases_says_so():
    with pytest.raises(ValueError, match="seen no case"):
        CaseScore().aggregate()


def test_score_is_taken_from_each_case_by_its_name():
    score = CaseScore()
    cases, nothing = ScoreOf("epe")([{"epe": torch.tensor([2.0])}, {"epe": torch.tensor([4.0])}])
    assert nothing is None
    score(cases, nothing)
    assert float(score.aggregate()) == 3.0
