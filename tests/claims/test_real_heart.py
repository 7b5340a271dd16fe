"""Bundles that track the heart, on the one real exam, straight from DICOM and without any label.

Errors are those of the fitted surfaces' vertices, which cost 5.4 mm where nothing moves. The table is written to
``CLINBUNDLES_CLAIMS_OUTPUT/real_heart`` (default output/claims).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from real_heart import (
    RealHeart,
    Score,
    Track,
    population_mean,
    report,
    score,
    staying,
    track_by_field,
    track_by_mesh,
    true_motion,
    unpack_real_heart,
)

from clinbundles.rasterizer.mesh_series import read_mesh_series

REPOSITORY = Path(__file__).resolve().parents[2]
OUTPUT = Path(os.environ.get("CLINBUNDLES_CLAIMS_OUTPUT", REPOSITORY / "output" / "claims")) / "real_heart"
BUNDLES = ("cardiac_mri_multiview_motion", "cardiac_mri_mesh_motion")


@pytest.fixture(scope="module")
def heart(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RealHeart:
    if not (real_data / "cardiac_mesh" / "bivme_patient1").is_dir():
        pytest.skip("the real heart is not among the real data")
    return unpack_real_heart(real_data, tmp_path_factory.mktemp("real_heart"))


@pytest.fixture(scope="module")
def scores(heart: RealHeart) -> list[Score]:
    """Baselines first; every test of a bundle adds its own."""
    return [score(heart, staying, "staying at ED"), score(heart, population_mean(heart), "population mean")]


def test_staying_at_end_diastole_costs_5_4_mm(scores: list[Score]) -> None:
    assert scores[0].mean_mm == pytest.approx(5.4, abs=0.05)


def test_the_fitted_surfaces_eject_56_percent(heart: RealHeart) -> None:
    assert true_motion(heart).ejection_fraction == pytest.approx(0.556, abs=0.005)


def test_the_mean_motion_of_simulated_hearts_explains_a_third(scores: list[Score]) -> None:
    assert scores[1].mean_mm < 0.7 * scores[0].mean_mm


def test_a_mesh_tracks_itself_without_error(heart: RealHeart) -> None:
    phases = np.minimum(np.arange(25) // 2, len(heart.phases) - 1)
    moving = np.concatenate([heart.endocardium, heart.epicardium], axis=1)[phases]
    assert score(heart, track_by_mesh(moving, nearest=1), "itself").mean_mm == pytest.approx(0, abs=1e-9)


@pytest.fixture(scope="module", params=BUNDLES)
def result(
    request: pytest.FixtureRequest, heart: RealHeart, scores: list[Score], tmp_path_factory: pytest.TempPathFactory
) -> Score:
    """Of one bundle with the defaults of its inference, refinement included."""
    found = score(heart, tracked(request.param, heart, tmp_path_factory.mktemp("tracked")), request.param)
    scores.append(found)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    print("\n" + report(heart, scores, OUTPUT))
    return found


def test_the_bundle_tracks_the_real_heart_better_than_the_mean_motion(result: Score, scores: list[Score]) -> None:
    assert result.mean_mm < scores[1].mean_mm


def test_the_ejection_fraction_lies_within_5_points_of_the_fitted_surfaces(
    request: pytest.FixtureRequest, heart: RealHeart, result: Score
) -> None:
    if result.name == "cardiac_mri_multiview_motion":
        request.applymarker(pytest.mark.xfail(reason="5.7 points too high with refinement (docs/README.md)"))
    assert result.ejection_fraction == pytest.approx(true_motion(heart).ejection_fraction, abs=0.05)


def tracked(bundle: str, heart: RealHeart, output: Path) -> Track:
    """Run a bundle's inference on the DICOM folder and take the motion from its files."""
    root = REPOSITORY / "bundles" / bundle
    weights = root / "models" / "model.pt"
    if not weights.is_file():
        pytest.skip(f"{bundle} has no weights")
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(root)]
    command += ["--config_file", str(root / "configs" / "inference.yaml"), "--meta_file"]
    command += [str(root / "configs" / "metadata.json"), "--dataset_dir", str(heart.dicom), "--output_dir", str(output)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    fields = sorted(output.rglob("*_displacement.nii.gz"))
    if fields:
        return track_by_field(fields[0])
    return track_by_mesh(moving_mesh(output))


def moving_mesh(output: Path) -> np.ndarray:
    """(T, V, 3) RAS mm of the series of meshes that a bundle has written."""
    series = sorted(output.rglob("*.pvd"))
    assert series, f"neither a field nor a mesh among {sorted(file.name for file in output.rglob('*'))}"
    return np.stack([np.asarray(mesh.vertices) for mesh in read_mesh_series(series[0])[0]])
