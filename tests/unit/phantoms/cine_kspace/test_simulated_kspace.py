"""The files of a simulated cine k-space: conventions, noise, maps, reference, reproducibility."""

from __future__ import annotations

import filecmp
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clinbundles.data import read_manifest
from clinbundles.data.simulated_set import generate_case
from clinbundles.kspace import LoadKspaced
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.fourier import fft2c
from clinbundles.phantoms.cine_kspace import simulate_cine_kspace
from clinbundles.phantoms.cine_kspace.acquisition import draw_acquisition
from clinbundles.phantoms.cine_kspace.coil_array import draw_coils, draw_noise_mixing
from clinbundles.phantoms.cine_kspace.kspace_sampling import FINE, fine_coordinates, phase_encoding, readout
from clinbundles.phantoms.heart import mean_heart

SEED = 20003
ARGUMENTS: dict[str, Any] = {"frames": 8, "matrix": 64, "spacing_mm": 4.5, "coils": 6, "long_axis_share": 0.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("case")
    return folder, simulate_cine_kspace(folder, SEED, **ARGUMENTS)


def arrays(made: tuple[Path, dict[str, Any]]) -> tuple[NDArray, NDArray, NDArray, Any]:
    folder, case = made
    kspace, maps, reference = (np.load(folder / case[key]) for key in ("kspace", "sensitivity_maps", "reference"))
    return kspace, maps, reference, np.load(folder / case["truth"])


def test_a_case_has_the_shapes_and_types_of_the_convention(made: tuple[Path, dict[str, Any]]) -> None:
    kspace, maps, reference, truth = arrays(made)
    assert (kspace.shape, kspace.dtype) == ((8, 6, 64, 64), np.complex64)
    assert (maps.shape, maps.dtype) == ((6, 64, 64), np.complex64)
    assert (reference.shape, reference.dtype) == ((8, 64, 64), np.complex64)
    for name in ("flow_from_ed", "flow_to_ed"):
        assert (truth[name].shape, truth[name].dtype) == ((8, 2, 64, 64), np.float32)
    x0, y0, x1, y1 = truth["roi"]
    inside = np.zeros((64, 64), bool)
    inside[x0:x1, y0:y1] = True
    assert inside[truth["myocardium"]].all()
    assert 0.05 < inside.mean() < 0.6


def test_the_reader_takes_the_case(made: tuple[Path, dict[str, Any]]) -> None:
    folder, case = made
    files = ("kspace", "sensitivity_maps", "reference", "truth")
    entry = {**case, **{key: str(folder / case[key]) for key in files}, "case": "P1"}
    sample = LoadKspaced(truth=True)(entry)
    assert sample["mask"].min() == 1.0
    assert bool(sample["cyclic"])
    assert [int(edge) for edge in sample["roi"]] == case["roi"]
    assert np.allclose(sample["affine"], case["affine"])
    assert sample["noise_sd"] == pytest.approx(case["noise_sd"])
    assert sample["flow_to_ed"].shape == (8, 2, 64, 64)


def test_the_affine_has_the_stated_pixel_size_and_passes_through_the_heart(made: tuple[Path, dict[str, Any]]) -> None:
    case = draw_acquisition(SEED, **ARGUMENTS)
    steps = np.array(made[1]["affine"])[:3, :3]
    assert np.allclose(np.linalg.norm(steps, axis=0), [4.5, 4.5, 8.0])
    assert np.allclose(steps.T @ steps, np.diag([4.5**2, 4.5**2, 64.0]))
    middle = case.heart.to_spatial(np.array([[0.0, 0.0, -case.plan.level * case.heart.anatomy.length]]), 0.0)
    assert np.abs((middle - case.plan.affine[:3, 3]) @ steps[:, 2] / 8.0) < 8.0  # tilted by a person's error


def test_maps_have_unit_root_sum_of_squares_in_the_body_and_are_zero_outside(made: tuple[Path, dict[str, Any]]) -> None:
    _, maps, _, truth = arrays(made)
    strength = np.sqrt((np.abs(maps) ** 2).sum(0))
    inside = strength > 0.5
    assert np.allclose(strength[inside], 1.0, atol=1e-5)
    assert not strength[~inside].any()
    assert inside[truth["heart"]].all()
    assert 0.2 < inside.mean() < 1.0
    steps = np.abs(np.diff(maps, axis=1))[:, inside[1:] & inside[:-1]]
    assert np.percentile(steps, 99) < 0.15  # smooth, even at 4.5 mm
    assert np.ptp(np.angle(maps[0][inside])) > 1.0


def test_the_reference_is_what_all_samples_give_without_noise(made: tuple[Path, dict[str, Any]]) -> None:
    torch = pytest.importorskip("torch")
    kspace, maps, reference, truth = arrays(made)
    encoding = CoilFourierEncoding(torch.from_numpy(maps), torch.ones(8, 64))
    image = encoding.adjoint(torch.from_numpy(kspace)).numpy()
    error = image - reference
    body = np.abs(maps).sum(0) > 0.0
    sd = np.sqrt((np.abs(error[:, body]) ** 2).mean())
    assert sd == pytest.approx(float(truth["noise_sd"]), rel=0.02)  # unit maps keep the noise's variance
    assert abs(error[:, body].mean()) < 0.05 * sd


def test_the_maps_explain_the_coils_within_the_fields_curvature(tmp_path: Path) -> None:
    case = simulate_cine_kspace(tmp_path, SEED, **{**ARGUMENTS, "matrix": 128, "spacing_mm": 2.25, "snr": (1e6, 1e6)})
    kspace, maps, reference, _ = arrays((tmp_path, case))
    torch = pytest.importorskip("torch")
    modelled = fft2c(torch.from_numpy(maps * reference[0])).numpy()
    misfit = np.linalg.norm(modelled - kspace[0]) / np.linalg.norm(kspace[0])
    assert 1e-4 < misfit < 0.03  # sensitivities act on the fine grid: near, never equal


def test_noise_has_the_stated_variance_and_covariance(tmp_path: Path) -> None:
    found = {}
    for coupling in (0.0, 0.4):
        folders = []
        for name, snr in (("noisy", (20.0, 20.0)), ("clean", (1e9, 1e9))):
            folder = tmp_path / f"{name}{coupling}"
            folder.mkdir()
            simulate_cine_kspace(folder, SEED, **ARGUMENTS, snr=snr, noise_coupling=coupling)
            folders.append(folder)
        noise = np.load(folders[0] / "kspace.npy") - np.load(folders[1] / "kspace.npy")
        truth = np.load(folders[0] / "truth.npz")
        samples = noise.transpose(1, 0, 2, 3).reshape(6, -1)
        found[coupling] = samples @ samples.conj().T / samples.shape[1]
        assert np.allclose(found[coupling], truth["noise_covariance"], atol=0.02 * float(truth["noise_sd"]) ** 2)
        assert np.allclose(np.diag(found[coupling]).real, float(truth["noise_sd"]) ** 2, rtol=0.02)
    assert np.abs(found[0.4][0, 1]) > 10.0 * np.abs(found[0.0][0, 1])


def test_blood_over_noise_is_the_drawn_ratio(made: tuple[Path, dict[str, Any]]) -> None:
    _, _, reference, truth = arrays(made)
    blood = np.abs(reference[0])[truth["left_blood"]].mean()
    assert blood / float(truth["noise_sd"]) == pytest.approx(made[1]["snr"], rel=1e-5)
    assert 15.0 <= made[1]["snr"] <= 40.0


def test_the_picture_has_phase_that_drifts_slowly(made: tuple[Path, dict[str, Any]]) -> None:
    _, _, reference, truth = arrays(made)
    blood = truth["left_blood"]
    assert np.abs(reference[0][blood]).mean() * 0.999 > np.abs(reference[0][blood].real).mean()
    chest = np.abs(reference[0]) > 0.3
    chest[slice(*truth["roi"][::2]), slice(*truth["roi"][1::2])] = False
    turns = np.angle((reference[:, chest] * reference[0, chest].conj()).sum(-1))
    assert 0.03 < np.ptp(turns) < 0.065


def test_blood_is_brighter_than_muscle_by_the_drawn_contrast() -> None:
    ratios = []
    for seed in range(40):
        look = draw_acquisition(seed, **ARGUMENTS).look
        ratios.append(look.signals[1] / look.signals[2])
    assert 2.2 <= min(ratios) < 2.5
    assert 3.7 < max(ratios) <= 4.0


def test_the_same_seed_gives_the_same_bytes(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, case = made
    assert simulate_cine_kspace(tmp_path, SEED, **ARGUMENTS) == case
    for path in folder.iterdir():
        assert filecmp.cmp(path, tmp_path / path.name, shallow=False), path.name


def test_a_case_goes_through_the_manifests_machinery(tmp_path: Path) -> None:
    manifest = read_manifest("cine_kspace_simulated")
    assert manifest.simulator is not None
    target, arguments = manifest.simulator
    small = {**arguments, "frames": 3, "matrix": 32, "spacing_mm": 9.0, "coils": 2}
    generate_case(tmp_path, target, small, SEED)
    names = {path.name for path in (tmp_path / f"{SEED:06d}").iterdir()}
    assert names == {"kspace.npy", "maps.npy", "reference.npy", "truth.npz", "case.json"}


def test_splits_share_no_heart() -> None:
    splits = read_manifest("cine_kspace_simulated").splits
    seeds = [set(range(part["first_seed"], part["first_seed"] + part["cases"])) for part in splits.values()]
    assert [len(part) for part in seeds] == [32, 6, 12]
    assert all(not (a & b) for a, b in itertools.combinations(seeds, 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 2}, "frames is 2, expected at least 3"),
        ({"coils": 0}, "coils is 0, expected at least 1"),
        ({"matrix": 8}, "matrix is 8, expected at least 16"),
        ({"noise_coupling": 1.0}, "coupling is 1.0, expected at least 0 and less than 1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_cine_kspace(tmp_path, SEED, **{**ARGUMENTS, **wrong})


@pytest.mark.parametrize("pixels", [16, 15])
def test_sampling_is_the_centred_orthonormal_transform(pixels: int) -> None:
    """A picture of one spatial frequency has one sample of k-space, in both directions."""
    for matrix, oversampling in ((phase_encoding(pixels), 1), (readout(pixels), 2)):
        where = fine_coordinates(pixels, oversampling) - pixels // 2
        for k in (0, 3, -5):
            line = matrix @ np.exp(2j * np.pi * k * where / pixels)
            expected = np.zeros(pixels)
            expected[k + pixels // 2] = np.sqrt(pixels)
            assert np.allclose(line, expected, atol=1e-5)


def test_the_middle_of_three_fine_samples_lies_on_a_pixel() -> None:
    assert np.allclose(fine_coordinates(16)[FINE // 2 :: FINE], np.arange(16))


def test_what_lies_beside_the_readout_does_not_fold_over() -> None:
    where = fine_coordinates(32, 2)
    beside = np.exp(-0.5 * ((where - 40.0) / 2.0) ** 2)  # a smooth blob 8 pixels outside
    assert np.linalg.norm(readout(32) @ beside) < 1e-4 * np.linalg.norm(beside)


def test_a_coils_field_is_that_of_a_loop_on_its_axis() -> None:
    """|B| = 2 pi R^2 / (R^2 + d^2)^1.5 up to the constant: Biot and Savart for a circle."""
    array = draw_coils(np.random.default_rng(0), mean_heart().surroundings, 8)
    wire = array.wires[0]
    centre = wire[:-1].mean(0)
    axis = np.cross(wire[0] - centre, wire[15] - centre)
    axis /= np.linalg.norm(axis)
    distances = np.array([60.0, 100.0, 160.0])
    field = np.abs(array.sensitivity(centre + distances[:, None] * axis)[0])
    assert np.allclose(field, 2.0 * np.pi * 70.0**2 / (70.0**2 + distances**2) ** 1.5, rtol=5e-3)


def test_coils_lie_outside_the_body() -> None:
    around = mean_heart().surroundings
    wires = draw_coils(np.random.default_rng(1), around, 12).wires
    x = (wires[..., 0] - around.midline) / around.chest_half_width
    y = (wires[..., 1] - around.chest_middle) / around.chest_half_depth
    assert (np.hypot(x, y) > 1.0).all()


def test_noise_mixing_keeps_each_coils_variance() -> None:
    mixing = draw_noise_mixing(np.random.default_rng(0), 5, 0.3)
    assert np.allclose(np.diag(mixing @ mixing.conj().T), 1.0)
