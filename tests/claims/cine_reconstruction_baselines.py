"""Other ways to a cine from few lines, to be beaten, and their tuning: none of them knows motion.

Each takes a case with `kspace` (T, N, X, Y), `mask` (T, Y) and `sensitivity_maps` (N, X, Y), and its settings, and
gives images (T, X, Y). Their settings are found on validation cases, for each acceleration anew, by `tuned`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from cine_sparse_reconstruction import low_rank_plus_sparse, temporal_tv
from framewise_encoding import Case, adjoint_images, encoding_of

from clinbundles.mcmr.initial_image import sense, view_shared
from clinbundles.mcmr.motion_compensated_solve import SolveSettings
from clinbundles.mcmr.reconstruction_metrics import magnitude_scale, psnr

Settings = dict[str, Any]


def zero_filled(case: Case) -> torch.Tensor:
    """A^H y: every line that was not acquired is zero."""
    return adjoint_images(case)


def cg_sense(case: Case, regularisation: float, iterations: int = 30) -> torch.Tensor:
    """Each frame by itself: min ||A_t x - y_t||^2 + regularisation ||x||^2 (Pruessmann et al., MRM 2001)."""
    return sense(encoding_of(case), adjoint_images(case), regularisation, SolveSettings(1e-5, iterations))[0]


def view_sharing(case: Case, sigma: float, regularisation: float, iterations: int = 30) -> torch.Tensor:
    """Neighbouring frames lend their lines, with Gaussian weights, as if nothing had moved."""
    encoding, cyclic = encoding_of(case), bool(case.get("cyclic", True))
    settings = SolveSettings(1e-5, iterations)
    return view_shared(encoding, adjoint_images(case), sigma, regularisation, cyclic, settings)[0]


@dataclass(frozen=True)
class Baseline:
    """A way to images, and the values of each setting that are tried, from which the middle one is the first.

    Attributes:
        reconstruct: called with the case and one value of each setting.
        grid: values of each setting in rising order.
    """

    reconstruct: Callable[..., torch.Tensor]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)


BASELINES: dict[str, Baseline] = {
    "zero-filled": Baseline(zero_filled),
    "CG-SENSE": Baseline(cg_sense, {"regularisation": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1]}),
    "view sharing": Baseline(
        view_sharing,
        {"sigma": [0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0], "regularisation": [1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3]},
    ),
    "temporal TV": Baseline(temporal_tv, {"weight": [1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2]}),
    "L+S": Baseline(
        low_rank_plus_sparse,
        {
            "low_rank": [1e-3, 3e-3, 1e-2, 3e-2, 0.1],
            "sparse": [1e-3, 3e-3, 1e-2, 2e-2, 4e-2],
            "start": ["adjoint", "view_shared"],
        },
    ),
}


@dataclass(frozen=True)
class Tuning:
    """What tuning found.

    Attributes:
        settings: the best.
        score: their mean score over the validation cases.
        tried: every setting that was tried, with its score.
        on_edge: numbers whose best value is the first or last of the grid: a wider grid may do better.
    """

    settings: Settings
    score: float
    tried: list[tuple[Settings, float]]
    on_edge: list[str]


def roi_psnr(case: Case, images: torch.Tensor) -> float:
    """PSNR in dB in the heart's region, after the one least-squares scalar that every method gets."""
    reference, region = torch.as_tensor(case["reference"]), case.get("roi")
    return psnr(images * magnitude_scale(images, reference, region), reference, region)


def tuned(baseline: Baseline, cases: Sequence[Case], score: Callable[[Case, torch.Tensor], float] = roi_psnr) -> Tuning:
    """Settings of the best mean score over validation cases: one setting after the other until none gets better."""
    names = list(baseline.grid)
    seen: dict[tuple[Any, ...], float] = {}

    def try_out(values: tuple[Any, ...]) -> float:
        if values not in seen:
            settings = dict(zip(names, values, strict=True))
            scores = [score(case, baseline.reconstruct(case, **settings)) for case in cases]
            seen[values] = sum(scores) / len(scores)
        return seen[values]

    best = tuple(values[len(values) // 2] for values in baseline.grid.values())
    try_out(best)
    while True:
        before = best
        for place, name in enumerate(names):
            candidates = [best[:place] + (value,) + best[place + 1 :] for value in baseline.grid[name]]
            best = max(candidates, key=try_out)
        if best == before:
            break
    settings = dict(zip(names, best, strict=True))
    edges = [
        name
        for name, value in settings.items()
        if not isinstance(value, str) and value in (baseline.grid[name][0], baseline.grid[name][-1])
    ]
    tried = [(dict(zip(names, values, strict=True)), found) for values, found in seen.items()]
    return Tuning(settings, seen[best], tried, edges)
