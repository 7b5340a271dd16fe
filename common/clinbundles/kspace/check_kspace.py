"""Checks of one case before it is reconstructed: what cannot be right is refused, what is unusual is said."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform
from torch import Tensor

from clinbundles.kspace.kspace_case import KspaceError
from clinbundles.kspace.sampled_lines import over_readout
from clinbundles.mcmr.fourier import fft2c
from clinbundles.mcmr.sensitivity_estimation import missing_centre_lines, named_lines

MOST_COILS = 64
SMALLEST_MATRIX = 16
FEWEST_FRAMES = 3
LARGEST_ACCELERATION = 24
FEWEST_LINES = 4

logger = logging.getLogger(__name__)


class CheckKspaced(Transform):
    """Refuse k-space, mask, maps and reference that cannot be reconstructed or do not fit each other.

    Every message names the case, the field, what was found and what was expected. Place it behind ``LoadKspaced`` and
    before the steps that estimate maps; a second one behind these checks the maps.

    Args:
        calibration_width: lines of the centre that maps are estimated from.
        line_masks: whether a mask (T, X, Y) of single samples is refused, for paths that take lines alone.

    Raises:
        KspaceError: as above.
    """

    def __init__(self, calibration_width: int = 24, line_masks: bool = False) -> None:
        self.calibration_width = calibration_width
        self.line_masks = line_masks

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check one case; adds ``acceleration``, lines of the matrix / mean number of sampled lines."""
        sample = dict(data)
        case = str(sample.get("case", ""))
        kspace, mask = sample["kspace"], sample["mask"]
        facts = sample.get("acquisition") or {}
        check_array(kspace, case)
        check_acquisition(facts, case)
        check_mask(kspace, mask, case)
        if mask.ndim == 3 and self.line_masks:
            raise KspaceError(
                f"case '{case}': mask has the shape {tuple(mask.shape)}: parts of the readout were not sampled "
                "(asymmetric echo), expected whole lines (frames, phase encoding): use the path for general masks"
            )
        check_centred(kspace, case)
        if sample.get("sensitivity_maps") is not None:
            check_maps(sample["sensitivity_maps"], kspace, case)
        else:
            check_calibration(mask, self.calibration_width, case)
        if sample.get("reference") is not None:
            check_reference(sample["reference"], kspace, mask, case)
        sample["acceleration"] = warn_of_few_lines(mask, case)
        if sample.get("cyclic") and facts.get("real_time"):
            logger.warning(
                "case '%s': cyclic is true, but the frames were acquired one after the other (real time): the last "
                "frame is then not followed by the first; set cyclic to false",
                case,
            )
        return sample


def check_array(kspace: Tensor, case: str) -> None:
    """Complex, four axes in the right order, finite, enough frames.

    Raises:
        KspaceError: otherwise.
    """
    shape = tuple(kspace.shape)
    if not kspace.is_complex():
        raise KspaceError(
            f"case '{case}': kspace has real values ({kspace.dtype}), expected complex values: magnitude images "
            "(DICOM) cannot be reconstructed, export the raw data"
        )
    if kspace.ndim != 4:
        more = " (several slices or sets in one array: give one case per slice)" if kspace.ndim > 4 else ""
        raise KspaceError(
            f"case '{case}': kspace has {kspace.ndim} axes {shape}, expected 4: frames, coils, readout, phase "
            f"encoding{more}"
        )
    frames, coils, readout, lines = shape
    if coils > MOST_COILS or min(readout, lines) < SMALLEST_MATRIX:
        raise KspaceError(
            f"case '{case}': kspace {shape} would have {coils} coils and a matrix of {readout} x {lines}, expected "
            f"at most {MOST_COILS} coils and at least {SMALLEST_MATRIX} x {SMALLEST_MATRIX}: the order of the axes "
            "must be frames, coils, readout, phase encoding; state another one by axes"
        )
    if frames < FEWEST_FRAMES:
        raise KspaceError(
            f"case '{case}': kspace has {frames} frames, expected at least {FEWEST_FRAMES}: a cine is reconstructed "
            "from its motion"
        )
    if coils == frames:
        logger.warning(
            "case '%s': kspace has %d frames and as many coils: make sure that frames come first", case, frames
        )
    wrong = int((~torch.isfinite(kspace)).sum())
    if wrong:
        raise KspaceError(
            f"case '{case}': kspace has {wrong} of {kspace.numel()} samples that are not finite, expected numbers: "
            "export the raw data again"
        )
    if not bool((kspace != 0).any()):
        raise KspaceError(f"case '{case}': kspace is zero everywhere, expected signal")


