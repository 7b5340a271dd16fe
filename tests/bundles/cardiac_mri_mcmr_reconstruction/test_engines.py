"""The reconstruction between MONAI's engines: what they take apart, what they can do without."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Decollated

from cardiac_mri_mcmr_reconstruction.cine_inferer import CineInferer
from cardiac_mri_mcmr_reconstruction.pipeline import KeepTensorsd
from clinbundles.mcmr.sampling_masks import variable_density_lines


def batch(cases, frames=5, coils=3, size=24):
    torch.manual_seed(0)
    maps = torch.randn(cases, coils, size, size, dtype=torch.complex64)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    mask = torch.stack([variable_density_lines(frames, size, 3.0, seed) for seed in range(cases)])
    kspace = torch.randn(cases, frames, coils, size, size, dtype=torch.complex64) * mask[:, :, None, None]
    return {"image": kspace, "mask": mask, "sensitivity_maps": maps}


def still(image):
    return torch.zeros(len(image), 2 * image.shape[1], *image.shape[2:])


@pytest.mark.parametrize("cases", [1, 2])
def test_engines_take_the_iterates_apart_case_by_case(cases):
    data = batch(cases)
    found = CineInferer(outer_iterations=2)(data["image"], still, data["mask"], data["sensitivity_maps"])
    apart = Decollated(keys=None, detach=True)({"image": data["image"], "label": None, "pred": found})
    assert len(apart) == cases
    for number, item in enumerate(apart):
        assert len(item["pred"]) == 3
        assert item["pred"][-1] is found[number][-1]
        assert torch.equal(item["image"], data["image"][number])


def test_motion_of_the_instance_asks_no_network():
    def none(image):
        raise AssertionError("the network was asked")

    data = batch(1)
    inferer = CineInferer(motion="instance", refine_steps=3, outer_iterations=1)
    found = inferer(data["image"], none, data["mask"], data["sensitivity_maps"])[0]
    assert len(found) == 2
    assert found[1].template_flow.any()


def test_the_networks_motion_is_where_refinement_begins():
    data = batch(1)
    seen = []

    def network(image):
        seen.append(image)
        return 3 * torch.randn(len(image), 2 * image.shape[1], *image.shape[2:])

    inputs = (data["image"], network, data["mask"], data["sensitivity_maps"])
    alone, refined = (CineInferer(refine_steps=steps, outer_iterations=1)(*inputs)[0] for steps in (0, 3))
    rest = CineInferer(motion="instance", refine_steps=3, outer_iterations=1)(*inputs)[0]
    assert len(seen) == 2
    CineInferer(refine_steps=3, outer_iterations=3)(*inputs)
    assert len(seen) == 3  # later outer iterations begin at the motion before
    assert alone[1].template_flow.abs().max() > 6
    assert not torch.allclose(refined[1].template_flow, rest[1].template_flow, atol=0.1)


def test_settings_of_the_motion_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="motion is 'flow': expected 'network' or 'instance'"):
        CineInferer(motion="flow")
    with pytest.raises(ValueError, match="refine_steps is 0: expected 0 or more, and with motion 'instance' at least"):
        CineInferer(motion="instance")
    with pytest.raises(ValueError, match=r"refine_steps is 9 with pairwise motion.*set refine_steps to 0"):
        CineInferer(refine_steps=9, pairwise=True)


def test_what_no_batch_can_hold_is_left_out():
    kept = KeepTensorsd()(
        {"kspace": torch.zeros(2), "roi": (1, 2, 3, 4), "acquisition": {"a": 1}, "level": None, "case": "a"}
    )
    assert kept["roi"].tolist() == [1, 2, 3, 4]
    assert sorted(kept) == ["case", "kspace", "roi"]
    assert "roi" not in KeepTensorsd()({"roi": None})
