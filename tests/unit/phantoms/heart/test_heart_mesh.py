"""The mesh of the muscle: closed, turned outward, on the anatomy's surfaces."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from clinbundles.phantoms.heart import draw_heart, heart_mesh
from clinbundles.phantoms.heart.heart_mesh import ENDOCARDIUM, EPICARDIUM, RIM

HEART = draw_heart(4, diseased_share=1.0)


@pytest.mark.parametrize("seed", [None, 7])
def test_the_shell_is_watertight_and_of_one_piece(seed: int | None) -> None:
    mesh = heart_mesh(HEART, seed=seed)
    directed = Counter((int(a), int(b)) for face in mesh.faces for a, b in zip(face, np.roll(face, -1), strict=True))
    assert set(directed.values()) == {1}  # every edge once in each direction: closed and consistently turned
    assert all((b, a) in directed for a, b in directed)
    assert len(mesh.material) - len(directed) // 2 + len(mesh.faces) == 2  # Euler's number of a sphere
    assert sorted(set(mesh.faces.ravel())) == list(range(len(mesh.material)))


def test_faces_look_out_of_the_muscle() -> None:
    mesh = heart_mesh(HEART, rows=30, columns=64, seed=1)
    corners = mesh.material[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = normals / np.linalg.norm(normals, axis=-1, keepdims=True)
    centre = HEART.to_spatial(corners.mean(1) + 1.0 * outward, 0.0)
    middle = HEART.to_spatial(corners.mean(1) - 1.0 * outward, 0.0)
    assert np.mean(HEART.labels(centre, 0.0) != 2) > 0.995
    assert np.mean(HEART.labels(middle, 0.0) == 2) > 0.98


def test_vertices_lie_between_the_tissues_at_any_time() -> None:
    mesh = heart_mesh(HEART, seed=3)
    inner, outer = (mesh.material[mesh.surface == which] for which in (ENDOCARDIUM, EPICARDIUM))
    inner, outer = (points[(points[:, 2] < -1.0) & (np.hypot(*points[:, :2].T) > 1.0)] for points in (inner, outer))
    for points, within, beyond in ((inner, [1], [2]), (outer, [2], [0, 3])):
        for time in (0.0, HEART.end_systole):
            for factor, expected in ((1.0 - 1e-6, within), (1.0 + 1e-6, beyond)):
                labels = HEART.labels(HEART.to_spatial(points * [factor, factor, 1.0], time), time)
                assert set(labels) <= set(expected)


def test_the_seed_moves_vertices_along_the_surface_only() -> None:
    regular, jittered = heart_mesh(HEART), heart_mesh(HEART, seed=5)
    assert np.array_equal(regular.faces, jittered.faces)
    assert np.median(np.linalg.norm(regular.material - jittered.material, axis=-1)) > 0.3
    assert np.array_equal(heart_mesh(HEART, seed=5).material, jittered.material)
    assert 1500 < len(jittered.material) < 3000
    assert (jittered.material[jittered.surface == RIM, 2] == 0.0).all()
