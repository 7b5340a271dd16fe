from __future__ import annotations

import pytest
import torch
from random_cine import complex_normal, line_encoding, unit_maps

from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.initial_image import sense, view_shared
from clinbundles.mcmr.motion_compensated_solve import SolveSettings, distance_weights, solve_motion_compensated

T, N, X, Y = 5, 3, 6, 8
EXACT = SolveSettings(tolerance=1e-12, max_iterations=300)


def encodings() -> list[CoilFourierEncoding]:
    mask = (torch.rand(T, X, Y, generator=torch.Generator().manual_seed(3)) < 0.5).double()
    return [line_encoding(T, N, X, Y), CoilFourierEncoding(unit_maps(N, X, Y), mask)]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("cyclic", [True, False])
def test_view_sharing_is_the_motion_compensated_solve_with_zero_flow(which, cyclic):
    encoding, a = encodings()[which], complex_normal(T, X, Y)
    weights = distance_weights(T, 1.5, cyclic).double()
    flow = torch.zeros(T, T, 2, X, Y, dtype=torch.float64)
    expected, _ = solve_motion_compensated(encoding, a, flow, weights, 0 * a, 0.1, settings=EXACT)
    shared, report = view_shared(encoding, a, 1.5, 0.1, cyclic, EXACT)
    assert report.converged
    assert torch.allclose(shared, expected, atol=1e-9)


@pytest.mark.parametrize("which", [0, 1])
def test_sense_is_the_solve_of_each_frame_alone(which):
    encoding, a = encodings()[which], complex_normal(T, X, Y)
    flow = torch.zeros(T, T, 2, X, Y, dtype=torch.float64)
    expected, _ = solve_motion_compensated(encoding, a, flow, torch.eye(T).double(), 0 * a, 0.1, settings=EXACT)
    assert torch.allclose(sense(encoding, a, 0.1, EXACT)[0], expected, atol=1e-9)


def test_sense_of_fully_sampled_kspace_is_the_image():
    encoding, image = CoilFourierEncoding(unit_maps(N, X, Y), torch.ones(T, Y)), complex_normal(T, X, Y)
    solution, report = sense(encoding, encoding.adjoint(encoding.forward(image)))
    assert torch.allclose(solution, image, atol=1e-10)
    assert report.iterations == 1


@pytest.mark.parametrize("start", [view_shared, sense])
def test_input_that_does_not_fit_is_refused(start):
    with pytest.raises(ValueError, match=r"adjoint_images: found \(5, 8, 6\)"):
        start(line_encoding(T, N, X, Y), complex_normal(T, Y, X))
    with pytest.raises(ValueError, match="regularisation is -1: expected at least 0"):
        start(line_encoding(T, N, X, Y), complex_normal(T, X, Y), regularisation=-1.0)
