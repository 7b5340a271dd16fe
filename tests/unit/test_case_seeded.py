from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, RandGaussianNoised

from clinbundles.transforms.case_seeded import CaseSeeded

CASES = [{"case": name, "image": torch.zeros(1, 8, 8)} for name in "abcd"]


def images(order, workers=0, seed=0):
    noise = Compose([CaseSeeded(RandGaussianNoised("image", prob=1.0), seed=seed)])
    loader = DataLoader(Dataset([CASES[index] for index in order], noise), batch_size=1, num_workers=workers)
    return {batch["case"][0]: batch["image"][0] for batch in loader}


def test_result_depends_on_the_case_alone_not_on_order_or_workers():
    first, second = images([0, 1, 2, 3]), images([3, 1, 0], workers=2)
    for name, image in second.items():
        assert torch.equal(image, first[name])
    assert not torch.equal(first["a"], first["b"])


def test_another_seed_gives_other_results():
    assert not torch.equal(images([0])["a"], images([0], seed=1)["a"])


def test_a_case_without_name_is_refused():
    with pytest.raises(KeyError, match="no 'case'"):
        CaseSeeded([])({"image": 1})
