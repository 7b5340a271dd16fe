"""Scores that the claims of the motion-compensated reconstruction compare, method by method.

Test cases of the simulated cine k-space, at accelerations of which the largest was never trained on, as strips of 64
readout rows (``cine_strips``), with maps estimated from the undersampled data. Scores are of magnitudes in the heart's
region, after one least-squares scalar per cine for every method alike, and the motion's error in the wall.

Trainings are in ``cine_training_arms``, methods without motion and their tuning in ``cine_reconstruction_baselines``.
All is kept in ``CLINBUNDLES_CLAIMS_OUTPUT`` (default output/claims): strips, trainings, tunings and one file of scores
for each method, seed, acceleration and case, so that a broken-off session goes on and several may work side by side.
Delete what shall be made anew, also after a change of the code.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from cine_reconstruction_baselines import BASELINES, tuned
from cine_strips import FOLDER, Strip, cases, strip, true_flow
from cine_training_arms import (
    BUDGET,
    FEWER_SEEDS,
    FRAMEWISE,
    ONE_SOLVE,
    SEEDS,
    framewise_network,
    motion_network,
    shipped_network,
)
from claim_tables import ClaimTables, commit, write_json
from framewise_encoding import adjoint_images, encoding_of
from framewise_unrolled_network import unrolled

from cardiac_mri_mcmr_reconstruction.refined_motion import RefinedMotion
from cardiac_mri_mcmr_reconstruction.results.measure_reconstruction import motion_scores
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import (
    Iterate,
    MotionNet,
    UnrolledSettings,
    first_images,
    reconstruct,
)
from clinbundles.mcmr.flow_metrics import folding_share
from clinbundles.mcmr.motion_compensated_average import motion_compensated_average
from clinbundles.mcmr.motion_compensated_solve import SolveSettings, distance_weights, solve_motion_compensated
from clinbundles.mcmr.reconstruction_metrics import reconstruction_scores

RATES = (8, 12, 16, 20)
UNSEEN = 20
ENDS = (8, 16)  # where the claims ask; side arms are measured there alone
TEST_CINES = int(os.environ.get("CLINBUNDLES_CLAIMS_TEST_CINES", "12"))
TUNING_CINES = int(os.environ.get("CLINBUNDLES_CLAIMS_TUNING_CINES", "3"))
METRICS = ("psnr", "ssim", "hfen", "xt_nrmse", "epe", "folding")
TABLES = ClaimTables(BUDGET | {"test_cines": TEST_CINES, "tuning_cines": TUNING_CINES})
SETTINGS = UnrolledSettings(outer_iterations=3, solve=SolveSettings(1e-4, 30))  # as inference.yaml
FITTING = f"motion fitted in {RefinedMotion(None).first.steps} steps, then {RefinedMotion(None).later.steps} each"
EVERY_FRAME = {"weight_sigma": math.inf, "neighbours": 1000}  # all frames alike
Images = list[Iterate] | torch.Tensor


# --- methods ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """A way from a strip to images.

    Attributes:
        reconstruct: called with case, strip, acceleration and seed; gives images (T, X, Y), or the iterates.
        seeds: of its training; one where nothing is trained.
        rates: at which it is measured.
    """

    reconstruct: Callable[[dict[str, Any], Strip, int, int], Images]
    seeds: tuple[int, ...] = (0,)
    rates: tuple[int, ...] = RATES


def of_baseline(name: str) -> Method:
    return Method(lambda case, data, rate, seed: BASELINES[name].reconstruct(data, **tuning(name, rate)["settings"]))


def compensated(find: Callable[[int], MotionNet], changes: dict[str, Any] | None = None, **of_method: Any) -> Method:
    """The bundle's reconstruction with a way to motion, which is called with the seed."""
    settings = replace(SETTINGS, **(changes or {}))

    def images(case: dict[str, Any], data: Strip, rate: int, seed: int) -> list[Iterate]:
        return reconstruct(encoding_of(data), adjoint_images(data), find(seed), settings)

    return Method(images, **of_method)


def learned(training: str) -> Callable[[int], MotionNet]:
    return lambda seed: motion_network(training, seed)


class MotionOfFirstImages:
    """Motion that is found once, in the first images, and kept: motion and images apart."""

    def __init__(self, motion: MotionNet) -> None:
        self.motion, self.found = motion, None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if self.found is None:
            self.found = self.motion(images)
        return self.found


