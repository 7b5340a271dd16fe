"""The simulated cohort against published numbers (their sources stand in population.py)."""

from __future__ import annotations

import numpy as np
import pytest

from clinbundles.phantoms.heart import Heart, draw_heart, heart_mesh
from clinbundles.phantoms.heart.heart_mesh import ENDOCARDIUM
from clinbundles.phantoms.heart.population import NORMS, usual_pose

COHORT = {sex: [draw_heart(1000 * k + seed, sex) for seed in range(150)] for k, sex in enumerate("MF")}


def endocardial_longitudinal_strain(heart: Heart) -> float:
    """Change of length of the endocardial contour in long-axis planes: GLS as feature tracking measures it."""
    rows, columns = 40, 12
    mesh = heart_mesh(heart, rows=rows, columns=columns)
    ring = mesh.material[mesh.surface == ENDOCARDIUM]
    lines = np.concatenate([ring[:-1].reshape(rows, columns, 3), np.broadcast_to(ring[-1], (1, columns, 3))])
    lengths = [
        np.linalg.norm(np.diff(heart.to_spatial(lines.reshape(-1, 3), t).reshape(lines.shape), axis=0), axis=-1).sum()
        for t in (0.0, heart.end_systole)
    ]
    return float(lengths[1] / lengths[0] - 1.0)


@pytest.mark.parametrize("sex", ["M", "F"])
def test_volumes_mass_and_function_are_those_of_uk_biobank(sex: str) -> None:
    hearts = COHORT[sex]
    measured = {
        "edv_ml": [heart.edv_ml for heart in hearts],
        "mass_g": [heart.mass_g for heart in hearts],
        "ef": [heart.ejection_fraction for heart in hearts],
        "rv_edv_ml": [heart.volumes(0.0)[2] for heart in hearts],
        "rv_ef": [heart.motion.rv_contraction for heart in hearts],
    }
    for name, values in measured.items():
        mean, deviation = NORMS[sex][name]
        assert np.mean(values) == pytest.approx(mean, abs=3.0 * deviation / np.sqrt(len(hearts))), name
        assert np.std(values) == pytest.approx(deviation, rel=0.2), name


@pytest.mark.parametrize("sex, mean, deviation", [("M", 69.0, 16.0), ("F", 49.0, 11.0)])
def test_end_systolic_volumes_are_those_of_uk_biobank(sex: str, mean: float, deviation: float) -> None:
    volumes = [heart.volumes(heart.end_systole)[0] for heart in COHORT[sex]]
    assert np.mean(volumes) == pytest.approx(mean, abs=0.3 * deviation)
    assert np.std(volumes) == pytest.approx(deviation, rel=0.3)


@pytest.mark.parametrize("sex, mean", [("M", -0.175), ("F", -0.185)])
def test_longitudinal_strain_and_base_descent_are_those_of_healthy_adults(sex: str, mean: float) -> None:
    strains = [endocardial_longitudinal_strain(heart) for heart in COHORT[sex][:40]]
    assert np.mean(strains) == pytest.approx(mean, abs=0.012)
    assert 0.012 < np.std(strains) < 0.03
    descents = [heart.anatomy.length * heart.motion.shortening for heart in COHORT[sex]]
    assert 12.0 < np.mean(descents) < 16.0


def test_twist_is_that_of_tagging_studies() -> None:
    twists = [np.degrees(h.motion.twist_base - h.motion.twist_apex) for sex in "MF" for h in COHORT[sex]]
    assert 10.0 < np.mean(twists) < 14.0
    assert 2.0 < np.std(twists) < 4.5


def test_walls_are_as_thick_as_measured_at_mid_cavity() -> None:
    # MESA: 6.3 +- 1.1 mm in men and 5.3 +- 0.9 mm in women (Kawel et al. 2012)
    for sex, mean in (("M", 6.3), ("F", 5.3)):
        assert np.mean([heart.anatomy.wall for heart in COHORT[sex]]) == pytest.approx(mean, abs=0.6)


def test_the_usual_apex_points_left_anterior_and_inferior() -> None:
    right, front, up = -usual_pose()[:, 2]
    assert right < -0.3
    assert front > 0.3
    assert up < -0.3
    assert np.linalg.det(usual_pose()) == pytest.approx(1.0)
    assert usual_pose()[2, 1] < -0.7  # y looks inferior


def test_poses_really_rotate() -> None:
    angles = [
        np.degrees(np.arccos(np.clip((np.trace(heart.rotation @ usual_pose().T) - 1.0) / 2.0, -1.0, 1.0)))
        for heart in COHORT["M"]
    ]
    assert 10.0 < np.median(angles) < 30.0
    assert all(np.allclose(heart.rotation @ heart.rotation.T, np.eye(3)) for heart in COHORT["M"][:10])


def test_diseased_hearts_have_low_function_or_large_mass_but_keep_blood() -> None:
    hearts = [draw_heart(seed, diseased_share=1.0) for seed in range(40)]
    fractions = np.array([heart.ejection_fraction for heart in hearts])
    assert fractions.min() < 0.35
    assert fractions.max() < 0.85
    assert any(heart.motion.hypokinesia > 0.0 for heart in hearts)
    assert any(heart.motion.delay > 0.0 for heart in hearts)


def test_an_unknown_sex_is_refused() -> None:
    with pytest.raises(ValueError, match="'M', 'F' or None"):
        draw_heart(0, "x")
