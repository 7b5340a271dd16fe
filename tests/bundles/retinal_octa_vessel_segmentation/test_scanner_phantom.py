import json

import numpy as np
import pytest
from PIL import Image

from retinal_octa_vessel_segmentation.scanner.decorrelation import (
    amplitude_decorrelation,
    complex_gaussian,
    projected_decorrelation,
    reflectance_weight,
    speckle_amplitudes,
)
from retinal_octa_vessel_segmentation.scanner.eye_motion import displace, draw_eye_motion
from retinal_octa_vessel_segmentation.scanner.phantom_anatomy import (
    DropoutPatch,
    avascular_zone,
    draw_anatomy,
    drop_capillaries,
)
from retinal_octa_vessel_segmentation.scanner.scanner_phantom import quantise, simulate_scanner_case, smooth_field
from retinal_octa_vessel_segmentation.simulation.vessel_graph import VesselGraph
from retinal_octa_vessel_segmentation.simulation.vessel_rasterizer import vessel_label


def graph_of(segments, radius_mm, parent=None, field_mm=3.0):
    """Graph of straight segments ((x0, y0), (x1, y1)) in units of the field."""
    ends = np.array(segments, float)
    ends = np.concatenate([ends, np.zeros((len(ends), 2, 1))], axis=2)
    count = len(ends)
    return VesselGraph(
        start=ends[:, 0],
        end=ends[:, 1],
        radius=np.broadcast_to(np.asarray(radius_mm, float) / field_mm, (count,)).copy(),
        parent=np.full(count, -1) if parent is None else np.array(parent),
        artery=np.ones(count, bool),
        stage=np.zeros(count, np.int64),
        field_mm=field_mm,
    )


def mean_decorrelation(rho, **scan):
    settings = {"signal": 1.0, "noise": 0.0, "repeats": 3, **scan}
    generator = np.random.default_rng(0)
    return float(
        amplitude_decorrelation(speckle_amplitudes(np.full((300, 300), rho), generator=generator, **settings)).mean()
    )


def test_static_tissue_without_noise_does_not_decorrelate():
    assert mean_decorrelation(1.0) == pytest.approx(0.0, abs=1e-6)


def test_renewed_speckle_decorrelates_by_one_minus_a_quarter_of_pi():
    independent = 1 - np.pi / 4  # expectation of D for independent Rayleigh amplitudes
    assert mean_decorrelation(0.0) == pytest.approx(independent, abs=0.002)


def test_decorrelation_falls_with_correlation_and_rises_with_noise():
    along_rho = [mean_decorrelation(rho) for rho in (0.0, 0.3, 0.6, 0.8, 0.9, 0.97, 1.0)]
    assert all(np.diff(along_rho) < 0)
    along_noise = [mean_decorrelation(0.99, noise=noise) for noise in (0.0, 0.1, 0.3, 1.0)]
    assert all(np.diff(along_noise) > 0)


@pytest.mark.parametrize("grain_px", [0.0, 0.7, 1.5])
def test_amplitudes_are_rayleigh_distributed_for_every_grain(grain_px):
    amplitudes = speckle_amplitudes(np.full((400, 400), 0.5), 1.0, 0.0, 2, np.random.default_rng(1), grain_px)
    assert float(amplitudes.mean() / amplitudes.std()) == pytest.approx(1.913, abs=0.02)
    assert float((amplitudes**2).mean()) == pytest.approx(1.0, abs=0.03)


def test_speckle_correlation_between_repeats_is_rho():
    first = complex_gaussian((400, 400), np.random.default_rng(0))
    renewed = complex_gaussian((400, 400), np.random.default_rng(1))
    second = 0.8 * first + 0.6 * renewed
    assert float((first.conj() * second).mean().real) == pytest.approx(0.8, abs=0.01)


def test_projection_averages_speckle_noise_down():
    one, four = (
        projected_decorrelation(np.full((depth, 200, 200), 0.5), 1.0, 0.1, 2, np.random.default_rng(0)).std()
        for depth in (1, 4)
    )
    assert one / four == pytest.approx(2.0, rel=0.05)


def test_reflectance_weight_is_one_without_noise_and_suppresses_dark_pixels():
    weights = []
    for noise in (0.0, 0.1, 0.5, 1.0):
        amplitudes = speckle_amplitudes(np.full((200, 200), 0.9), 1.0, noise, 3, np.random.default_rng(0))
        weights.append(float(reflectance_weight(amplitudes, noise).mean()))
    assert weights[0] == pytest.approx(1.0)
    assert all(np.diff(weights) < 0)


def test_bad_scan_settings_are_refused():
    with pytest.raises(ValueError, match="repeats is 1"):
        mean_decorrelation(0.5, repeats=1)
    with pytest.raises(ValueError, match="correlation lies in"):
        mean_decorrelation(1.2)


def test_no_motion_is_the_identity():
    image = np.random.default_rng(0).random((20, 30))
    np.testing.assert_allclose(displace(image, np.zeros((2, 20, 30))), image, atol=1e-12)


