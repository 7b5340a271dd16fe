"""All views of an exam at the same points of the heart cycle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clinbundles.cine.cine_exam import CineExamError, CineView

_SAME_PHASE = 0.25  # of the distance of phases: less is rounding of the times


def cycle_fractions(times_ms: np.ndarray) -> np.ndarray:
    """(T,) fraction of the cycle in [0, 1) of every phase.

    A retrospectively gated cine covers the whole cycle, so the cycle ends one usual step after the last phase. Without
    times the phases are taken as equally spaced.
    """
    if len(times_ms) < 2 or not np.isfinite(times_ms).all():
        return np.arange(len(times_ms)) / len(times_ms)
    since = times_ms - times_ms[0]
    return since / (since[-1] + float(np.median(np.diff(since))))


def at_phases(view: CineView, fractions: np.ndarray, reference: str) -> CineView:
    """The view at given fractions of the cycle: its own frames where they agree, else linear in time and periodic.

    Args:
        view: any view.
        fractions: (T,) wanted, in [0, 1), increasing.
        reference: what the wanted phases are those of, for messages.

    Raises:
        CineExamError: another number of frames and no times.
    """
    own = cycle_fractions(view.times_ms)
    if len(own) == len(fractions) and np.abs(own - fractions).max() < _SAME_PHASE / len(own):
        return view
    if not np.isfinite(view.times_ms).all():
        raise CineExamError(
            f"{view.where[0]}: {len(own)} phases but {len(fractions)} in {reference}, and it states no times (trigger "
            "times, or pixdim[4] of NIfTI): frames of different numbers cannot be matched without them"
        )
    after = np.searchsorted(own, fractions, side="right") % len(own)
    before = after - 1
    span = (own[after] - own[before]) % 1.0
    share = ((fractions - own[before]) % 1.0 / span).astype(np.float32)
    image = view.image[..., before] * (1 - share) + view.image[..., after] * share
    label = None
    if view.label is not None:
        label = view.label[..., np.where(share < 0.5, before, after)]
    length = float(view.times_ms[-1] - view.times_ms[0] + np.median(np.diff(view.times_ms)))
    return replace(view, image=image, label=label, times_ms=view.times_ms[0] + fractions * length)
