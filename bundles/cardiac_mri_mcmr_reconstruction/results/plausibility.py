"""Whether a reconstruction can be believed, and view sharing in its place where it cannot."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from cardiac_mri_mcmr_reconstruction.results.grey_window import heart_region
from cardiac_mri_mcmr_reconstruction.results.held_out_lines import (
    compare_misfits,
    hold_out_lines,
    interleaved_halves,
    line_misfits,
)
from cardiac_mri_mcmr_reconstruction.results.motion_range import motion_range
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import (
    Iterate,
    UnrolledSettings,
    first_images,
    reconstruct,
)
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding

RECONSTRUCTION, VIEW_SHARING, REPORT, UNCERTAINTY = "reconstruction", "view_sharing", "plausibility", "uncertainty"

logger = logging.getLogger(__name__)


class CheckPlausibilityd(MapTransform):
    """Judge the iterates of a case; adds the images to keep, view sharing's, and what was found.

    - ``reconstruction`` complex (T, X, Y): the last images, or view sharing's if the motion is implausible and
      ``fallback`` is on;
    - ``view_sharing`` complex (T, X, Y): neighbouring frames without motion;
    - ``plausibility``: a mapping for the report (numbers, texts, None for unknown): ``verdict`` ("plausible" or
      "implausible"), ``reasons``, ``warnings``, ``fallback``, ``solves`` (CG of every outer iteration),
      ``data_misfit`` (of the last iterate on all lines), ``held_out``, ``motion``;
    - ``uncertainty`` (T, X, Y), with ``halves``: half the magnitude of the difference between reconstructions from
      two interleaved halves of the lines, the motion being given.

    Implausible: the motion between neighbouring frames folds in more than ``largest_folding_percent`` of the heart's
    region; the images are not finite; or lines that were held out are explained worse than by view sharing, by more
    than ``largest_misfit_ratio`` and chance. For the last, a share of the acquired lines of each frame is held out,
    view sharing and the last solve are done again without them, with the final motion, and the misfits of the rows
    through the heart are compared line by line. That costs about one more solve. It finds motion that is plainly
    wrong, not one that is a little worse than none. Whether conjugate gradients converged is a warning, not a verdict.

    Args:
        keys: the list of :class:`Iterate`.
        settings: of the reconstruction, such as ``inferer.settings``.
        held_out_share: of the acquired lines; 0: no line is held out.
        seed: of the choice of lines.
        largest_folding_percent: of the region's pixels.
        largest_misfit_ratio: of ours to view sharing's misfit on held-out lines; some percent come from noise alone,
            which both pass on in different measure.
        fallback: whether an implausible reconstruction is replaced by view sharing.
        halves: whether the uncertainty is computed; costs two more solves.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        settings: UnrolledSettings | None = None,
        held_out_share: float = 0.1,
        seed: int = 0,
        largest_folding_percent: float = 0.5,
        largest_misfit_ratio: float = 1.1,
        fallback: bool = True,
        halves: bool = False,
    ) -> None:
        super().__init__(keys)
        if not 0 <= held_out_share <= 0.5:
            raise ValueError(f"held_out_share is {held_out_share}: expected 0 (none) to 0.5")
        self.settings = settings or UnrolledSettings()
        self.held_out_share = held_out_share
        self.seed = seed
        self.largest_folding_percent = largest_folding_percent
        self.largest_misfit_ratio = largest_misfit_ratio
        self.fallback = fallback
        self.halves = halves

    @torch.no_grad()
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` is a sample of ``LoadKspaced`` with maps, and the iterates."""
        sample = dict(data)
        iterates: Sequence[Iterate] = sample[self.keys[0]]
        last = iterates[-1]
        acquired = _Acquired(sample, last.images.device)
        shared = self._view_sharing(iterates, acquired)
        report: dict[str, Any] = {
            "verdict": "plausible",
            "reasons": [],
            "warnings": _convergence_warnings(iterates),
            "fallback": False,
            "solves": [_solve_row(number, iterate) for number, iterate in enumerate(iterates)],
            "data_misfit": acquired.misfit(last.images, acquired.mask),
            "held_out": None,
            "motion": None,
        }
        sample[RECONSTRUCTION], sample[VIEW_SHARING], sample[REPORT] = last.images, shared, report
        motion = last.pair_flow if last.template_flow is None else last.template_flow
        if motion is None:
            return sample
        finite = bool(torch.isfinite(torch.view_as_real(last.images)).all())
        if not finite or not bool(torch.isfinite(motion).all()):
            report["reasons"].append("images or motion hold values that are not finite")
        else:
            self._judge_motion(report, motion, sample)
            if self.held_out_share > 0:
                self._judge_held_out(report, motion, acquired)
            if self.halves:
                first, second = (self._solved(motion, acquired, mask)[1] for mask in interleaved_halves(acquired.mask))
                sample[UNCERTAINTY] = (first - second).abs() / 2
        if report["reasons"]:
            report["verdict"] = "implausible"
            report["fallback"] = self.fallback
            what = "view sharing takes its place" if self.fallback else "it is kept, since fallback is off"
            message = f"the motion-compensated reconstruction is implausible ({'; '.join(report['reasons'])}): {what}"
            report["warnings"].append(message)
            if self.fallback:
                sample[RECONSTRUCTION] = shared
        for warning in report["warnings"]:
            logger.warning("case '%s': %s", sample.get("case", sample.get("study", "unnamed")), warning)
        return sample

    def _view_sharing(self, iterates: Sequence[Iterate], acquired: _Acquired) -> torch.Tensor:
        if self.settings.init == "view_shared":
            return iterates[0].images
        encoding = acquired.encoding(acquired.mask)
        return first_images(encoding, encoding.adjoint(acquired.kspace), self._from_view_sharing).images

    @property
    def _from_view_sharing(self) -> UnrolledSettings:
        return dataclasses.replace(self.settings, init="view_shared")

    def _judge_motion(self, report: dict[str, Any], motion: torch.Tensor, sample: Mapping[Hashable, Any]) -> None:
        found = motion_range(
            motion,
            roi=sample.get("roi"),
            spacing_mm=[float(size) for size in sample.get("spacing_mm", (1.0, 1.0))],
            cyclic=self.settings.cyclic,
        )
        report["motion"] = {name: _number(value) for name, value in dataclasses.asdict(found).items()}
        if found.folding_percent > self.largest_folding_percent:
            report["reasons"].append(
                f"{found.folding_percent:.2f} % of the motion's pixels fold, at most "
                f"{self.largest_folding_percent:g} % are expected"
            )

    def _judge_held_out(self, report: dict[str, Any], motion: torch.Tensor, acquired: _Acquired) -> None:
        kept, held = hold_out_lines(acquired.mask, self.held_out_share, self.seed)
        shared, solved = self._solved(motion, acquired, kept)
        ours, theirs = acquired.misfit(solved, held), acquired.misfit(shared, held)
        compared = compare_misfits(*(acquired.line_misfits(images, held, acquired.rows) for images in (solved, shared)))
        report["held_out"] = {
            "share": self.held_out_share,
            "seed": self.seed,
            "lines": compared.lines,
            "misfit": ours,
            "view_sharing_misfit": theirs,
            "misfit_ratio": _number(compared.ratio),
            "misfit_ratio_lower_bound": _number(compared.lower_bound),
        }
        if compared.lower_bound > self.largest_misfit_ratio:  # NaN: nothing to compare
            report["reasons"].append(
                f"held-out lines are explained worse than by view sharing, their misfit is {compared.ratio:.2f} times "
                f"as large (over {compared.lines} lines, at least {compared.lower_bound:.2f}), at most "
                f"{self.largest_misfit_ratio:g} times is expected"
            )

    def _solved(
        self, motion: torch.Tensor, acquired: _Acquired, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """View sharing's images and those of the last solve from the lines of a mask alone, the motion being given."""
        encoding = acquired.encoding(mask)
        once = dataclasses.replace(self._from_view_sharing, outer_iterations=1)
        given = (motion if self.settings.pairwise else motion.flatten(0, 1))[None]
        shared, solved = reconstruct(encoding, encoding.adjoint(acquired.kspace), lambda *_: given, once)
        return shared.images, solved.images


class _Acquired:
    """The data of a case as plain tensors on one device."""

    def __init__(self, sample: Mapping[Hashable, Any], device: torch.device) -> None:
        self.kspace, self.mask, self.maps = (
            torch.as_tensor(sample[name]).as_subclass(torch.Tensor).to(device)
            for name in ("kspace", "mask", "sensitivity_maps")
        )
        self.noise_sd = float(sample.get("noise_sd", math.nan))
        region = heart_region(self.maps.shape, sample.get("roi"))
        self.rows = (region[0], region[2])  # of the image, through the heart

    def encoding(self, mask: torch.Tensor) -> CoilFourierEncoding:
        return CoilFourierEncoding(self.maps, mask)

    def line_misfits(
        self, images: torch.Tensor, mask: torch.Tensor, rows: tuple[int, int] | None = None
    ) -> torch.Tensor:
        return line_misfits(images, self.kspace, self.maps, mask, rows)

    def misfit(self, images: torch.Tensor, mask: torch.Tensor) -> dict[str, float | None]:
        """Energy of A x - y on the samples of a mask: over that of the data, and over that of the noise if known."""
        energy = float(self.line_misfits(images, mask).sum())
        spread = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
        data = sum(
            float((frame * on).abs().double().square().sum()) for frame, on in zip(self.kspace, spread, strict=True)
        )
        samples = float(mask.sum()) * self.maps.shape[0] * (self.maps.shape[1] if mask.ndim == 2 else 1)
        noise = samples * self.noise_sd**2
        return {
            "over_data_energy": _number(energy / data if data > 0 else math.nan),
            "over_noise_power": _number(energy / noise if noise > 0 else math.nan),
        }


def _solve_row(number: int, iterate: Iterate) -> dict[str, Any]:
    residuals = torch.as_tensor(iterate.report.relative_residual, dtype=torch.float64).reshape(-1)
    return {
        "outer_iteration": number,
        "motion": iterate.moved,
        "cg_iterations": int(iterate.report.iterations),
        "largest_relative_residual": _number(float(residuals.max())),
        "relative_residual": [_number(float(residual)) for residual in residuals],
        "converged": bool(iterate.report.converged),
    }


def _convergence_warnings(iterates: Sequence[Iterate]) -> list[str]:
    rows = [_solve_row(number, iterate) for number, iterate in enumerate(iterates)]
    return [
        f"conjugate gradients of outer iteration {row['outer_iteration']} stopped after {row['cg_iterations']} "
        f"iterations with a relative residual of {row['largest_relative_residual']:.1e}: raise max_iterations"
        for row in rows
        if not row["converged"] and row["largest_relative_residual"] is not None
    ]


def _number(value: float) -> float | None:
    """JSON knows no NaN; five digits are enough to read."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
