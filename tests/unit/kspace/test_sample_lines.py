from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import torch

from clinbundles.kspace import EstimateSensitivityMapsd, FullySampledReferenced, KspaceError, SampleLinesd
from clinbundles.transforms.case_seeded import CaseSeeded

from .conftest import FRAMES, LINES, READOUT


def test_the_same_lines_for_a_case_whatever_came_before(sample):
    first = SampleLinesd([2, 4], seed=3)
    again = SampleLinesd([2, 4], seed=3)
    again(sample | {"case": "other"})
    assert torch.equal(first(sample)["mask"], again(sample)["mask"])
    assert not torch.equal(first(sample)["mask"], SampleLinesd([2, 4], seed=4)(sample)["mask"])
    cases = {tuple(first(sample | {"case": str(i)})["mask"].flatten().tolist()) for i in range(8)}
    assert len(cases) > 4


def test_training_draws_anew_and_follows_monais_random_state(sample):
    draw = SampleLinesd([2, 4])
    draw.set_random_state(seed=1)
    masks = [draw(sample)["mask"] for _ in range(3)]
    assert not torch.equal(masks[0], masks[1])
    draw.set_random_state(seed=1)
    assert torch.equal(draw(sample)["mask"], masks[0])
    seeded = CaseSeeded([SampleLinesd([2, 4])], seed=1)
    assert torch.equal(seeded(sample)["mask"], seeded(sample)["mask"])


@pytest.mark.parametrize("acceleration", [1, 2, 4, 5])
def test_the_number_of_lines_is_that_of_the_acceleration(sample, acceleration):
    found = SampleLinesd(acceleration, seed=0)(sample)
    assert found["mask"].sum(dim=1).tolist() == [LINES / acceleration] * FRAMES
    assert found["acceleration"] == pytest.approx(acceleration)
    assert torch.equal(found["kspace"], sample["kspace"] * found["mask"][:, None, None])


def test_lines_lie_where_lines_were_acquired(sample):
    """Zero-filled outer lines are left out, and an asymmetric echo stays one."""
    sample["mask"][:, :4] = 0
    sample["kspace"][..., :4] = 0
    found = SampleLinesd(4, seed=0)(sample)
    assert not found["mask"][:, :4].any()
    assert found["mask"].sum(dim=1).tolist() == [4] * FRAMES
    echo = torch.ones(FRAMES, READOUT, LINES)
    echo[:, :5] = 0
    found = SampleLinesd(4, seed=0)(sample | {"mask": echo, "kspace": sample["kspace"] * echo[:, None]})
    assert found["mask"].shape == (FRAMES, READOUT, LINES)
    assert not found["mask"][:, :5].any()
    assert found["mask"].amax(dim=1).sum(dim=1).tolist() == [5] * FRAMES


def test_undersampled_data_are_not_undersampled_again(sample):
    sample["mask"][2, [5, 8]] = 0
    with pytest.raises(KspaceError, match=r"'P001': retrospective undersampling needs .* frame 2 lacks 5, 8; expected"):
        SampleLinesd(4, seed=0)(sample)


def test_patterns_of_files_are_used_as_they_are(tmp_path, sample):
    pattern = np.zeros((FRAMES, LINES))
    pattern[np.arange(FRAMES), np.arange(FRAMES) + 8] = 1
    np.save(tmp_path / "a.npy", pattern)
    np.savetxt(tmp_path / "b.txt", pattern.T)  # one column per frame
    np.savetxt(tmp_path / "c.csv", pattern, delimiter=",")
    scipy.io.savemat(tmp_path / "d.mat", {"samp": pattern.T})
    for name in ("a.npy", "b.txt", "c.csv", "d.mat"):
        found = SampleLinesd(mask_file=tmp_path / name)(sample)
        assert torch.equal(found["mask"], torch.from_numpy(pattern).float()), name
    np.save(tmp_path / "e.npy", pattern[:, :-1])
    with pytest.raises(KspaceError, match=r"mask has the shape \(5, 19\), expected \(5, 20\) for lines"):
        SampleLinesd(mask_file=tmp_path / "e.npy")(sample)
    with pytest.raises(FileNotFoundError, match=r"the mask file f.npy does not exist"):
        SampleLinesd(mask_file=tmp_path / "f.npy")(sample)
    scipy.io.savemat(tmp_path / "g.mat", {"one": pattern, "two": pattern})
    with pytest.raises(KspaceError, match=r"g.mat holds one, two, expected one array"):
        SampleLinesd(mask_file=tmp_path / "g.mat")(sample)
    sample["mask"][3, 11] = 0
    with pytest.raises(KspaceError, match=r"the pattern a.npy asks for lines that were not acquired: frame 3 lacks 11"):
        SampleLinesd(mask_file=tmp_path / "a.npy")(sample)


def test_the_full_kspace_gives_the_reference(sample, images, maps):
    found = SampleLinesd(2, seed=0, keep_full=True)(sample | {"sensitivity_maps": maps})
    found = FullySampledReferenced()(EstimateSensitivityMapsd()(found))
    assert "kspace_full" not in found
    assert found["maps_method"] == "given"
    torch.testing.assert_close(found["reference"], images)


def test_a_wrong_acceleration_is_refused():
    with pytest.raises(ValueError, match=r"acceleration is \[4, 0.5\], expected numbers of at least 1"):
        SampleLinesd([4, 0.5])
