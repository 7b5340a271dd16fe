"""What makes a reconstruction implausible, and what then takes its place."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from moving_disc_case import ROI, SETTINGS, SIZE, beating_flow, disc_sample

from cardiac_mri_mcmr_reconstruction.results.held_out_lines import (
    compare_misfits,
    hold_out_lines,
    interleaved_halves,
    line_misfits,
)
from cardiac_mri_mcmr_reconstruction.results.motion_range import motion_range
from cardiac_mri_mcmr_reconstruction.results.plausibility import CheckPlausibilityd
from clinbundles.mcmr.reconstruction_metrics import psnr


@pytest.fixture(scope="module")
def sample():
    return disc_sample()


def judged(sample, **options):
    options = {"settings": SETTINGS, "held_out_share": 0.3, **options}
    return CheckPlausibilityd("pred", **options)(sample)


def wrong_motion():
    """The motion of the opposite phase."""
    return beating_flow().roll(4, 0)


def test_true_motion_is_plausible_and_explains_held_out_lines_better(sample):
    result = judged(sample)
    report = result["plausibility"]
    assert report["verdict"] == "plausible"
    assert report["reasons"] == []
    assert not report["fallback"]
    assert report["held_out"]["misfit_ratio"] < 1
    assert report["motion"]["folding_percent"] == 0
    assert torch.equal(result["reconstruction"], sample["pred"][-1].images)
    assert psnr(result["reconstruction"], sample["reference"], ROI) > psnr(
        result["view_sharing"], sample["reference"], ROI
    )


def test_wrong_motion_shows_on_held_out_lines_and_view_sharing_takes_its_place(caplog):
    sample = disc_sample(wrong_motion())
    with caplog.at_level(logging.WARNING):
        result = judged(sample)
    report = result["plausibility"]
    assert report["verdict"] == "implausible"
    assert report["fallback"]
    assert "held-out lines are explained worse than by view sharing" in report["reasons"][0]
    assert torch.equal(result["reconstruction"], sample["pred"][0].images)
    assert "case 'disc'" in caplog.text
    assert "view sharing takes its place" in caplog.text


def test_wrong_motion_shows_less_on_lines_that_were_fitted():
    """Why lines are held out."""
    wrong = judged(disc_sample(wrong_motion()))["plausibility"]
    fitted, unseen = wrong["data_misfit"]["over_noise_power"], wrong["held_out"]["misfit"]["over_noise_power"]
    assert unseen > 1.5 * fitted


def test_without_fallback_an_implausible_reconstruction_is_kept_and_said_to_be(caplog):
    sample = disc_sample(wrong_motion())
    result = judged(sample, fallback=False)
    assert result["plausibility"]["verdict"] == "implausible"
    assert not result["plausibility"]["fallback"]
    assert torch.equal(result["reconstruction"], sample["pred"][-1].images)
    assert "it is kept, since fallback is off" in caplog.text


def test_folded_motion_is_implausible():
    chance = torch.Generator().manual_seed(1)
    flow = beating_flow()
    flow = flow + 2 * torch.randn(flow.shape, generator=chance)
    report = judged(disc_sample(flow), held_out_share=0)["plausibility"]
    assert report["fallback"]
    assert report["held_out"] is None
    assert "% of the motion's pixels fold, at most 0.5 % are expected" in report["reasons"][0]


def test_a_still_object_without_motion_raises_no_false_alarm():
    for noise in (0.01, 0.05):
        report = judged(disc_sample(torch.zeros_like(beating_flow()), share=0.0, noise_sd=noise))["plausibility"]
        assert report["verdict"] == "plausible"


def test_images_that_are_not_finite_are_refused(sample):
    last = sample["pred"][-1]
    broken = dataclasses.replace(last, images=last.images * float("nan"))
    result = judged(sample | {"pred": [sample["pred"][0], broken]})
    assert result["plausibility"]["reasons"] == ["images or motion hold values that are not finite"]
    assert torch.isfinite(result["reconstruction"].abs()).all()


def test_a_solve_that_did_not_converge_is_a_warning_with_its_residual(caplog):
    hasty = dataclasses.replace(SETTINGS, solve=dataclasses.replace(SETTINGS.solve, max_iterations=2))
    sample = disc_sample(settings=hasty)
    report = judged(sample, settings=hasty, held_out_share=0)["plausibility"]
    assert report["verdict"] == "plausible"
    assert [solve["converged"] for solve in report["solves"]] == [False, False]
    assert "conjugate gradients of outer iteration 1 stopped after 2 iterations" in caplog.text
    assert report["solves"][1]["largest_relative_residual"] == pytest.approx(
        float(sample["pred"][1].report.relative_residual.max()), rel=1e-3
    )


def test_the_misfit_of_the_truth_is_the_noise(sample):
    """With the noise's power known, what the truth leaves over is exactly that."""
    truth = dataclasses.replace(sample["pred"][-1], images=sample["reference"])
    known = judged(sample | {"pred": [sample["pred"][0], truth]}, held_out_share=0)["plausibility"]["data_misfit"]
    assert known["over_noise_power"] == pytest.approx(1, rel=0.03)
    unknown = judged(sample | {"noise_sd": float("nan")}, held_out_share=0)["plausibility"]["data_misfit"]
    assert unknown["over_noise_power"] is None
    assert 0 < unknown["over_data_energy"] < 0.1


