"""Claims of the moving mesh: what exact sections, long-axis views and kept volume are worth, and what must be beaten.

Arms are in ``motion_arms``; how they are trained and scored, and what is kept, in ``motion_claims``.
"""

from __future__ import annotations

import numpy as np
import pytest
from claim_tables import error_bars
from motion_arms import MESH, MULTIVIEW
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

NAME = MESH.bundle
METRICS = ("epe", "epe_radial", "epe_circumferential", "epe_longitudinal", "epe_es", "z_bias", "dice_sax", "dice_lax",
           "ed_surface", "ef_error", "volume_drift", "exact_mesh_drift", "inverted")  # fmt: skip


TOO_SHORT = "does not hold: at the arms' budget of 320 steps labels teach little longitudinal motion (docs/README.md)"


def arm(name: str, test: str, metric: str) -> tuple[str, np.ndarray]:
    return name, MESH.mean(name, test, metric)


@pytest.mark.xfail(reason="does not hold: 17 % less after 1280 steps, nothing after 320 (docs/README.md)")
@pytest.mark.parametrize("test", TESTS)
def test_long_axis_views_lower_the_longitudinal_error_by_a_fifth(test: str) -> None:
    found = {
        metric: compare(
            NAME, f"LAX: {metric}, {test}", arm("exact sections", test, metric), arm("short axis", test, metric)
        )
        for metric in ("epe_longitudinal", "epe_circumferential")
    }
    along, around = found["epe_longitudinal"], found["epe_circumferential"]
    assert along.ours <= 0.8 * along.theirs
    assert along.p < 0.05
    assert around.ours <= 1.1 * around.theirs


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("metric", ["epe", pytest.param("abs_z_bias", marks=pytest.mark.xfail(reason=TOO_SHORT))])
def test_exact_sections_beat_projected_vertices(metric: str, test: str) -> None:
    found = compare(
        NAME, f"sections: {metric}, {test}", arm("exact sections", test, metric), arm("vertex projection", test, metric)
    )
    assert found.ours < found.theirs
    assert found.p < 0.05


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("other", BASELINES)
@pytest.mark.parametrize("ours", ["exact motion", "exact sections", "shipped"])
def test_learned_motion_beats(ours: str, other: str, test: str, request: pytest.FixtureRequest) -> None:
    if lost_by_budget(ours, other, test):
        request.applymarker(pytest.mark.xfail(reason=TOO_SHORT))
    found = against_baseline(MESH, ours, other, test)
    assert found.ours < found.theirs
    assert found.p < 0.05


WEAK = pytest.mark.xfail(reason="5.1 % on average: two of the three short trainings drift by more (docs/README.md)")


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("ours", ["shipped", pytest.param("exact motion", marks=WEAK), "exact sections"])
def test_the_muscle_keeps_its_volume_within_5_percent_on_average(ours: str, test: str) -> None:
    assert MESH.mean(ours, test, "volume_drift").mean() < 0.05


@pytest.mark.xfail(reason="does not hold: up to 0.15 % of the triangles of 2 of 32 hearts turn over (docs/README.md)")
@pytest.mark.parametrize("test", TESTS)
def test_no_triangle_turns_over(test: str) -> None:
    assert MESH.mean("shipped", test, "inverted").max() == 0


@pytest.mark.xfail(reason="does not hold: as much as Demons and VoxelMorph, which finds no motion (docs/README.md)")
@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("other", ["demons", "voxelmorph"])
def test_the_muscle_drifts_less_than_with_dense_fields(other: str, test: str) -> None:
    metric = "exact_mesh_drift"
    theirs = (other, baseline(other, test)[metric].to_numpy())
    found = compare(NAME, f"volume drift of the exact mesh, {test}", arm("shipped", test, metric), theirs)
    assert found.ours < found.theirs
    assert found.p < 0.05


@pytest.mark.parametrize("test", ["aligned"])
def test_volume_terms_lower_the_error(test: str) -> None:
    found = compare(
        NAME, f"volume terms: epe, {test}", arm("exact sections", test, "epe"), arm("no volume", test, "epe")
    )
    assert found.ours < found.theirs
    assert found.p < 0.05


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    ("ours", "dense"),
    [
        ("shipped", "shipped"),
        ("exact motion", "exact motion"),
        pytest.param("exact sections", "multi-view", marks=pytest.mark.xfail(reason=TOO_SHORT)),
    ],
)
def test_mesh_is_as_good_as_a_dense_field(ours: str, dense: str, test: str) -> None:
    theirs = (f"dense field, {dense}", MULTIVIEW.mean(dense, test, "epe"))
    found = compare(NAME, f"mesh and dense field: epe, {test}", arm(ours, test, "epe"), theirs)
    assert found.ours <= 1.05 * found.theirs


@pytest.mark.parametrize("test", TESTS)
def test_table_of_arms(test: str) -> None:
    arms = [name for name in ("shipped", *MESH.overrides) if test == "aligned" or name != "no volume"]
    bars = {name: MESH.mean(name, test, "epe") for name in arms}
    bars |= {name: baseline(name, test)["epe"].to_numpy() for name in BASELINES if not at_end_systole(name)}
    draw = error_bars(bars, f"end-point error of the wall, mm, {test}")
    publish(NAME, f"arms_{test}", MESH.table(arms, test, METRICS), draw)


SHIFTS_TWIST = pytest.param(
    "shifted",
    marks=pytest.mark.xfail(reason="circumferential error rises by a quarter where views contradict each other"),
)


def fit(name: str, test: str, metric: str) -> tuple[str, np.ndarray]:
    return name, baseline(name, test)[metric].to_numpy()


@pytest.mark.parametrize("test", [SHIFTS_TWIST if test == "shifted" else test for test in TESTS])
def test_long_axis_labels_lower_the_longitudinal_error_of_a_fit_by_a_fifth(test: str) -> None:
    along, around = (
        compare(
            NAME, f"fit, LAX: {metric} at ES, {test}", fit("fit", test, metric), fit("fit, short axis", test, metric)
        )
        for metric in ("longitudinal", "circumferential")
    )
    assert along.ours <= 0.8 * along.theirs
    assert along.p < 0.05
    assert around.ours <= 1.1 * around.theirs


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("metric", ["epe", "abs_z_bias"])
def test_exact_sections_beat_projected_vertices_in_a_fit(metric: str, test: str) -> None:
    others = fit("fit, projected vertices", test, metric)
    found = compare(NAME, f"fit, sections: {metric} at ES, {test}", fit("fit", test, metric), others)
    assert found.ours < found.theirs
    assert found.p < 0.05


@pytest.mark.xfail(reason="does not hold: no gain on aligned hearts, a loss on shifted ones (docs/README.md)")
@pytest.mark.parametrize("test", TESTS)
def test_kept_volume_lowers_the_error_of_a_fit(test: str) -> None:
    ours, theirs = fit("fit, kept volume", test, "epe"), fit("fit", test, "epe")
    found = compare(NAME, f"fit, volume: epe at ES, {test}", ours, theirs)
    assert found.ours < found.theirs
    assert found.p < 0.05
