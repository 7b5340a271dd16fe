"""Errors of motion against hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from clinbundles.motion.displacement_field import DisplacementField
from clinbundles.motion.motion_errors import (
    boundary_f,
    contour_distances,
    dice,
    end_point_errors,
    jacobian_errors,
    volume_difference,
)


def square(first, last, size=32):
    mask = np.zeros((size, size), dtype=bool)
    mask[first:last, first:last] = True
    return mask


def test_end_point_error_splits_along_the_walls_axes():
    axes = torch.tensor([[[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]]).expand(5, 3, 3)
    true = torch.zeros(4, 5, 3)
    errors = end_point_errors(true + torch.tensor([3.0, 4.0, -12.0]), true, axes)
    assert errors == pytest.approx({"epe": 13.0, "radial": 4.0, "circumferential": 3.0, "longitudinal": 12.0})
    with pytest.raises(ValueError, match="wall_axes"):
        end_point_errors(true, true, axes[:3])


def test_dice_leaves_out_unknown_pixels():
    label = np.array([2, 2, 0, 255])
    assert dice(np.array([2, 0, 0, 2]), label, 2) == pytest.approx(2 / 3)
    assert math.isnan(dice(label * 0, label * 0, 2))


def test_shifted_square_is_as_far_as_its_shift():
    ours, theirs = square(8, 20), np.roll(square(8, 20), 3, axis=0)
    distances = contour_distances(ours, theirs, 2.0)
    assert distances["hd"] == 6.0
    assert 0 < distances["mcd"] < 6.0
    assert contour_distances(ours, ours, 2.0) == {"hd": 0.0, "hd95": 0.0, "mcd": 0.0}
    assert math.isnan(contour_distances(ours, ours & False, 2.0)["hd"])


def test_boundary_f_is_one_within_the_tolerance():
    ours, theirs = square(8, 20), np.roll(square(8, 20), 1, axis=0)
    assert boundary_f(ours, ours) == 1.0
    assert boundary_f(ours, theirs, [1]) == 1.0
    assert boundary_f(ours, np.roll(ours, 8, axis=0), [1]) < 0.6


def test_volume_difference_is_relative_to_the_label():
    assert volume_difference(square(0, 4), square(0, 2)) == 3.0


def test_folded_field_is_found():
    field = torch.zeros(1, 3, 8, 8, 8)
    places = torch.zeros(1, 4, 3)
    good = jacobian_errors(DisplacementField(field, "ed", (1.0, 1.0, 1.0)), places, 1.0)
    assert good == {"jacobian_error": 0.0, "folded_share": 0.0}
    field[0, 0] = -2 * (torch.arange(8.0) - 3.5)[:, None, None]
    bad = jacobian_errors(DisplacementField(field, "ed", (1.0, 1.0, 1.0)), places, 1.0)
    assert bad["folded_share"] == 1.0
    assert bad["jacobian_error"] == pytest.approx(2.0)
