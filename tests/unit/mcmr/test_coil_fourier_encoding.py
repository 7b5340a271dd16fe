from __future__ import annotations

import pytest
import torch
from random_cine import complex_normal, line_encoding, line_mask, unit_maps

from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding


def normals(encoding: CoilFourierEncoding, images: torch.Tensor) -> torch.Tensor:
    return torch.cat([encoding.normal(image[None], frame) for frame, image in enumerate(images)])


@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("rows", [1, 7, 8, 17])
@pytest.mark.parametrize("columns", [1, 7, 8])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_gram_path_is_the_fft_path_is_adjoint_after_forward(coils, rows, columns, share):
    maps, mask = unit_maps(coils, rows, columns), line_mask(3, columns, share)
    mask[1] = 0  # a frame without samples
    images = complex_normal(3, rows, columns)
    gram, fft = CoilFourierEncoding(maps, mask, "gram"), CoilFourierEncoding(maps, mask, "fft")
    expected = fft.adjoint(fft.forward(images))
    assert torch.allclose(normals(gram, images), expected, rtol=0, atol=1e-12)
    assert torch.allclose(normals(fft, images), expected, rtol=0, atol=1e-12)
    points = CoilFourierEncoding(maps, mask[:, None].expand(-1, rows, -1))
    assert torch.allclose(normals(points, images), expected, rtol=0, atol=1e-12)


def test_paths_agree_in_single_precision():
    maps, mask, images = unit_maps(8, 33, 40).to(torch.complex64), line_mask(2, 40), complex_normal(2, 33, 40)
    gram, fft = (normals(CoilFourierEncoding(maps, mask, p), images.to(torch.complex64)) for p in ("gram", "fft"))
    assert gram.dtype == torch.complex64
    assert (gram - fft).norm() < 1e-6 * fft.norm()


def test_masks_of_points_have_their_normal_too():
    mask = (torch.rand(2, 7, 8, generator=torch.Generator().manual_seed(0)) < 0.5).double()
    encoding, images = CoilFourierEncoding(unit_maps(3, 7, 8), mask), complex_normal(2, 7, 8)
    assert torch.allclose(normals(encoding, images), encoding.adjoint(encoding.forward(images)), atol=1e-12)


def test_many_images_of_one_frame_are_the_same_as_one_by_one():
    encoding, images = line_encoding(), complex_normal(5, 7, 8)
    single = torch.cat([encoding.normal(image[None], 2) for image in images])
    assert torch.allclose(encoding.normal(images, 2), single, atol=1e-13)


def test_full_sampling_with_unit_maps_is_the_identity():
    encoding = CoilFourierEncoding(unit_maps(4, 7, 8), torch.ones(2, 8))
    images = complex_normal(2, 7, 8)
    assert torch.allclose(normals(encoding, images), images, atol=1e-12)


@pytest.mark.parametrize("path", ["gram", "fft"])
def test_a_strip_of_rows_is_cut_out_of_the_whole(path):
    encoding, images = line_encoding(path=path), complex_normal(4, 7, 8)
    strip = encoding.rows(2, 6)
    assert strip.plane == (4, 8)
    assert torch.allclose(normals(strip, images[:, 2:6]), normals(encoding, images)[:, 2:6], atol=1e-13)


def test_rows_of_a_point_mask_are_refused():
    with pytest.raises(ValueError, match="only with a line mask"):
        CoilFourierEncoding(unit_maps(2, 7, 8), torch.ones(2, 7, 8)).rows(0, 3)


@pytest.mark.parametrize("path", ["gram", "fft"])
def test_gradients_pass_through_the_normal(path):
    encoding = line_encoding(path=path)
    assert torch.autograd.gradcheck(lambda x: encoding.normal(x, 0), (complex_normal(2, 7, 8).requires_grad_(),))


@pytest.mark.parametrize(
    "maps, mask, path, message",
    [
        (torch.ones(3, 7, 8), torch.ones(2, 8), "auto", r"sensitivity_maps: found \(3, 7, 8\) torch.float32"),
        (unit_maps(3, 7, 8), torch.ones(2, 7), "auto", r"expected \(T, 8\) or \(T, 7, 8\). Check the order"),
        (unit_maps(3, 7, 8), torch.ones(2, 7, 8), "gram", "Gram matrices need a line mask"),
        (unit_maps(3, 7, 8), torch.full((2, 8), 0.5), "auto", "mask has values from 0.5 to 0.5: expected 0"),
        (unit_maps(3, 7, 8), torch.ones(2, 8), "toeplitz", "path is 'toeplitz': expected one of auto, gram, fft"),
    ],
)
def test_maps_and_masks_that_do_not_fit_are_refused(maps, mask, path, message):
    with pytest.raises(ValueError, match=message):
        CoilFourierEncoding(maps, mask, path)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda e: e.forward(complex_normal(3, 7, 8)), r"images: found \(3, 7, 8\).*expected \(4, 7, 8\)"),
        (lambda e: e.adjoint(complex_normal(4, 2, 7, 8)), r"kspace: found \(4, 2, 7, 8\).*expected \(4, 3, 7, 8\)"),
        (lambda e: e.normal(complex_normal(2, 8, 7), 0), r"images: found \(2, 8, 7\)"),
        (lambda e: e.forward(complex_normal(4, 7, 8).real), "images: found .* torch.float64"),
        (lambda e: e.normal(complex_normal(2, 7, 8), 4), "frame is 4: expected a number from 0 to 3"),
    ],
)
def test_images_and_kspace_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(line_encoding())