def check_acquisition(facts: Mapping[str, Any], case: str) -> None:
    """What a reader noted: trajectory, readout oversampling.

    Raises:
        KspaceError: not Cartesian, or oversampling that was not removed.
    """
    trajectory = str(facts.get("trajectory", "cartesian")).lower()
    if trajectory != "cartesian":
        raise KspaceError(f"case '{case}': the trajectory is {trajectory}, expected cartesian: grid the data before")
    oversampling = float(facts.get("readout_oversampling", 1.0))
    if oversampling > 1.01:
        raise KspaceError(
            f"case '{case}': kspace has a readout field of view {oversampling:.3g} times that of the image, expected "
            "1: readout oversampling was not removed; set crop_oversampling to True"
        )


def check_mask(kspace: Tensor, mask: Tensor, case: str) -> None:
    """Mask and k-space name the same samples, and every frame has some.

    Raises:
        KspaceError: another shape, samples outside of the mask, sampled lines without signal, empty frames, readouts of
            which a part is missing although the mask says lines. Counts are named.
    """
    frames, _, readout, lines = kspace.shape
    if tuple(mask.shape) not in ((frames, lines), (frames, readout, lines)):
        raise KspaceError(
            f"case '{case}': mask has the shape {tuple(mask.shape)}, expected ({frames}, {lines}) for lines or "
            f"({frames}, {readout}, {lines}) for samples, as kspace {tuple(kspace.shape)} has it"
        )
    sampled = over_readout(mask) != 0  # (T, 1 or X, Y)
    empty = torch.nonzero(~sampled.flatten(1).any(dim=1)).flatten().tolist()
    if empty:
        raise KspaceError(
            f"case '{case}': mask has no line in {len(empty)} of {frames} frames (frame {named_lines(empty)}), "
            "expected at least one in each: leave these frames out"
        )
    signal = (kspace != 0).any(dim=1)  # (T, X, Y)
    outside = int((signal & ~sampled).sum())
    # a line counts as sampled where most of it is
    wanted = sampled.expand(frames, readout, lines).float().mean(dim=1) > 0.5
    silent = wanted & ~signal.any(dim=1)
    if outside or bool(silent.any()):
        raise KspaceError(
            f"case '{case}': mask and kspace disagree: {outside} samples outside of the mask are not zero, and "
            f"{int(silent.sum())} of {int(wanted.sum())} sampled lines are zero in all coils; expected none of both: "
            "give the mask that belongs to these data, or none"
        )
    if mask.ndim == 2:
        used = signal.any(dim=0).any(dim=1)  # (X,)
        if not bool(used.all()):
            raise KspaceError(
                f"case '{case}': kspace is zero at {int((~used).sum())} of {readout} readout positions of every line "
                "(partial or asymmetric readout), but mask says whole lines: give a mask (frames, readout, phase "
                "encoding), or none, so that it is taken from the data"
            )


