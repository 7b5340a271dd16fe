from __future__ import annotations

import ismrmrd
import numpy as np
import pytest
import torch

from clinbundles.kspace import CheckKspaced, KspaceError, LoadKspaced, cases_by_slice
from clinbundles.mcmr.fourier import fft2c, ifft2c

from .conftest import COILS, FRAMES, LINES, READOUT, IsmrmrdFile, beating_disc, smooth_maps


def fill(file: IsmrmrdFile, kspace: torch.Tensor, scale: float = 1.0, shuffle: int = 0, **idx: int) -> IsmrmrdFile:
    """All lines of all frames in a random order."""
    order = np.random.default_rng(shuffle).permutation(kspace.shape[0] * kspace.shape[3])
    for number in order:
        frame, line = divmod(int(number), kspace.shape[3])
        file.add(scale * kspace[frame, :, :, line].numpy(), line, phase=frame, physiology=frame * 16, **idx)
    return file


def test_readouts_are_sorted_by_their_counters(tmp_path, kspace):
    found = LoadKspaced()({"kspace": fill(IsmrmrdFile(tmp_path / "a.h5"), kspace).write()})
    torch.testing.assert_close(found["kspace"], kspace, rtol=0, atol=0)
    assert found["mask"].shape == (FRAMES, LINES)
    assert found["spacing_mm"].tolist() == [10.0, 10.0]
    assert found["frame_ms"] == pytest.approx(40.0)  # 16 ticks of 2.5 ms
    assert found["cyclic"]
    assert not found["acquisition"]["real_time"]


