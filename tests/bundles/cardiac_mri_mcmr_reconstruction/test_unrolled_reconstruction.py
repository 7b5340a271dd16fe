"""The unrolled scheme on a disc whose motion is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from moving_disc_case import ROI, SETTINGS, beating_flow, disc_sample

from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import UnrolledSettings, motion_input, reconstruct
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.flow_composition import pair_flows
from clinbundles.mcmr.reconstruction_metrics import psnr


def _case() -> tuple[dict, CoilFourierEncoding, torch.Tensor]:
    sample = disc_sample()
    encoding = CoilFourierEncoding(sample["sensitivity_maps"], sample["mask"])
    return sample, encoding, encoding.adjoint(sample["kspace"])


def test_known_motion_reconstructs_better_than_view_sharing() -> None:
    sample = disc_sample()
    first, last = (psnr(sample["pred"][number].images, sample["reference"], ROI) for number in (0, -1))
    assert last > first + 1


def test_there_is_one_iterate_more_than_outer_iterations() -> None:
    _, encoding, adjoint = _case()
    told = beating_flow().flatten(0, 1)[None]
    for count in (0, 1, 2):
        iterates = reconstruct(encoding, adjoint, lambda _: told, replace(SETTINGS, outer_iterations=count))
        assert [one.moved for one in iterates] == [False] + [True] * count


def test_pairwise_motion_that_says_the_same_as_template_motion_gives_the_same_images() -> None:
    _, encoding, adjoint = _case()
    flow = beating_flow()
    by_template = reconstruct(encoding, adjoint, lambda _: flow.flatten(0, 1)[None], SETTINGS)
    by_pairs = reconstruct(
        encoding, adjoint, lambda _, weights: pair_flows(flow, weights)[None], replace(SETTINGS, pairwise=True)
    )
    torch.testing.assert_close(by_pairs[-1].images, by_template[-1].images)
    assert by_pairs[-1].template_flow is None
    assert by_pairs[-1].moved


def test_without_the_last_solve_the_last_iterate_has_new_motion_and_the_images_before() -> None:
    _, encoding, adjoint = _case()
    told = beating_flow().flatten(0, 1)[None]
    first, last = reconstruct(encoding, adjoint, lambda _: told, SETTINGS, last_solve=False)
    assert last.images is first.images
    torch.testing.assert_close(last.template_flow, beating_flow())


def test_the_gradient_of_an_image_loss_by_the_motion_points_downhill() -> None:
    sample, encoding, adjoint = _case()
    flow = (0.7 * beating_flow()).flatten(0, 1)[None].requires_grad_()

    def loss(told: torch.Tensor) -> torch.Tensor:
        images = reconstruct(encoding, adjoint, lambda _: told, SETTINGS)[-1].images
        return (images - sample["reference"]).abs().square().sum()

    before = loss(flow)
    (gradient,) = torch.autograd.grad(before, flow)
    step = 1e-3 / float(gradient.norm())
    with torch.no_grad():
        after = loss(flow - step * gradient)
    assert float(before - after) == pytest.approx(1e-3 * float(gradient.norm()), rel=0.1)


def test_motion_input_does_not_depend_on_the_scale_of_the_data() -> None:
    images = torch.randn(3, 20, 20, dtype=torch.complex64)
    torch.testing.assert_close(motion_input(images), motion_input(1e-6 * images))
    assert float(motion_input(images).max()) == 1.0
    assert float(motion_input(0 * images).max()) == 0.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"init": "zero"}, "init is 'zero': expected 'view_shared' or 'sense'"),
        ({"regularisation": -1.0}, "regularisation=-1.0"),
        ({"neighbours": 0}, "neighbours=0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UnrolledSettings(**wrong)
