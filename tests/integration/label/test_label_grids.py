"""Parts that need no server: grids, entropy, the split of labels."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from make_dicom import OBLIQUE
from toy_bundles import write_volume

from clinbundles.hosts.label.file_grid import FileGrid, GridError, place_on_grid, read_grid, refuse_other_grid
from clinbundles.hosts.label.torchvision_operators import make_torchvision_importable

make_torchvision_importable()

from clinbundles.hosts.label.expected_error import expected_error, predictive_entropy  # noqa: E402
from clinbundles.hosts.label.training_task import split_cases  # noqa: E402

SHAPE = (4, 5, 6)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_a_result_in_any_axis_order_comes_back_to_the_voxels_of_the_file(order: tuple, flips: tuple):
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    turned = np.flip(values, flips).transpose(order)
    back = np.eye(4)  # from indices of the turned array to those of the file
    for axis, source in enumerate(order):
        back[:3, axis] = np.eye(3)[source] * (-1 if source in flips else 1)
    back[:3, 3] = [SHAPE[axis] - 1 if axis in flips else 0 for axis in range(3)]
    placed = place_on_grid(turned, OBLIQUE @ back, FileGrid(SHAPE, OBLIQUE), "x")
    np.testing.assert_array_equal(placed, values)


@pytest.mark.parametrize("change", ["shape", "place", "spacing", "frames"])
def test_a_result_on_another_grid_is_refused(change: str):
    values, affine = np.zeros(SHAPE), OBLIQUE.copy()
    if change == "shape":
        values = values[:3]
    elif change == "place":
        affine[1, 3] += 1
    elif change == "spacing":
        affine[:3, :3] *= 1.1
    else:
        values = np.zeros((*SHAPE, 3))
    with pytest.raises(GridError, match="does not lie on the 4 x 5 x 6 voxels"):
        place_on_grid(values, affine, FileGrid(SHAPE, OBLIQUE), "x")


def test_rounding_of_a_header_is_no_other_place(tmp_path: Path):
    grid = read_grid(write_volume(tmp_path / "x.nii.gz"))
    rounding = np.zeros((4, 4))
    rounding[:3] = 1e-4 * np.random.default_rng(0).standard_normal((3, 4))
    nearly = FileGrid(grid.shape, grid.affine + rounding)
    refuse_other_grid(nearly, grid, "x")


def test_entropy_is_nothing_when_sure_and_one_when_guessing():
    sure = torch.stack([torch.zeros(3, 3), torch.ones(3, 3)])
    assert predictive_entropy(sure) == pytest.approx(0)
    assert predictive_entropy(torch.full((4, 3, 3), 0.25)) == pytest.approx(1)
    assert predictive_entropy(torch.full((1, 3, 3), 0.5)) == pytest.approx(1)
    independent = torch.stack([torch.full((3, 3), 0.5), torch.ones(3, 3)])  # sums to 1.5: two questions
    assert predictive_entropy(independent) == pytest.approx(0.5)


def test_a_bundles_own_expected_error_comes_before_entropy():
    sample = {"expected_error": 0.3, "probability": torch.full((2, 2, 2), 0.5)}
    assert expected_error(sample) == (0.3, "expected error")
    assert expected_error({"pred": torch.zeros(1, 2, 2)}) is None


def test_the_split_is_the_same_for_the_same_labels_and_never_empty():
    cases = [{"case": f"P{number}"} for number in range(10)]
    training, validation = split_cases(cases, 0.2)
    assert (len(training), len(validation)) == (8, 2)
    assert split_cases(cases[::-1], 0.2) == (training, validation)
    assert not {case["case"] for case in training} & {case["case"] for case in validation}
    assert [len(part) for part in split_cases(cases[:2], 0.01)] == [1, 1]
    assert split_cases(cases[:1], 0.2) == (cases[:1], cases[:1])