def test_the_affine_leads_to_the_scanners_place_of_the_slice(tmp_path, kspace):
    found = LoadKspaced()({"kspace": fill(IsmrmrdFile(tmp_path / "a.h5"), kspace).write()})
    affine = found["affine"].numpy()
    # position (10, 20, 30) LPS is (-10, -20, 30) RAS
    np.testing.assert_allclose(affine @ [READOUT // 2, LINES // 2, 0, 1], [-10, -20, 30, 1], atol=1e-4)
    np.testing.assert_allclose(affine[:3, 0], [-10, 0, 0], atol=1e-5)
    np.testing.assert_allclose(affine[:3, 2], [0, 0, 8], atol=1e-5)


def test_readout_oversampling_is_cut_off_in_the_image(tmp_path):
    images = beating_disc(FRAMES, READOUT, LINES)
    maps = smooth_maps(COILS, 2 * READOUT, LINES)
    wide = torch.randn(FRAMES, 2 * READOUT, LINES, dtype=torch.complex64)  # something outside of the field of view
    wide[:, READOUT // 2 : READOUT // 2 + READOUT] = images
    coil_images = wide[:, None] * maps
    path = fill(IsmrmrdFile(tmp_path / "a.h5", x=2 * READOUT, fov_x=480.0), fft2c(coil_images)).write()
    found = LoadKspaced()({"kspace": path})
    assert found["kspace"].shape == (FRAMES, COILS, READOUT, LINES)
    torch.testing.assert_close(ifft2c(found["kspace"]), coil_images[:, :, READOUT // 2 : READOUT // 2 + READOUT])
    assert found["spacing_mm"].tolist() == [10.0, 10.0]
    kept = LoadKspaced(crop_oversampling=False)({"kspace": path})
    assert kept["kspace"].shape[2] == 2 * READOUT
    with pytest.raises(KspaceError, match=r"field of view 2 times that of the image.*set crop_oversampling to True"):
        CheckKspaced()(kept)


def test_averages_are_divided_by_their_number_line_by_line(tmp_path, kspace):
    file = fill(IsmrmrdFile(tmp_path / "a.h5"), kspace, scale=0.5, average=0)
    for line in range(0, LINES, 2):  # every second line of frame 0 twice
        file.add(1.5 * kspace[0, :, :, line].numpy(), line, phase=0, average=1)
    found = LoadKspaced()({"kspace": file.write()})
    torch.testing.assert_close(found["kspace"][0, :, :, ::2], kspace[0, :, :, ::2])
    torch.testing.assert_close(found["kspace"][0, :, :, 1::2], 0.5 * kspace[0, :, :, 1::2])
    assert found["acquisition"]["averages"] == pytest.approx(1 + 0.5 / FRAMES)


def test_noise_scans_whiten_the_coils_and_are_no_lines(tmp_path, kspace):
    generator = np.random.default_rng(1)
    mixing = np.tril(generator.normal(size=(COILS, COILS))) + 2 * np.eye(COILS)
    file = IsmrmrdFile(tmp_path / "a.h5", bandwidth=0.8)

    def noise(samples: int) -> np.ndarray:
        white = generator.normal(size=(COILS, samples)) + 1j * generator.normal(size=(COILS, samples))
        return mixing @ white / np.sqrt(2)

    # the noise scan is twice as slow and its filter passes 80 %: 0.4 times the noise power of the image
    for _ in range(8):
        file.add(np.sqrt(0.4) * noise(1000), flags=ismrmrd.ACQ_IS_NOISE_MEASUREMENT, dwell=4.0)
    file.add(100 * noise(READOUT), 3, flags=ismrmrd.ACQ_IS_NAVIGATION_DATA)
    for frame in range(FRAMES):
        for line in range(LINES):
            file.add(noise(READOUT), line, phase=frame)
    path = file.write()
    found = LoadKspaced()({"kspace": path})
    samples = found["kspace"].movedim(1, 0).reshape(COILS, -1)
    covariance = samples @ samples.mH / samples.shape[1]
    torch.testing.assert_close(covariance, torch.eye(COILS, dtype=torch.complex64), rtol=0, atol=0.1)
    assert found["noise_sd"] == pytest.approx(1.0)
    raw = LoadKspaced(whiten=False)({"kspace": path})["kspace"].movedim(1, 0).reshape(COILS, -1)
    expected = torch.from_numpy(mixing @ mixing.T).to(torch.complex64)
    torch.testing.assert_close(raw @ raw.mH / raw.shape[1], expected, rtol=0.1, atol=0.5)


def test_an_asymmetric_echo_keeps_its_zeros_and_a_mask_of_samples(tmp_path, kspace):
    file = IsmrmrdFile(tmp_path / "a.h5")
    missing = 6
    for frame in range(FRAMES):
        for line in range(LINES):
            short = kspace[frame, :, missing:, line].numpy()
            file.add(short, line, phase=frame, centre=READOUT // 2 - missing)
    found = LoadKspaced()({"kspace": file.write()})
    assert found["mask"].shape == (FRAMES, READOUT, LINES)
    assert not found["mask"][:, :missing].any()
    assert bool(found["mask"][:, missing:].all())
    torch.testing.assert_close(found["kspace"][:, :, missing:], kspace[:, :, missing:], rtol=0, atol=0)
    assert found["acquisition"]["partial_readout"]
    CheckKspaced(calibration_width=8)(found)
    with pytest.raises(KspaceError, match=r"asymmetric echo\), expected whole lines.*general masks"):
        CheckKspaced(calibration_width=8, line_masks=True)(found)


def test_oversampling_of_an_asymmetric_echo_is_cut_too(tmp_path):
    images = beating_disc(FRAMES, READOUT, LINES)
    wide = torch.zeros(FRAMES, 2 * READOUT, LINES, dtype=torch.complex64)
    wide[:, READOUT // 2 : READOUT // 2 + READOUT] = images
    kspace = fft2c(wide)[:, None].expand(-1, COILS, -1, -1)
    file = IsmrmrdFile(tmp_path / "a.h5", x=2 * READOUT, fov_x=480.0)
    missing = 12
    for frame in range(FRAMES):
        for line in range(LINES):
            file.add(kspace[frame, :, missing:, line].numpy(), line, phase=frame, centre=READOUT - missing)
    found = LoadKspaced()({"kspace": file.write()})
    assert not found["kspace"][:, :, : missing // 2].any()
    assert bool(found["mask"][:, missing // 2 :].all())
    truth = fft2c(images)[:, None].expand(-1, COILS, -1, -1)
    inner = found["kspace"][:, :, missing // 2 + 3 :] - truth[:, :, missing // 2 + 3 :]
    assert float(inner.norm() / truth.norm()) < 0.02


def test_reversed_readouts_are_turned(tmp_path, kspace):
    file = IsmrmrdFile(tmp_path / "a.h5")
    for frame in range(FRAMES):
        for line in range(LINES):
            samples = kspace[frame, :, :, line].numpy()
            reverse = line % 2 == 1
            flags = ismrmrd.ACQ_IS_REVERSE if reverse else 0
            file.add(samples[:, ::-1] if reverse else samples, line, phase=frame, flags=flags)
    found = LoadKspaced()({"kspace": file.write()})
    torch.testing.assert_close(found["kspace"], kspace, rtol=0, atol=0)


def test_missing_outer_lines_are_zero_up_to_the_pixel_size_of_the_reconstruction(tmp_path, kspace):
    path = fill(IsmrmrdFile(tmp_path / "a.h5", ry=LINES + 8), kspace).write()
    found = LoadKspaced()({"kspace": path})
    assert found["kspace"].shape[-1] == LINES + 8
    torch.testing.assert_close(found["kspace"][..., 4:-4], kspace, rtol=0, atol=0)
    assert not found["mask"][:, :4].any()
    assert found["spacing_mm"].tolist() == pytest.approx([10.0, 200 / 28])
    unpadded = LoadKspaced(pad_phase_encoding=False)({"kspace": path})
    assert unpadded["kspace"].shape[-1] == LINES


def test_the_centre_line_of_the_header_decides_where_lines_lie(tmp_path, kspace):
    # partial Fourier: the first 6 lines were left out and the counters begin at 0
    file = IsmrmrdFile(tmp_path / "a.h5", centre=LINES // 2 - 6)
    for frame in range(FRAMES):
        for line in range(6, LINES):
            file.add(kspace[frame, :, :, line].numpy(), line - 6, phase=frame)
    found = LoadKspaced()({"kspace": file.write()})
    torch.testing.assert_close(found["kspace"][..., 6:], kspace[..., 6:], rtol=0, atol=0)
    assert not found["mask"][:, :6].any()


def test_slices_sets_and_repetitions_must_be_chosen(tmp_path, kspace):
    file = fill(IsmrmrdFile(tmp_path / "a.h5"), kspace, slice=0)
    fill(file, kspace, scale=2.0, slice=3)
    path = file.write()
    with pytest.raises(KspaceError, match=r"holds 2 slices, expected one slice per case: set slice to 0 ... 1"):
        LoadKspaced()({"kspace": path})
    cases = cases_by_slice([{"kspace": str(path)}])
    assert [(case["case"], case["slice"]) for case in cases] == [("a_s00", 0), ("a_s01", 1)]
    torch.testing.assert_close(LoadKspaced()(cases[1])["kspace"], 2 * kspace, rtol=0, atol=0)
    for name in ("set", "repetition"):
        file = fill(IsmrmrdFile(tmp_path / f"{name}.h5"), kspace, **{name: 0})
        path = fill(file, kspace, scale=2.0, **{name: 1}).write()
        with pytest.raises(KspaceError, match=rf"holds the {name}s 0, 1 of one slice, expected one: set {name} to one"):
            LoadKspaced()({"kspace": path})
        torch.testing.assert_close(LoadKspaced()({"kspace": path, name: 1})["kspace"], 2 * kspace, rtol=0, atol=0)
    path = fill(fill(IsmrmrdFile(tmp_path / "c.h5"), kspace, contrast=0), kspace, contrast=1).write()
    with pytest.raises(KspaceError, match=r"holds the contrasts 0, 1 of one slice, expected one: export one of them"):
        LoadKspaced()({"kspace": path})


def test_real_time_repetitions_are_not_cyclic(tmp_path, kspace):
    file = IsmrmrdFile(tmp_path / "a.h5")
    for frame in range(FRAMES):
        for line in range(LINES):
            file.add(kspace[frame, :, :, line].numpy(), line, repetition=frame, stamp=1000 + frame * 20 + line // 2)
    found = LoadKspaced()({"kspace": file.write()})
    assert found["kspace"].shape[0] == FRAMES
    assert not found["cyclic"]
    assert found["acquisition"]["real_time"]
    assert found["frame_ms"] == pytest.approx(50.0)


def test_the_headers_tr_is_the_frame_time_where_it_can_be_nothing_else(tmp_path, kspace):
    for tr, expected in ((36.5, 36.5), (3.2, np.nan)):
        file = IsmrmrdFile(tmp_path / f"{tr}.h5", end=f"<sequenceParameters><TR>{tr}</TR></sequenceParameters>")
        for frame in range(FRAMES):
            for line in range(LINES):
                file.add(kspace[frame, :, :, line].numpy(), line, phase=frame)
        assert LoadKspaced()({"kspace": file.write()})["frame_ms"] == pytest.approx(expected, nan_ok=True)


def test_a_pilot_tone_at_the_ends_of_readouts_is_taken_out(tmp_path, kspace):
    parameter = "<userParameterLong><name>PilotTone</name><value>1</value></userParameterLong>"
    spoilt = kspace.clone()
    spoilt[:, :, [0, 1, 2, -1]] += 100
    path = fill(IsmrmrdFile(tmp_path / "a.h5", end=f"<userParameters>{parameter}</userParameters>"), spoilt).write()
    found = LoadKspaced()({"kspace": path})
    assert not found["kspace"][:, :, [0, 1, 2, -1]].any()
    torch.testing.assert_close(found["kspace"][:, :, 3:-1], kspace[:, :, 3:-1], rtol=0, atol=0)


@pytest.mark.parametrize(
    "header, message",
    [
        ({"trajectory": "radial"}, "the trajectory is radial, expected cartesian"),
        ({"z": 8}, r"8 partitions \(3D\), expected 1"),
        ({"y": 8, "last": 7, "centre": 4}, r"does not fit the encoded matrix 24 x 8 of the header \(centre line 4\)"),
        ({"x": 16}, r"has 24 samples .* does not fit the encoded matrix 16 x 20"),
        ({"rfov_x": 0.0}, "expected all above 0"),
    ],
)
def test_headers_that_do_not_fit_are_refused(tmp_path, kspace, header, message):
    path = fill(IsmrmrdFile(tmp_path / "P9.h5", **header), kspace).write()
    with pytest.raises(KspaceError, match=rf"case 'P9': .*{message}") as caught:
        LoadKspaced()({"kspace": path})
    assert "SECRET" not in str(caught.value)


def test_a_broken_header_names_nobody(tmp_path, kspace, recwarn):
    file = IsmrmrdFile(tmp_path / "P9.h5", x="SECRET")
    file.add(kspace[0, :, :, 0].numpy())
    with pytest.raises(KspaceError, match="case 'P9': the ISMRMRD header cannot be read") as caught:
        LoadKspaced()({"kspace": file.write()})
    assert "SECRET" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert not any("SECRET" in str(warning.message) for warning in recwarn)
