"""What is checked before a federated training starts, and how cases come to sites."""

import json

import pytest
import torch
from toy_bundles import make_toy_bundle, write_pairs

from clinbundles.data.problems import MissingDataError
from clinbundles.hosts.federated import __main__ as command
from clinbundles.hosts.federated.federated_plan import make_plan, read_overrides, training_config_names
from clinbundles.hosts.federated.shared_network import save_weights
from clinbundles.hosts.federated.site_settings import deal_out, settings_from_environment
from clinbundles.hosts.hosted_bundle import HostedBundle, find_bundle

OCTA = "retinal_octa_vessel_segmentation"


@pytest.fixture
def bundle(tmp_path):
    return HostedBundle(make_toy_bundle("toy_volume_labels", tmp_path))


def plan(bundle, tmp_path, overrides=None, **changes):
    numbers = {"rounds": 3, "local_epochs": 2, "sites": 2, "output_dir": tmp_path / "out", **changes}
    return make_plan(bundle, ("configs/train.yaml",), overrides or {}, **numbers)


def test_cases_are_dealt_by_patient_and_the_seed_alone_decides(tmp_path):
    cases = [{"case": f"P{patient}_{eye}", "patient": f"P{patient}"} for patient in range(7) for eye in ("OD", "OS")]
    dealt = deal_out(cases, 3, seed=1)
    patients = [{case["patient"] for case in site} for site in dealt]
    assert sorted(map(len, patients)) == [2, 2, 3]
    assert set.union(*patients) == {f"P{patient}" for patient in range(7)}
    assert sum(map(len, patients)) == 7, "a patient is at two sites"
    assert deal_out(cases, 3, seed=1) == dealt
    assert deal_out(cases, 3, seed=2) != dealt
    with pytest.raises(ValueError, match="7 patients cannot be dealt to 8 sites"):
        deal_out(cases, 8, seed=1)


def test_simulated_sites_share_the_cases_of_one_set_and_nothing_else(bundle, tmp_path):
    data = write_pairs(tmp_path / "pairs", 10)
    sites = plan(bundle, tmp_path, {"dataset_dir": str(data)}).sites
    assert set(sites) == {"site-1", "site-2"}
    for key in ("training_cases", "validation_cases"):
        cases = [{case["case"] for case in site[key]} for site in sites.values()]
        assert all(cases)
        assert not cases[0] & cases[1]
    for key in ("output_dir", "ckpt_dir"):
        assert len({site[key] for site in sites.values()}) == 2


def test_sites_never_load_weights_themselves_the_server_does(bundle, tmp_path):
    data = write_pairs(tmp_path / "pairs", 10)
    made = plan(bundle, tmp_path, {"dataset_dir": str(data), "ckpt": "start.pt"})
    assert made.settings["ckpt"] is None
    assert made.initial == {"ckpt": "start.pt"}
    assert made.settings["epochs"] == 6


def test_a_site_folder_may_bring_its_own_manifest(bundle, tmp_path):
    folders = [write_pairs(tmp_path / name, 10) for name in ("one", "two")]
    text = (bundle.root / "pairs.yaml").read_text()
    (folders[1] / "manifest.yaml").write_text(text.replace("seeded: {seed: 1,", "seeded: {seed: 5,"))
    first, second = plan(bundle, tmp_path, site_data=[str(folder) for folder in folders]).sites.values()
    assert "manifest" not in first
    assert second["manifest"] == str(folders[1] / "manifest.yaml")
    assert {case["case"] for case in first["training_cases"]} != {case["case"] for case in second["training_cases"]}


def test_a_missing_label_at_one_site_is_found_before_any_work(bundle, tmp_path):
    folders = [write_pairs(tmp_path / name, 10) for name in ("one", "two")]
    for label in (folders[1] / "label").iterdir():
        label.unlink()
    with pytest.raises(MissingDataError, match=r"label/P004\.nii\.gz"):
        plan(bundle, tmp_path, site_data=[str(folder) for folder in folders])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "0 rounds of 2 epochs"),
        ({"min_sites": 3}, "of which 3 must deliver"),
        ({"output_dir": None}, "must be an installed package"),
        ({"site_data": ["one"]}, "1 folders for 2 sites"),
        ({"site_data": ["one", "nowhere"]}, "nowhere does not exist"),
    ],
)
def test_numbers_and_folders_that_cannot_be_are_refused(bundle, tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        plan(bundle, tmp_path, **changes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning_rat", "3"], "Did you mean --learning_rate"),
        (["--epochs", "3"], "give --rounds and --local_epochs"),
        (["3"], "overrides have the form --id value"),
    ],
)
def test_wrong_overrides_are_refused(bundle, words, message):
    with pytest.raises(ValueError, match=message):
        read_overrides(bundle, ("configs/train.yaml",), words)


def test_a_misspelt_bundle_is_an_error_and_not_a_traceback(capsys):
    assert command.main(["retinal_octa_vesel_segmentation"]) == 1
    assert f"Did you mean {OCTA}?" in capsys.readouterr().err


def test_the_command_explains_itself(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for word in ("--site_data", "--export_job", "--min_sites", "CLINBUNDLES_SITE_DATA"):
        assert word in text


def test_images_with_labels_take_the_recipe_that_a_bundle_has_for_them():
    octa = find_bundle(OCTA)
    assert training_config_names(octa, [], own_cases=False) == ("configs/train.yaml",)
    assert training_config_names(octa, [], own_cases=True) == ("configs/train.yaml", "configs/finetune.yaml")


def test_a_hospitals_job_holds_no_path_of_this_machine_and_no_case(tmp_path):
    assert command.main([OCTA, "--export_job", str(tmp_path / "jobs"), "--sites", "3", "--min_sites", "2"]) == 0
    job = tmp_path / "jobs" / f"{OCTA}_federated"
    files = {path.name: path.read_text() for path in job.rglob("*") if path.is_file()}
    assert set(files) == {
        "meta.json",
        "config_fed_server.json",
        "config_fed_client.json",
        "client.py",
        "federated.json",
    }
    for name, text in files.items():
        assert str(tmp_path) not in text, name
        assert str(find_bundle(OCTA).root) not in text, name
    assert json.loads(files["federated.json"])["sites"] == {}
    assert json.loads(files["meta.json"])["min_clients"] == 2


def test_a_hospital_that_has_not_said_where_its_data_are_is_told_how(tmp_path, monkeypatch):
    monkeypatch.delenv("CLINBUNDLES_SITE_DATA", raising=False)
    monkeypatch.setenv("CLINBUNDLES_SITE_OUTPUT", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"set CLINBUNDLES_SITE_DATA \(the folder with the site's cases\)"):
        settings_from_environment("hospital-a")
    monkeypatch.setenv("CLINBUNDLES_SITE_DATA", str(tmp_path))
    assert settings_from_environment("hospital-a")["dataset_dir"] == str(tmp_path)


def test_the_shared_model_becomes_a_bundles_weights_with_whole_counters(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    state = {name: value.double() + 0.5 for name, value in network.state_dict().items()}
    torch.save({"model": state, "train_conf": {}}, tmp_path / "flare.pt")
    save_weights(tmp_path / "flare.pt", network, tmp_path / "models" / "model.pt")
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    network.load_state_dict(saved, strict=True)
    assert saved["1.num_batches_tracked"].dtype == torch.int64
    del state["0.weight"]
    torch.save({"model": state}, tmp_path / "flare.pt")
    with pytest.raises(RuntimeError, match=r"0\.weight"):
        save_weights(tmp_path / "flare.pt", network, tmp_path / "other.pt")
    assert not (tmp_path / "other.pt").exists()
