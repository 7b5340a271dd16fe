"""The truth of simulated hearts, brought into the exam frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clinbundles.motion.motion_truth import read_motion_truth


def test_truth_of_the_scanner_comes_into_the_exam_frame(tmp_path):
    turn = np.array([[0.0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]])
    points = np.random.default_rng(0).normal(size=(5, 3)) * 20
    moves = np.random.default_rng(1).normal(size=(2, 5, 3))
    axes = np.broadcast_to(np.eye(3), (5, 3, 3))
    np.savez(
        tmp_path / "truth.npz",
        wall_points=points @ turn[:3, :3].T + turn[:3, 3],
        wall_displacements=moves @ turn[:3, :3].T,
        wall_axes=axes @ turn[:3, :3].T,
        wall_strain=np.zeros((2, 5, 3)),
        lv_volume_ml=np.array([120.0, 60.0]),
        myocardium_volume_ml=np.array([100.0, 100.0]),
    )
    truth = read_motion_truth(tmp_path / "truth.npz", turn)
    assert np.allclose(truth.points, points, atol=1e-4)
    assert np.allclose(truth.displacements, moves, atol=1e-5)
    assert torch.allclose(truth.axes, torch.eye(3).expand(5, 3, 3), atol=1e-6)
    assert truth.lv_volume_ml.tolist() == [120.0, 60.0]


def test_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", wall_points=np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"other.npz has no wall_displacements, wall_axes"):
        read_motion_truth(tmp_path / "other.npz", np.eye(4))