def check_centred(kspace: Tensor, case: str) -> None:
    """The peak of the energy lies near n // 2.

    Raises:
        KspaceError: it does not.
    """
    energy = kspace.abs().square().sum(dim=(0, 1))
    for name, at, length in (
        ("readout", int(energy.sum(dim=1).argmax()), kspace.shape[2]),
        ("phase encoding", int(energy.sum(dim=0).argmax()), kspace.shape[3]),
    ):
        if abs(at - length // 2) > max(2, length // 8):
            raise KspaceError(
                f"case '{case}': kspace has the peak of its energy at {at} of {length} along the {name}, expected near "
                f"{length // 2}: it is not centred; apply fftshift along {name}, or correct the order of the axes"
            )


def check_maps(maps: Tensor, kspace: Tensor, case: str) -> None:
    """Complex, of the matrix, finite, unit root sum of squares in the support.

    Raises:
        KspaceError: otherwise.
    """
    expected = tuple(kspace.shape[1:])
    if tuple(maps.shape) != expected:
        coils = f"sensitivity_maps has {maps.shape[0]} coils, kspace has {expected[0]}; " if maps.ndim == 3 else ""
        raise KspaceError(
            f"case '{case}': sensitivity_maps has the shape {tuple(maps.shape)}, expected {expected} (coils, "
            f"readout, phase encoding) as kspace has it: {coils}they must agree"
        )
    if not maps.is_complex():
        raise KspaceError(f"case '{case}': sensitivity_maps has real values ({maps.dtype}), expected complex values")
    wrong = int((~torch.isfinite(maps)).sum())
    if wrong:
        raise KspaceError(
            f"case '{case}': sensitivity_maps has {wrong} values that are not finite, expected zeros outside of the "
            "support"
        )
    size = torch.linalg.vector_norm(maps, dim=0)
    inside = size[size > 1e-3]
    if not len(inside):
        raise KspaceError(f"case '{case}': sensitivity_maps is zero everywhere, expected a support")
    low, high = (float(value) for value in torch.quantile(inside[:: max(1, len(inside) // 100_000)], _FIVE_TO_95))
    if low < 0.95 or high > 1.05:
        raise KspaceError(
            f"case '{case}': sensitivity_maps has a root sum of squares of {low:.3g} to {high:.3g} in its support, "
            "expected 1: normalise or re-estimate the maps"
        )


def check_calibration(mask: Tensor, width: int, case: str) -> None:
    """Without maps, the centre must be covered by all frames together.

    Raises:
        KspaceError: it is not; names the missing lines.
    """
    missing = missing_centre_lines(mask, width)
    if missing:
        raise KspaceError(
            f"case '{case}': sensitivity_maps is not given, and {len(missing)} of the {min(width, mask.shape[-1])} "
            f"lines around the centre are sampled in no frame (lines {named_lines(missing)}), expected every one in "
            "at least one frame: give maps, or lower calibration_width"
        )


def check_reference(reference: Tensor, kspace: Tensor, mask: Tensor, case: str) -> None:
    """The reference fits the k-space in shape and in scale: its energy at the sampled places is that of the data.

    Raises:
        KspaceError: it does not.
    """
    frames, _, readout, lines = kspace.shape
    if tuple(reference.shape) != (frames, readout, lines):
        raise KspaceError(
            f"case '{case}': reference has the shape {tuple(reference.shape)}, expected ({frames}, {readout}, "
            f"{lines}): frames, readout, phase encoding"
        )
    if not bool(torch.isfinite(reference).all()):
        raise KspaceError(f"case '{case}': reference has values that are not finite")
    expected = (fft2c(reference) * over_readout(mask)).abs().square().sum().sqrt()
    ratio = float(kspace.abs().square().sum().sqrt() / expected.clamp_min(1e-30))
    if not 0.5 < ratio < 2:
        raise KspaceError(
            f"case '{case}': reference explains k-space of another scale: the data are {ratio:.3g} times as large, "
            "expected about 1 with maps of unit root sum of squares: scale reference, or check that it belongs to "
            "this case"
        )


def warn_of_few_lines(mask: Tensor, case: str) -> float:
    """Acceleration: lines of the matrix / mean number of lines; a warning where motion can hardly be told any more."""
    sampled = over_readout(mask).bool().any(dim=1).sum(dim=1)  # (T,)
    acceleration = mask.shape[-1] / float(sampled.float().mean())
    if acceleration > LARGEST_ACCELERATION or int(sampled.min()) < FEWEST_LINES:
        logger.warning(
            "case '%s': %d to %d lines per frame, acceleration %.3g: below %d lines or above %d times the images are "
            "hardly to be trusted",
            *(case, int(sampled.min()), int(sampled.max()), acceleration, FEWEST_LINES, LARGEST_ACCELERATION),
        )
    return acceleration


_FIVE_TO_95 = torch.tensor([0.05, 0.95])
