"""Scores against the truth: exact where it can be said what they are."""

from __future__ import annotations

import math

import pytest
import torch
from moving_disc_case import ROI, beating_flow, disc_sample

from cardiac_mri_mcmr_reconstruction.results.measure_reconstruction import (
    SCORES,
    image_scores,
    measure_reconstruction,
    measure_sample,
    motion_scores,
)
from clinbundles.mcmr.flow_composition import compose_flow, invert_flow
from clinbundles.mcmr.reconstruction_metrics import psnr


@pytest.fixture(scope="module")
def sample():
    flow = beating_flow().double()
    radius = torch.hypot(torch.arange(40)[:, None] - 20.0, torch.arange(48) - 24.0)
    truth = {
        "flow_to_ed": compose_flow(invert_flow(flow[0], 60), flow).float(),
        "myocardium": (radius > 5) & (radius < 9),
    }
    return disc_sample() | truth


def test_every_score_has_a_name_and_is_one_number(sample):
    scores = measure_sample(sample)
    assert tuple(scores) == SCORES
    assert all(math.isfinite(value) for value in scores.values())


def test_true_motion_beats_view_sharing_and_has_no_end_point_error(sample):
    scores = measure_sample(sample)
    assert scores["roi_psnr_gain"] > 3
    assert scores["roi_psnr_gain"] == pytest.approx(scores["roi_psnr"] - scores["view_sharing_roi_psnr"])
    assert scores["roi_hfen"] < scores["view_sharing_roi_hfen"]
    assert scores["epe"] < 0.01
    assert scores["epe_static"] > 1


def test_end_point_error_is_in_pixels(sample):
    shifted = beating_flow()
    shifted[1:, 0] += 0.5  # every frame but end-diastole half a row further
    scores = motion_scores(shifted, sample["flow_to_ed"], sample["myocardium"])
    assert scores["epe"] == pytest.approx(0.5, abs=0.01)


def test_scale_and_phase_of_a_cine_do_not_count(sample):
    images, reference = sample["pred"][-1].images, sample["reference"]
    plain, turned = (image_scores(x, reference, ROI) for x in (images, images * (-3j)))
    assert turned == pytest.approx(plain, rel=1e-4)


def test_images_that_replaced_the_last_iterate_are_the_ones_measured(sample):
    shared = sample["pred"][0].images
    scored = measure_sample(sample | {"reconstruction": shared, "view_sharing": shared})
    assert scored["roi_psnr_gain"] == 0


def test_a_start_from_sense_is_not_called_view_sharing(sample):
    scores = measure_sample(sample, init="sense")
    assert math.isnan(scores["view_sharing_roi_psnr"])
    assert math.isfinite(scores["roi_psnr"])


def test_what_is_not_known_is_not_a_number(sample):
    bare = {key: sample[key] for key in ("pred", "roi")}
    assert all(math.isnan(value) for value in measure_sample(bare).values())
    images = sample["pred"][-1].images
    assert all(math.isnan(value) for value in measure_reconstruction(images, None, None).values())


def test_a_region_too_small_for_the_filters_has_no_scores_but_the_image_has(sample):
    images, reference = sample["pred"][-1].images, sample["reference"]
    scores = image_scores(images, reference, (10, 10, 18, 30))
    assert math.isnan(scores["roi_ssim"])
    assert scores["image_psnr"] > psnr(0 * images, reference)