def once(training: str) -> Callable[[int], MotionNet]:
    return lambda seed: MotionOfFirstImages(motion_network(training, seed))


def refined(seed: int = 0) -> MotionNet:
    """What the bundle does: the motion is fitted to the cine, from where the shipped network puts it."""
    return RefinedMotion(shipped_network())


def refined_from(training: str) -> Callable[[int], MotionNet]:
    """The same from where networks of other seeds put it."""
    return lambda seed: RefinedMotion(motion_network(training, seed))


def still(seed: int) -> MotionNet:
    return lambda images: images.new_zeros(1, 2 * images.shape[1], *images.shape[2:])


def instance(seed: int) -> MotionNet:
    return RefinedMotion(None)


def with_true_flow(changes: dict[str, Any] | None = None, rates: tuple[int, ...] = RATES) -> Method:
    """The same solves with the true flow of all pairs, which goes by way of no template."""
    settings = replace(SETTINGS, **(changes or {}))
    return Method(lambda case, data, rate, seed: solved_with(data, true_flow(case), settings), rates=rates)


def solved_with(data: Strip, flow: torch.Tensor, settings: UnrolledSettings) -> list[Iterate]:
    """What ``reconstruct`` does when its motion is this flow (T, S, 2, X, Y)."""
    encoding, right_side, frames = encoding_of(data), adjoint_images(data), len(flow)
    reach = min(settings.neighbours, (frames - 1) // 2)
    near = min(reach, math.ceil(2 * settings.prior_sigma))
    weights = distance_weights(frames, settings.weight_sigma, settings.cyclic, reach)
    of_prior = distance_weights(frames, settings.prior_sigma, settings.cyclic, near)
    iterates = [first_images(encoding, right_side, settings)]
    for _ in range(settings.outer_iterations):
        prior = motion_compensated_average(iterates[-1].images, flow, of_prior)
        images, report = solve_motion_compensated(
            encoding, right_side, flow, weights, prior, settings.regularisation, prior, settings.solve
        )
        iterates.append(Iterate(images, None, report))
    return iterates


SENSE = {"init": "sense"}
OURS, NETWORK, INSTANCE = "network, refined", "network", "instance-optimised"
OTHER_SEEDS = f"{OURS}, other trainings"
METHODS: dict[str, Method] = {
    **{name: of_baseline(name) for name in BASELINES},
    FRAMEWISE: Method(lambda case, data, rate, seed: unrolled(framewise_network(seed))(data), SEEDS),
    "zero flow, all frames": compensated(still, EVERY_FRAME, rates=ENDS),
    "zero flow": compensated(still),
    NETWORK: compensated(lambda seed: shipped_network()),
    OURS: compensated(refined),
    INSTANCE: compensated(instance),
    OTHER_SEEDS: compensated(refined_from("photometric"), seeds=SEEDS, rates=ENDS),
    f"{NETWORK}, separate": compensated(lambda seed: MotionOfFirstImages(shipped_network()), rates=ENDS),
    f"{OURS}, separate": compensated(lambda seed: MotionOfFirstImages(refined()), rates=ENDS),
    f"{OURS} from SENSE": compensated(refined, SENSE, rates=ENDS),
    f"{OURS}, separate from SENSE": compensated(lambda seed: MotionOfFirstImages(refined()), SENSE, rates=ENDS),
    # networks of the claims' own trainings, alone
    "separate": compensated(once("photometric"), seeds=SEEDS, rates=ENDS),
    "separate, same network": compensated(once("recon-driven"), seeds=SEEDS, rates=ENDS),
    "joint, photometric": compensated(learned("photometric"), seeds=SEEDS, rates=ENDS),
    "joint, photometric for longer": compensated(learned("photometric, longer"), seeds=FEWER_SEEDS, rates=ENDS),
    "joint": compensated(learned("recon-driven"), seeds=SEEDS, rates=ENDS),
    "joint, taught by one solve": compensated(learned(ONE_SOLVE), seeds=SEEDS, rates=ENDS),
    "separate, taught by one solve": compensated(once(ONE_SOLVE), seeds=SEEDS, rates=ENDS),
    "joint, no reference": compensated(learned("no reference"), seeds=FEWER_SEEDS, rates=ENDS),
    "separate from SENSE": compensated(once("photometric from SENSE"), SENSE, seeds=FEWER_SEEDS, rates=ENDS),
    "separate, same network from SENSE": compensated(
        once("recon-driven from SENSE"), SENSE, seeds=FEWER_SEEDS, rates=ENDS
    ),
    "joint from SENSE": compensated(learned("recon-driven from SENSE"), SENSE, seeds=FEWER_SEEDS, rates=ENDS),
    "true flow, all frames alike": with_true_flow(EVERY_FRAME, ENDS),
    "true flow": with_true_flow(),
}
WITHOUT_MOTION = (*BASELINES, FRAMEWISE)


def tuning(name: str, rate: int) -> dict[str, Any]:
    """The settings of a baseline that are best on validation cases at this acceleration, and all that were tried."""
    file = FOLDER / "tuning" / f"{name.replace(' ', '_')}_R{rate:02g}.json"
    if not file.is_file():
        strips = [strip(case, rate) for case in cases("validation", TUNING_CINES)]
        with torch.no_grad():
            found = tuned(BASELINES[name], strips)
        content = {"settings": found.settings, "psnr": found.score, "on_edge": found.on_edge, "tried": found.tried}
        write_json(file, content | {"cines": TUNING_CINES, "commit": commit()})
    return dict(json.loads(file.read_text(encoding="utf-8")))


# --- scores -----------------------------------------------------------------------------------------------------------


def case_scores(name: str, seed: int, rate: int, case: dict[str, Any]) -> list[dict[str, float]]:
    """Scores of the iterates of a case, the first images first; of a method without iterations a single row."""
    file = FOLDER / "scores" / name.replace(", ", " ").replace(" ", "_") / f"{seed}_R{rate:02g}_{case['case']}.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    settings = f"{SETTINGS}, {FITTING}"
    if kept.get("settings") != settings:  # the bundle's defaults: scores of others are not compared with these
        data = strip(case, rate)
        with torch.no_grad():
            found = METHODS[name].reconstruct(case, data, rate, seed)
        rows = [scores_of(one, data) for one in (found if isinstance(found, list) else [found])]
        content = {"iterates": rows, "method": name, "seed": seed, "acceleration": rate}
        kept = content | {"case": case["case"], "view": case["view"], "settings": settings, "commit": commit()}
        write_json(file, kept)
    return list(kept["iterates"])


def scores_of(found: Iterate | torch.Tensor, data: Strip) -> dict[str, float]:
    """``METRICS``; those of motion are NaN where there is none."""
    images, flow = (found.images, found.template_flow) if isinstance(found, Iterate) else (found, None)
    region = data["roi"].tolist()
    scores = reconstruction_scores(images, data["reference"], region)
    scores.pop("nrmse")  # complex: the maps from data leave a smooth phase open
    scores |= {"epe": math.nan, "folding": math.nan}
    if flow is not None:
        x0, y0, x1, y1 = region
        heart = torch.zeros(images.shape[1:], dtype=torch.bool)
        heart[x0:x1, y0:y1] = True
        scores["epe"] = motion_scores(flow, data["flow_to_ed"], data["myocardium"])["epe"]
        scores["folding"] = folding_share(flow, heart)
    return scores


def seeds_and_cases(name: str, rate: int, metric: str, outer: int = -1) -> np.ndarray:
    """(seeds, cases) of a metric, after an outer iteration (-1: the last, 0: the first images)."""
    test = cases("test", TEST_CINES)
    return np.array(
        [[case_scores(name, seed, rate, case)[outer][metric] for case in test] for seed in METHODS[name].seeds]
    )


def mean(name: str, rate: int, metric: str, outer: int = -1) -> np.ndarray:
    """Mean over seeds for each test case."""
    return seeds_and_cases(name, rate, metric, outer).mean(0)


def best_without_motion(rate: int, metric: str = "psnr") -> str:
    """The method without motion that is best on the test cases themselves: the hardest to beat."""
    sign = 1 if metric == "hfen" else -1
    return min(WITHOUT_MOTION, key=lambda name: sign * mean(name, rate, metric).mean())


def measured_at(rate: int) -> Sequence[str]:
    return [name for name, method in METHODS.items() if rate in method.rates]
