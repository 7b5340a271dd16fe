"""Claims of multi-view motion: what long-axis views, labels and their warped term are worth, and what must be beaten.

Arms are in ``motion_arms``; how they are trained and scored, and what is kept, in ``motion_claims``.
"""

from __future__ import annotations

import numpy as np
import pytest
from claim_tables import error_bars
from motion_arms import MULTIVIEW
from motion_claims import (
    BASELINES,
    TESTS,
    against_baseline,
    at_end_systole,
    baseline,
    compare,
    lost_by_budget,
    publish,
)

pytestmark = pytest.mark.claims

NAME = MULTIVIEW.bundle
ON_BOTH = ("exact motion", "multi-view", "short axis")  # the other arms on aligned hearts alone
METRICS = ("epe", "epe_radial", "epe_circumferential", "epe_longitudinal", "epe_es", "dice_sax", "dice_lax", "ef_error",
           "volume_drift", "folded_share")  # fmt: skip


def arm(name: str, test: str, metric: str) -> tuple[str, np.ndarray]:
    return name, MULTIVIEW.mean(name, test, metric)


@pytest.mark.parametrize("test", TESTS)
def test_long_axis_views_lower_the_longitudinal_error_by_a_fifth(test: str) -> None:
    along, sax = (
        compare(NAME, f"LAX: {metric}, {test}", *(arm(one, test, metric) for one in ("multi-view", "short axis")), less)
        for metric, less in (("epe_longitudinal", True), ("dice_sax", False))
    )
    assert along.ours <= 0.8 * along.theirs
    assert along.p < 0.05
    assert sax.ours >= sax.theirs - 0.01


@pytest.mark.parametrize("without", ["no shape", "no warped shape"])
def test_labels_and_their_warped_term_raise_overlap_on_the_long_axis(without: str) -> None:
    ours, theirs = (arm(one, "aligned", "dice_lax") for one in ("multi-view", without))
    found = compare(NAME, "labels: dice_lax, aligned", ours, theirs, lower_is_better=False)
    assert found.ours > found.theirs
    assert found.p < 0.05


def test_fusion_by_geometry_beats_stacking() -> None:
    found = compare(NAME, "fusion: epe, aligned", *(arm(one, "aligned", "epe") for one in ("multi-view", "stacked")))
    assert found.ours < found.theirs
    assert found.p < 0.05


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("other", BASELINES)
@pytest.mark.parametrize("ours", ["exact motion", "multi-view", "shipped"])
def test_learned_motion_beats(ours: str, other: str, test: str, request: pytest.FixtureRequest) -> None:
    if lost_by_budget(ours, other, test):
        request.applymarker(pytest.mark.xfail(reason="does not hold at the arms' budget of 320 steps (docs/README.md)"))
    found = against_baseline(MULTIVIEW, ours, other, test)
    assert found.ours < found.theirs
    assert found.p < 0.05


@pytest.mark.parametrize("test", TESTS)
def test_table_of_arms(test: str) -> None:
    arms = [name for name in ("shipped", *MULTIVIEW.overrides) if test == "aligned" or name in ON_BOTH]
    bars = {name: MULTIVIEW.mean(name, test, "epe") for name in arms}
    bars |= {name: baseline(name, test)["epe"].to_numpy() for name in BASELINES if not at_end_systole(name)}
    draw = error_bars(bars, f"end-point error of the wall, mm, {test}")
    publish(NAME, f"arms_{test}", MULTIVIEW.table(arms, test, METRICS), draw)
