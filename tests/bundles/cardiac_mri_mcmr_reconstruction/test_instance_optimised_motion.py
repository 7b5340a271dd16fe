from __future__ import annotations

import math

import pytest
import torch

from cardiac_mri_mcmr_reconstruction.instance_optimised_motion import (
    InstanceOptimisedMotion,
    SplineField,
    beat_waves,
    cubic_b_splines,
    shrunk,
)
from clinbundles.mcmr.bilinear_warp import warp

STAGES = ((2, 16, 40), (1, 8, 20))


def beating_disc(frames: int = 10, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, T, X, Y) disc that moves along the rows and changes its size; centres' rows (T,)."""
    phase = 2 * math.pi * torch.arange(frames) / frames
    centre, radius = 24 + 3 * phase.cos(), 11 + 2 * phase.sin()
    axis = torch.arange(size, dtype=torch.float32)
    away = ((axis[:, None] - centre[:, None, None]).square() + (axis - 22).square()).sqrt()
    return torch.sigmoid(radius[:, None, None] - away)[None], centre


def test_motion_points_from_the_template_into_the_frames() -> None:
    cine, centre = beating_disc()
    flow = InstanceOptimisedMotion(STAGES, harmonics=2)(cine)
    assert flow.shape == (1, 20, 48, 48)
    moved = flow.unflatten(1, (10, 2))[0]
    torch.testing.assert_close(moved[:, 0, 20:29, 18:27].mean((1, 2)), centre - centre.mean(), atol=0.4, rtol=0)
    assert moved[:, 1, 20:29, 18:27].mean((1, 2)).abs().max() < 0.4
    carried = warp(cine[0], moved)
    before, after = ((c - c.mean(0)).square().mean() for c in (cine[0], carried))
    assert after < before / 20


def test_motion_has_no_mean_over_the_frames() -> None:
    cine, _ = beating_disc(frames=9)
    for cyclic in (True, False):
        flow = InstanceOptimisedMotion(((2, 16, 5),), cyclic=cyclic)(cine).unflatten(1, (9, 2))
        assert flow.abs().max() > 0.1
        assert flow.mean(1).abs().max() < 1e-5


def test_a_still_cine_has_no_motion() -> None:
    still = beating_disc()[0][:, :1].expand(-1, 8, -1, -1)
    assert not InstanceOptimisedMotion(((2, 16, 5),))(still).any()


def test_the_same_cine_has_the_same_motion_under_any_gradient_mode() -> None:
    cine, _ = beating_disc()
    motion = InstanceOptimisedMotion(((4, 16, 5),))
    first = motion(cine)
    with torch.no_grad():
        assert torch.equal(motion(cine), first)
    with torch.inference_mode():
        assert torch.equal(motion(cine.clone()), first)
    assert not first.requires_grad
    both = motion(torch.cat([cine, cine.flip(2)]))
    assert torch.equal(both[:1], first)


def test_axes_are_not_exchanged() -> None:
    cine, _ = beating_disc()
    motion = InstanceOptimisedMotion(((2, 16, 20),))
    upright = motion(cine).unflatten(1, (10, 2))
    lying = motion(cine.transpose(2, 3)).unflatten(1, (10, 2))
    torch.testing.assert_close(lying, upright.flip(2).transpose(3, 4), atol=1e-2, rtol=0)


def test_splines_sum_to_one_and_their_derivatives_are_those_of_finite_differences() -> None:
    places = torch.linspace(1, 5, 41, dtype=torch.float64) + 0.013
    value = cubic_b_splines(places, 8)
    torch.testing.assert_close(value.sum(1), torch.ones_like(places))
    step = 1e-5
    for derivative in (1, 2):
        after, before = (cubic_b_splines(places + by, 8, derivative - 1) for by in (step, -step))
        torch.testing.assert_close(
            cubic_b_splines(places, 8, derivative), (after - before) / (2 * step), atol=1e-8, rtol=0
        )


def test_a_spline_field_is_the_sum_of_its_grids_in_pixels() -> None:
    rows, columns = torch.arange(9.0), torch.arange(13.0)
    controls = [
        4.0 * (torch.arange(5.0) - 1)[:, None].expand(5, 6),
        6.0 * (torch.arange(5.0) - 1).expand(5, 5),
    ]  # linear splines reproduce lines: the row, and the column
    field = SplineField([4.0, 6.0], controls, rows, columns)(controls)
    torch.testing.assert_close(field, rows[:, None] + columns)
    along_rows = SplineField([4.0, 6.0], controls, rows, columns, (1, 0))(controls)
    torch.testing.assert_close(along_rows, torch.ones(9, 13))


@pytest.mark.parametrize("cyclic", [True, False])
@pytest.mark.parametrize("frames", [3, 8, 25])
def test_waves_are_orthonormal_without_a_mean(frames: int, cyclic: bool) -> None:
    waves, order = beat_waves(frames, 4, cyclic)
    torch.testing.assert_close(waves.T @ waves / frames, torch.eye(len(order), dtype=torch.float64))
    assert waves.sum(0).abs().max() < 1e-10


def test_shrunk_pixels_lie_in_the_middle_of_those_they_stand_for() -> None:
    rows = torch.arange(10.0)[:, None].expand(10, 8)
    small, at_rows, at_columns = shrunk(rows[None], 2)
    torch.testing.assert_close(small[0], at_rows[:, None].expand(5, 4))
    assert at_columns.tolist() == [0.5, 2.5, 4.5, 6.5]
    assert shrunk(rows[None], 4)[0].shape == (1, 3, 2)


def test_errors_say_what_was_found_and_expected() -> None:
    with pytest.raises(ValueError, match=r"image has shape \(1, 2, 32, 32\): expected \(B, T, X, Y\) with at least 3"):
        InstanceOptimisedMotion()(torch.zeros(1, 2, 32, 32))
    with pytest.raises(ValueError, match=r"stage \(0, 8, 10\): expected \(shrink, spacing, steps\)"):
        InstanceOptimisedMotion(((0, 8, 10),))
    with pytest.raises(ValueError, match=r"harmonics=0.*expected at least one stage and harmonic"):
        InstanceOptimisedMotion(harmonics=0)
