from __future__ import annotations

import logging

import pytest
import torch

from clinbundles.kspace import CheckKspaced, KspaceError

from .conftest import COILS, FRAMES, LINES, READOUT


def refused(sample: dict, message: str, **settings: object) -> None:
    with pytest.raises(KspaceError, match=message) as caught:
        CheckKspaced(**settings)(sample)
    assert str(caught.value).startswith("case 'P001': ")


def test_a_good_case_passes_and_tells_its_acceleration(sample, maps, images, caplog):
    with caplog.at_level(logging.WARNING):
        found = CheckKspaced()({**sample, "sensitivity_maps": maps, "reference": images})
    assert found["acceleration"] == 1.0
    assert not caplog.records


def test_real_values_are_refused(sample):
    sample["kspace"] = sample["kspace"].abs()
    refused(sample, r"kspace has real values \(torch.float32\), expected complex values: magnitude images \(DICOM\)")


def test_another_order_of_axes_is_refused(sample):
    coils_last = sample["kspace"].permute(0, 2, 3, 1)
    refused({**sample, "kspace": coils_last}, r"\(5, 24, 20, 4\) would have 24 coils and a matrix of 20 x 4, expected")
    sample["kspace"] = sample["kspace"].expand(-1, -1, -1, -1).repeat(1, 17, 1, 1)
    refused(sample, r"would have 68 coils .* expected at most 64 coils .* state another one by axes")


def test_as_many_coils_as_frames_are_said(sample, caplog):
    with caplog.at_level(logging.WARNING):
        CheckKspaced()({**sample, "kspace": sample["kspace"][:4], "mask": sample["mask"][:4]})
    assert "kspace has 4 frames and as many coils" in caplog.text


def test_several_slices_in_one_array_are_refused(sample):
    sample["kspace"] = sample["kspace"][None]
    refused(sample, r"kspace has 5 axes \(1, 5, 4, 24, 20\), expected 4: .*several slices or sets.*one case per slice")


def test_too_few_frames_are_refused(sample):
    refused({**sample, "kspace": sample["kspace"][:2]}, "kspace has 2 frames, expected at least 3")


def test_values_that_are_not_finite_are_counted(sample):
    sample["kspace"][1, 2, 3, 4:6] = float("nan")
    refused(sample, f"kspace has 2 of {FRAMES * COILS * READOUT * LINES} samples that are not finite")


def test_samples_outside_of_the_mask_are_counted(sample):
    sample["mask"][2, 7] = 0
    refused(sample, rf"mask and kspace disagree: {READOUT} samples outside of the mask are not zero, and 0 of 99")


def test_sampled_lines_without_signal_are_counted(sample):
    sample["kspace"][2, :, :, 7:9] = 0
    refused(sample, "0 samples outside of the mask are not zero, and 2 of 100 sampled lines are zero in all coils")


def test_a_frame_without_lines_is_named(sample):
    sample["mask"][3] = 0
    sample["kspace"][3] = 0
    refused(sample, r"mask has no line in 1 of 5 frames \(frame 3\), expected at least one in each")


def test_a_mask_of_another_shape_is_refused(sample):
    sample["mask"] = sample["mask"][:, :-1]
    refused(sample, r"mask has the shape \(5, 19\), expected \(5, 20\) for lines or \(5, 24, 20\) for samples")


def test_a_partial_readout_needs_a_mask_of_samples(sample):
    sample["kspace"][:, :, :6] = 0
    refused(sample, r"kspace is zero at 6 of 24 readout positions of every line \(partial or asymmetric readout\)")
    sample["mask"] = torch.ones(FRAMES, READOUT, LINES)
    sample["mask"][:, :6] = 0
    CheckKspaced(calibration_width=8)(sample)
    refused(sample, "expected whole lines", line_masks=True)


@pytest.mark.parametrize("axis, name", [(2, "readout"), (3, "phase encoding")])
def test_kspace_that_is_not_centred_is_refused(sample, axis, name):
    sample["kspace"] = torch.fft.ifftshift(sample["kspace"], dim=axis)
    refused(
        sample, rf"kspace has the peak of its energy at \d+ of \d+ along the {name}, expected near 1[02]: .*fftshift"
    )


def test_readout_oversampling_is_refused(sample):
    sample["acquisition"] = {"readout_oversampling": 2.0}
    refused(sample, "readout field of view 2 times that of the image, expected 1: readout oversampling was not removed")


def test_other_trajectories_are_refused(sample):
    sample["acquisition"] = {"trajectory": "radial"}
    refused(sample, "the trajectory is radial, expected cartesian")


def test_maps_of_another_size_are_refused(sample, maps):
    refused(
        {**sample, "sensitivity_maps": maps[:3]}, r"shape \(3, 24, 20\), expected \(4, 24, 20\).*3 coils, kspace has 4"
    )
    refused({**sample, "sensitivity_maps": maps[..., :-2]}, r"sensitivity_maps has the shape \(4, 24, 18\), expected")


def test_maps_that_are_not_finite_are_refused(sample, maps):
    maps[0, 0, :3] = float("nan")
    refused({**sample, "sensitivity_maps": maps}, "sensitivity_maps has 3 values that are not finite")


def test_maps_must_be_normalised(sample, maps):
    message = "root sum of squares of 3 to 3 in its support, expected 1: normalise or re-estimate"
    refused({**sample, "sensitivity_maps": 3 * maps}, message)
    refused({**sample, "sensitivity_maps": 0 * maps}, "sensitivity_maps is zero everywhere")
    maps[:, :8] = 0  # outside of the support they may be zero
    CheckKspaced()({**sample, "sensitivity_maps": maps})


def test_without_maps_the_centre_must_be_covered(sample, maps):
    sample["mask"][:, [9, 11]] = 0
    sample["kspace"][..., [9, 11]] = 0
    message = r"sensitivity_maps is not given, and 2 of the 8 lines around the centre .* \(lines 9, 11\).*give maps"
    refused(sample, message, calibration_width=8)
    CheckKspaced(calibration_width=8)({**sample, "sensitivity_maps": maps})


def test_a_reference_must_fit_in_shape_and_scale(sample, images):
    refused({**sample, "reference": images[:, :-1]}, r"reference has the shape \(5, 23, 20\), expected \(5, 24, 20\)")
    refused({**sample, "reference": images / 10}, "the data are 10 times as large, expected about 1")
    images[0, 0, 0] = float("inf")
    refused({**sample, "reference": images}, "reference has values that are not finite")


def test_few_lines_are_said(sample, maps, caplog):
    lines = torch.zeros(FRAMES, LINES)
    lines[:, 9:12] = 1
    sample |= {"mask": lines, "kspace": sample["kspace"] * lines[:, None, None], "sensitivity_maps": maps}
    with caplog.at_level(logging.WARNING):
        assert CheckKspaced()(sample)["acceleration"] == pytest.approx(20 / 3)
    assert "case 'P001': 3 to 3 lines per frame, acceleration 6.67: below 4 lines or above 24 times" in caplog.text


def test_cyclic_real_time_is_said(sample, caplog):
    sample["acquisition"] = {"real_time": True}
    with caplog.at_level(logging.WARNING):
        CheckKspaced()(sample)
    assert "case 'P001': cyclic is true, but the frames were acquired one after the other" in caplog.text
