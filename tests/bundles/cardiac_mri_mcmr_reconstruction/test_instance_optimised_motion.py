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
from cardiac_mri_mcmr_reconstruction.networks import sample_at
from cardiac_mri_mcmr_reconstruction.refined_motion import RefinedMotion
from clinbundles.mcmr.bilinear_warp import warp

SCALES = ((2, 16), (1, 8))


def beating_disc(frames: int = 10, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, T, X, Y) disc that moves along the rows and changes its size; centres' rows (T,)."""
    phase = 2 * math.pi * torch.arange(frames) / frames
    centre, radius = 24 + 3 * phase.cos(), 11 + 2 * phase.sin()
    axis = torch.arange(size, dtype=torch.float32)
    away = ((axis[:, None] - centre[:, None, None]).square() + (axis - 22).square()).sqrt()
    return torch.sigmoid(radius[:, None, None] - away)[None], centre


def test_motion_points_from_the_template_into_the_frames() -> None:
    cine, centre = beating_disc()
    flow = InstanceOptimisedMotion(None, 60, SCALES, harmonics=2)(cine)
    assert flow.shape == (1, 20, 48, 48)
    moved = flow.unflatten(1, (10, 2))[0]
    torch.testing.assert_close(moved[:, 0, 20:29, 18:27].mean((1, 2)), centre - centre.mean(), atol=0.4, rtol=0)
    assert moved[:, 1, 20:29, 18:27].mean((1, 2)).abs().max() < 0.4
    carried = warp(cine[0], moved)
    before, after = ((c - c.mean(0)).square().mean() for c in (cine[0], carried))
    assert after < before / 20


def test_fitting_begins_at_the_motion_that_is_given() -> None:
    cine, _ = beating_disc()
    found = InstanceOptimisedMotion(None, 60, SCALES, harmonics=2)(cine)
    (again,) = InstanceOptimisedMotion(lambda image: found, 1, ((1, 8),), harmonics=2, rate=1e-6)(cine)
    torch.testing.assert_close(again, found[0], atol=0.05, rtol=0)
    still, moved = (
        InstanceOptimisedMotion(start, 6, SCALES, harmonics=2)(cine).unflatten(1, (10, 2))[0]
        for start in (None, lambda image: found)
    )
    apart = [(c - c.mean(0)).square().mean() for c in (warp(cine[0], flow) for flow in (still, moved))]
    assert apart[1] < apart[0] / 4


def test_steps_are_shared_out_among_the_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    cine, _ = beating_disc()
    sizes = []
    monkeypatch.setattr(
        "cardiac_mri_mcmr_reconstruction.instance_optimised_motion.sample_at",
        lambda image, flow: sizes.append(image.shape[-1]) or sample_at(image, flow),
    )
    for steps in (1, 5):
        InstanceOptimisedMotion(None, steps, ((4, 16), (2, 16), (1, 8)))(cine)
    assert sizes == [48, 12, 24, 24, 48, 48]


def test_later_images_are_registered_from_the_motion_before() -> None:
    cine, _ = beating_disc()
    motion = RefinedMotion(None, 40)
    first, second = motion(cine), motion(cine)
    assert not torch.equal(first, second)
    assert (second - first).abs().mean() < 0.2 * first.abs().mean()
    assert torch.equal(RefinedMotion(None, 40)(cine), first)  # another case begins anew


def test_motion_has_no_mean_over_the_frames() -> None:
    cine, _ = beating_disc(frames=9)
    for cyclic in (True, False):
        flow = InstanceOptimisedMotion(None, 5, ((2, 16),), cyclic=cyclic)(cine).unflatten(1, (9, 2))
        assert flow.abs().max() > 0.1
        assert flow.mean(1).abs().max() < 1e-5


def test_a_still_cine_has_no_motion() -> None:
    still = beating_disc()[0][:, :1].expand(-1, 8, -1, -1)
    assert not InstanceOptimisedMotion(None, 5, ((2, 16),))(still).any()


def test_the_same_cine_has_the_same_motion_under_any_gradient_mode() -> None:
    cine, _ = beating_disc()
    motion = InstanceOptimisedMotion(None, 5, ((4, 16),))
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
    motion = InstanceOptimisedMotion(None, 20, ((2, 16),))
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
    with pytest.raises(ValueError, match=r"scale \(0, 8\): expected \(shrink, spacing\)"):
        InstanceOptimisedMotion(scales=((0, 8),))
    with pytest.raises(ValueError, match=r"harmonics=0.*expected at least one scale, step and harmonic"):
        InstanceOptimisedMotion(harmonics=0)