def test_after_a_start_from_sense_the_fallback_is_view_sharing_all_the_same(sample):
    from_sense = dataclasses.replace(SETTINGS, init="sense")
    start = disc_sample(wrong_motion(), settings=from_sense)
    result = judged(start, settings=from_sense)
    assert not torch.equal(result["view_sharing"], start["pred"][0].images)
    torch.testing.assert_close(result["view_sharing"], sample["pred"][0].images, rtol=1e-3, atol=1e-3)


def test_view_sharing_alone_has_nothing_to_refuse(sample):
    report = judged(sample | {"pred": sample["pred"][:1]})["plausibility"]
    assert report["verdict"] == "plausible"
    assert report["motion"] is None


def test_uncertainty_grows_with_the_noise():
    quiet, loud = (judged(disc_sample(noise_sd=sd), halves=True)["uncertainty"].mean() for sd in (0.005, 0.1))
    assert loud > 2 * quiet


def test_a_share_of_lines_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"held_out_share is 0\.8: expected 0"):
        CheckPlausibilityd("pred", held_out_share=0.8)


@pytest.mark.parametrize("general", [False, True])
def test_held_out_lines_are_acquired_ones_away_from_the_middle(sample, general):
    mask = sample["mask"]
    if general:
        mask = mask[:, None].repeat(1, SIZE[0], 1)
        mask[:, :5] = 0
    kept, held = hold_out_lines(mask, 0.25, seed=3)
    assert torch.equal(kept + held, mask)
    lines = held if not general else held.amax(1)
    middle = SIZE[1] // 2
    assert lines[:, middle - 1 : middle + 2].sum() == 0
    assert (lines.sum(1) >= 1).all()
    assert torch.equal(hold_out_lines(mask, 0.25, seed=3)[1], held)
    assert not torch.equal(hold_out_lines(mask, 0.25, seed=4)[1], held)


def test_a_frame_keeps_its_only_line():
    mask = torch.zeros(2, 16)
    mask[0, 3] = 1
    mask[1, [2, 12]] = 1
    kept, held = hold_out_lines(mask, 0.5)
    assert held[0].sum() == 0
    assert kept[1].sum() == held[1].sum() == 1


def test_halves_share_only_the_middle_and_leave_nothing_out(sample):
    first, second = interleaved_halves(sample["mask"])
    assert torch.equal(torch.maximum(first, second), sample["mask"])
    shared = first * second
    middle = SIZE[1] // 2
    shared[:, middle - 1 : middle + 2] = 0
    assert shared.sum() == 0
    assert abs(float(first.sum() - second.sum())) <= len(first)


def test_misfits_of_rows_add_up_to_the_misfit_of_lines(sample):
    """Parseval along the readout."""
    arguments = sample["pred"][0].images, sample["kspace"], sample["sensitivity_maps"], sample["mask"]
    whole = line_misfits(*arguments)
    parts = line_misfits(*arguments, rows=(0, 13)) + line_misfits(*arguments, rows=(13, SIZE[0]))
    assert len(whole) == int(sample["mask"].sum())
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=0)


def test_lines_are_compared_one_by_one():
    theirs = torch.tensor([1.0, 100.0, 1e4, 1e-3], dtype=torch.float64)
    same = compare_misfits(2 * theirs, theirs)
    assert (same.lines, same.ratio, same.lower_bound) == (4, pytest.approx(2), pytest.approx(2))
    mixed = compare_misfits(theirs * torch.tensor([2, 0.5, 2, 0.5]), theirs)
    assert mixed.ratio == pytest.approx(1)
    assert mixed.lower_bound < 0.6


def test_range_of_motion_is_in_mm_and_within_the_region():
    """Component 0 counts 1.5 mm and component 1 2 mm; between frames 0 and 1 the way is (2, -1) pixels."""
    flow = torch.zeros(3, 2, 20, 20)
    flow[0, 0], flow[1, 1] = 1, 1
    flow[0, 0, 9:11] += 0
    flow[1, 0] = -1
    found = motion_range(flow, roi=(4, 4, 16, 16), spacing_mm=(1.5, 2.0))
    assert found.largest_displacement_mm == pytest.approx((3.0**2 + 2.0**2) ** 0.5)
    assert found.folding_percent == 0
    assert found.log_determinant_sd == pytest.approx(0, abs=1e-6)
    flow[2, :, :3, :3] = 50  # outside the region
    assert motion_range(flow, roi=(6, 6, 16, 16), spacing_mm=(1.5, 2.0)).largest_displacement_mm == pytest.approx(
        13**0.5
    )


def test_a_gap_between_last_and_first_frame_counts_only_in_a_cyclic_cine():
    """Neighbouring frames differ little; the last is folded against the first."""
    places = torch.arange(20.0) - 10
    flow = torch.zeros(4, 2, 20, 20)
    for frame in range(4):
        flow[frame, 0] = -0.22 * frame * places[:, None]
    within = motion_range(flow, cyclic=False).log_determinant_sd
    around = motion_range(flow, cyclic=True).log_determinant_sd
    assert around > 1.3 * within