def test_moved_label_is_the_label_of_the_moved_graph():
    side, cut = 120, 60
    segments = [((0.1, 0.2), (0.9, 0.25)), ((0.15, 0.8), (0.85, 0.45)), ((0.3, 0.35), (0.35, 0.75))]
    displacement = np.zeros((2, side, side))
    displacement[1, cut:] = 4.6  # a jump of the gaze along the rows
    displacement[0] = 2.3
    label = vessel_label(graph_of(segments, 0.06), (side, side))
    moved = displace(label, displacement)
    for rows, shift in ((slice(0, cut), (2.3, 0.0)), (slice(cut, side - 4), (2.3, 4.6))):
        graph = graph_of(np.array(segments) - np.array(shift) / side, 0.06)
        wide = graph_of(np.array(segments) - np.array(shift) / side, 0.06 + 0.75 * 3 / side)
        thin = graph_of(np.array(segments) - np.array(shift) / side, 0.06 - 0.75 * 3 / side)
        assert np.all(moved[rows] <= vessel_label(wide, (side, side))[rows])
        assert np.all(moved[rows] >= vessel_label(thin, (side, side))[rows])
        expected = vessel_label(graph, (side, side))[rows]
        assert 2 * (moved[rows] & expected).sum() / (moved[rows].sum() + expected.sum()) > 0.93


def test_motion_stays_within_its_ranges():
    for seed in range(20):
        motion = draw_eye_motion((100, 100), np.random.default_rng(seed), drift_px=0.0, merge_probability=0.0)
        jumps = np.diff(motion.displacement[1, :, 0])
        assert len(motion.saccade_rows) <= 3
        assert np.count_nonzero(np.abs(jumps) > 1e-9) <= len(motion.saccade_rows)
        assert np.all((motion.bulk >= 0) & (motion.bulk < 1))
        assert np.abs(motion.displacement[1].mean()) < 1e-9


def test_dropout_takes_capillaries_in_the_patch_and_what_they_feed():
    segments = [((0.5, 0.0), (0.5, 0.4)), ((0.5, 0.4), (0.5, 0.6)), ((0.5, 0.6), (0.5, 0.9)), ((0.1, 0.1), (0.1, 0.2))]
    capillaries = graph_of(segments, 0.003, parent=[-1, 0, 1, -1])
    patch = (DropoutPatch((0.5, 0.5), 0.2),)
    assert len(drop_capillaries(capillaries, patch)) == 2
    arteriole = graph_of(segments, 0.01, parent=[-1, 0, 1, -1])
    assert len(drop_capillaries(arteriole, patch)) == 4


def test_avascular_zone_of_a_ring_is_its_disc():
    angle = np.linspace(0, 2 * np.pi, 61)
    ring = 0.5 + 0.12 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    segments = [(ring[k], ring[k + 1]) for k in range(60) if k % 10]  # gaps of 0.04 mm are closed
    zone = avascular_zone(graph_of(segments, 0.003), (0.5, 0.5), 600)
    assert float(zone.sum() * (3 / 600) ** 2) == pytest.approx(np.pi * (0.36 - 0.003) ** 2, rel=0.03)


def test_severity_enlarges_the_avascular_zone_and_adds_patches():
    faz, patches = {}, {}
    for severity in (0.0, 1.0):
        drawn = [draw_anatomy(np.random.default_rng(seed), severity) for seed in range(40)]
        faz[severity] = np.mean([parameters.faz_mm for parameters, _ in drawn])
        patches[severity] = np.mean([len(found) for _, found in drawn])
    assert faz[1.0] / faz[0.0] == pytest.approx(1.8, rel=0.01)
    assert patches[0.0] == 0
    assert patches[1.0] > 5
    with pytest.raises(ValueError, match="severity is 2"):
        draw_anatomy(np.random.default_rng(0), 2)


def test_smooth_field_is_standardised_and_smooth():
    field = smooth_field((200, 200), 20.0, np.random.default_rng(0))
    assert field.shape == (200, 200)
    assert abs(field.mean()) < 0.5
    assert field.std() == pytest.approx(1.0, abs=0.35)
    assert np.abs(np.diff(field, axis=0)).max() < 0.4


def test_quantise_spans_eight_bits():
    image = quantise(np.random.default_rng(0).random((50, 50)))
    assert image.dtype == np.uint8
    assert image.min() == 0
    assert image.max() == 255


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("case")
    return folder, simulate_scanner_case(folder, 3000)


def test_case_is_byte_identical_for_a_seed(case, tmp_path):
    folder, entry = case
    assert simulate_scanner_case(tmp_path, 3000) == entry
    for key in ("image", "label", "faz", "graph", "truth"):
        assert (folder / entry[key]).read_bytes() == (tmp_path / entry[key]).read_bytes()


def test_case_is_complete_and_consistent(case):
    folder, entry = case
    image, label, faz = (np.asarray(Image.open(folder / entry[key])) for key in ("image", "label", "faz"))
    truth = json.loads((folder / entry["truth"]).read_text())
    assert image.shape == label.shape == faz.shape == (304, 304)
    assert image.dtype == label.dtype == faz.dtype == np.uint8
    assert set(np.unique(label)) == {0, 1, 2}
    assert set(np.unique(faz)) == {0, 1}
    assert faz.mean() * 9 == pytest.approx(truth["faz_area_mm2"], rel=0.05)
    assert (label[faz > 0] > 0).mean() < 0.02
    assert (label > 0).mean() == pytest.approx(truth["vessel_area_density"])
    assert truth["severity"] == pytest.approx(entry["severity"], abs=1e-6)
    assert len(VesselGraph.read_csv(folder / entry["graph"])) > 5000
    assert entry["fov_mm"] == [3.0, 3.0]
    assert entry["eye"] in ("OD", "OS")


def test_vessels_are_brighter_but_a_threshold_is_not_enough(case):
    from skimage.filters import threshold_otsu

    folder, entry = case
    image, label = (np.asarray(Image.open(folder / entry[key])) for key in ("image", "label"))
    assert image[label == 2].mean() > image[label == 1].mean() > image[label == 0].mean()
    found = image > threshold_otsu(image)
    dice = 2 * (found & (label > 0)).sum() / (found.sum() + (label > 0).sum())
    assert 0.3 < dice < 0.75
