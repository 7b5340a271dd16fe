from __future__ import annotations

import pytest
import torch

from clinbundles.kspace import CheckKspaced, CompressCoilsd, EstimateSensitivityMapsd, KspaceError


def test_compression_changes_data_and_maps_alike(sample, maps, images):
    found = CompressCoilsd(coils=3)(sample | {"sensitivity_maps": maps})
    assert found["kspace"].shape[1] == found["sensitivity_maps"].shape[0] == 3
    assert 0.9 < found["coil_energy"] <= 1
    CheckKspaced()(found | {"reference": images})
    untouched = CompressCoilsd(coils=10)(sample)
    assert untouched["kspace"] is sample["kspace"]
    assert untouched["coil_energy"] == 1.0


def test_maps_are_estimated_where_none_are_given(sample, maps):
    found = EstimateSensitivityMapsd("time_average", calibration_width=12)(sample)
    assert found["maps_method"] == "time_average"
    CheckKspaced()(found)
    replaced = EstimateSensitivityMapsd("time_average", replace=True, calibration_width=12)(
        sample | {"sensitivity_maps": 0 * maps}
    )
    torch.testing.assert_close(replaced["sensitivity_maps"], found["sensitivity_maps"])


def test_missing_lines_of_the_centre_are_named_with_the_case(sample):
    sample["mask"][:, 9] = 0
    with pytest.raises(KspaceError, match=r"case 'P001': sensitivity_maps: the centre .* no frame has 9, expected"):
        EstimateSensitivityMapsd(calibration_width=8)(sample)
    with pytest.raises(ValueError, match="method is 'walsh', expected 'espirit' or 'time_average'"):
        EstimateSensitivityMapsd("walsh")
    with pytest.raises(KspaceError, match=r"case 'P001': kspace: kspace has the energy 0"):
        CompressCoilsd(2)(sample | {"kspace": 0 * sample["kspace"]})
