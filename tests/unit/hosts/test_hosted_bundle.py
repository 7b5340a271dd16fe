"""What a host learns of a bundle, from its metadata alone; and weights that must not be loaded."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from toy_bundles import KINDS, make_toy_bundle

from clinbundles.hosts.bundle_predictor import load_network
from clinbundles.hosts.hosted_bundle import BundleError, HostedBundle, find_bundle


@pytest.mark.parametrize("name", KINDS)
def test_kind_comes_from_the_metadata_and_not_from_the_name(name, tmp_path):
    bundle = HostedBundle(make_toy_bundle(name, tmp_path))
    assert bundle.kind == KINDS[name]
    assert 0 not in bundle.label_names or bundle.kind != "label_map"


def test_unknown_bundle_is_refused_with_those_that_there_are():
    with pytest.raises(BundleError, match=r"Did you mean retinal_octa_vessel_segmentation\?"):
        find_bundle("retinal_octa_vessel_segmentatoin")


def test_folder_without_metadata_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"has no configs/metadata\.json"):
        find_bundle(tmp_path)


def test_broken_metadata_are_named(tmp_path):
    root = make_toy_bundle("toy_volume_labels", tmp_path)
    (root / "configs" / "metadata.json").write_text("{")
    bundle = HostedBundle(root)
    with pytest.raises(BundleError, match=r"toy_volume_labels.*metadata\.json must be JSON"):
        _ = bundle.metadata


def test_unknown_setting_is_refused_with_the_one_that_was_meant(tmp_path):
    bundle = find_bundle("retinal_octa_vessel_segmentation")
    with pytest.raises(BundleError, match=r"has no setting 'fov_m'; did you mean fov_mm\?"):
        bundle.predictor(fov_m=3)


def test_bundle_for_raw_data_is_kept_from_hosts_of_images(tmp_path):
    bundle = HostedBundle(make_toy_bundle("toy_volume_labels", tmp_path))
    bundle.refuse_raw_data("MONAI Deploy hands over DICOM images")
    (bundle.root / "configs" / "dicom.yaml").write_text("study: raw\n")
    raw = HostedBundle(bundle.root)
    assert (raw.takes_raw_data, raw.takes_exam) == (True, False)
    with pytest.raises(
        BundleError, match=r"raw data of a scanner, and MONAI Deploy hands over DICOM images: use its command line"
    ):
        raw.refuse_raw_data("MONAI Deploy hands over DICOM images")


class _Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_checkpoint_with_code_in_it_is_refused_and_not_run(tmp_path):
    mark = tmp_path / "code was run"
    file = tmp_path / "model.pt"
    torch.save({"model": _Attack(mark)}, file)
    with pytest.raises(BundleError, match=r"model\.pt cannot be used"):
        load_network(torch.nn.Linear(1, 1), file, torch.device("cpu"))
    file.write_bytes(pickle.dumps(_Attack(mark)))
    with pytest.raises(BundleError, match=r"model\.pt cannot be used"):
        load_network(torch.nn.Linear(1, 1), file, torch.device("cpu"))
    assert not mark.exists()


@pytest.mark.parametrize("damage", ["cut", "other network", "missing", "no state dict"])
def test_weights_that_do_not_fit_are_named(tmp_path, damage):
    file = tmp_path / "model.pt"
    network = torch.nn.Linear(3, 2)
    torch.save({"other network": torch.nn.Linear(4, 2)}.get(damage, network).state_dict(), file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:200])
    if damage == "missing":
        file.unlink()
    if damage == "no state dict":
        torch.save([1, 2], file)
    with pytest.raises(BundleError, match=r"no weights at|model\.pt cannot be used"):
        load_network(network, file, torch.device("cpu"))


def test_version_and_labels_of_a_packaged_bundle_are_read_from_json_twins(tmp_path):
    root = make_toy_bundle("toy_volume_labels", tmp_path)
    import yaml

    for file in (root / "configs").glob("*.yaml"):
        if file.name != "dicom.yaml":
            file.with_suffix(".json").write_text(json.dumps(yaml.safe_load(file.read_text())))
            file.unlink()
    bundle = HostedBundle(root)
    assert [path.name for path in bundle.training_configs] == ["train.json"]
    assert bundle.label_names == {1: "bright tissue"}
