"""Scores of a case whose truth is known: of its images against a reference, of its motion against the true one."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch

from cardiac_mri_mcmr_reconstruction.results.grey_window import heart_region
from cardiac_mri_mcmr_reconstruction.results.plausibility import RECONSTRUCTION, VIEW_SHARING
from clinbundles.mcmr.flow_composition import compose_flow, invert_flow
from clinbundles.mcmr.flow_metrics import endpoint_error
from clinbundles.mcmr.reconstruction_metrics import LOG_SIZE, reconstruction_scores

_OF_REGION = ("roi_psnr", "roi_ssim", "roi_hfen", "roi_nrmse", "xt_nrmse")
_OF_IMAGE = ("image_psnr", "image_ssim", "image_hfen", "image_nrmse")
IMAGE_SCORES = (*_OF_REGION, *_OF_IMAGE)
"""psnr in dB; xt_nrmse along the middle line of the heart's region; each after one complex scalar per cine."""
MOTION_SCORES = ("epe", "epe_static")
"""Pixels, in the myocardium at end-diastole, mean over frames; epe_static: of no motion."""
SCORES = (*IMAGE_SCORES, *(f"view_sharing_{name}" for name in IMAGE_SCORES), "roi_psnr_gain", *MOTION_SCORES)


def image_scores(images: torch.Tensor, reference: torch.Tensor, roi: Sequence[int] | None = None) -> dict[str, float]:
    """The :data:`IMAGE_SCORES` of a cine.

    Args:
        images: complex (T, X, Y).
        reference: complex (T, X, Y).
        roi: (x0, y0, x1, y1) of the heart, or None for the middle half of the image. A region that is too small for
            the filters (13 pixels) has the score NaN.

    Raises:
        ValueError: other shapes; values that are not finite.
    """
    x0, y0, x1, y1 = region = heart_region(reference.shape, roi)
    if min(x1 - x0, y1 - y0) < LOG_SIZE:
        inside = dict.fromkeys(("psnr", "ssim", "hfen", "nrmse", "xt_nrmse"), math.nan)
    else:
        inside = reconstruction_scores(images, reference, region)
    whole = reconstruction_scores(images, reference)
    return {
        **{f"roi_{name}": inside[name] for name in ("psnr", "ssim", "hfen", "nrmse")},
        "xt_nrmse": inside["xt_nrmse"],
        **{f"image_{name}": whole[name] for name in ("psnr", "ssim", "hfen", "nrmse")},
    }


def motion_scores(template_flow: torch.Tensor, flow_to_ed: torch.Tensor, myocardium: torch.Tensor) -> dict[str, float]:
    """The :data:`MOTION_SCORES`.

    Args:
        template_flow: (T, 2, X, Y) pixels, template -> frame.
        flow_to_ed: (T, 2, X, Y) pixels, true flow between each frame and end-diastole, on the grid of end-diastole.
        myocardium: (X, Y), not zero in the muscle at end-diastole.
    """
    flow = template_flow.detach().double()
    true_flow = flow_to_ed.to(flow)
    longest = true_flow.abs().amax((1, 2, 3))
    ed = int(longest.argmin())
    moving = [frame for frame in range(len(flow)) if frame != ed]
    found = compose_flow(invert_flow(flow[ed]), flow)[moving]
    muscle = myocardium.to(flow.device) != 0
    still = torch.zeros_like(found)
    return {
        "epe": endpoint_error(found, true_flow[moving], muscle),
        "epe_static": endpoint_error(still, true_flow[moving], muscle),
    }


def measure_reconstruction(
    images: torch.Tensor,
    view_sharing: torch.Tensor | None,
    reference: torch.Tensor | None,
    *,
    roi: Sequence[int] | None = None,
    template_flow: torch.Tensor | None = None,
    flow_to_ed: torch.Tensor | None = None,
    myocardium: torch.Tensor | None = None,
) -> dict[str, float]:
    """All :data:`SCORES` by name, NaN where the truth is not known."""
    scores = dict.fromkeys(SCORES, math.nan)
    if reference is not None:
        scores |= image_scores(images, reference, roi)
        if view_sharing is not None:
            scores |= {
                f"view_sharing_{name}": value for name, value in image_scores(view_sharing, reference, roi).items()
            }
            scores["roi_psnr_gain"] = scores["roi_psnr"] - scores["view_sharing_roi_psnr"]
    if (
        template_flow is not None
        and flow_to_ed is not None
        and myocardium is not None
        and bool((myocardium != 0).any())
    ):
        scores |= motion_scores(template_flow, flow_to_ed, myocardium)
    return scores


def measure_sample(sample: Mapping[Hashable, Any], key: str = "pred", init: str = "view_shared") -> dict[str, float]:
    """The scores of a case by what its sample holds.

    Args:
        sample: ``pred``; ``reference``, ``roi``, ``flow_to_ed``, ``myocardium`` as far as they are known; the images of
            :class:`CheckPlausibilityd` where it went before, else the last iterate counts.
        key: of the iterates.
        init: what the first iterate is; unless "view_shared", it is not taken for view sharing.
    """
    iterates = sample[key]
    last = iterates[-1]
    shared = sample.get(VIEW_SHARING, iterates[0].images if init == "view_shared" else None)
    known = {
        name: torch.as_tensor(sample[name]).as_subclass(torch.Tensor).to(last.images.device)
        for name in ("reference", "flow_to_ed", "myocardium")
        if sample.get(name) is not None
    }
    return measure_reconstruction(
        sample.get(RECONSTRUCTION, last.images),
        shared,
        known.get("reference"),
        roi=sample.get("roi"),
        template_flow=last.template_flow,
        flow_to_ed=known.get("flow_to_ed"),
        myocardium=known.get("myocardium"),
    )
