"""Names of folders and files stay out of MLflow's parameters, tags and uploaded configs: they may name a patient."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlflow
import monai.bundle
import pytest

from clinbundles.handlers import tracked_run
from clinbundles.handlers.private_values import config_without_paths, holds_path, without_paths

NAME = "Doe_Jane"
PATIENT = f"/data/{NAME}"


def test_no_path_of_a_run_reaches_the_store(store, runs_of, train, tmp_path, monkeypatch):
    output = tmp_path / NAME / "results"
    output.mkdir(parents=True)
    executed = output / "config_20260101_000000.json"
    config = {"dataset_dir": PATIENT, "cases": [{"image": f"{PATIENT}/a.nii"}], "tracking_uri": f"http://{NAME}@host"}
    executed.write_text(json.dumps({**config, "ckpt_dir": "$@output_dir + '/models'", "epochs": 3}))
    own, shared = tmp_path / "own.yaml", tmp_path / "shared.yaml"
    own.write_text(f"dataset_dir: {PATIENT}/images  # of one machine\n")
    shared.write_text("ckpt: $@bundle_root + '/models/model.pt'\n")
    program = str(Path(monai.bundle.__file__).with_name("__main__.py"))
    arguments = ["--config_file", f"['{own}','{shared}']", "--dataset_dir", PATIENT, "--epochs", "3"]
    arguments += ["--training_cases", f"[{{'image': '{PATIENT}/a.png', 'patient': '{NAME}'}}]", "--output_dir", NAME]
    arguments += ["--tracking_uri", f"http://{NAME}@host"]
    monkeypatch.setattr(sys, "argv", [program, "run", *arguments])
    train(output, "privacy", config=str(executed), parameters={"checkpoint": f"{PATIENT}/model.pt", "seed": 1})

    (run,) = runs_of("privacy")
    client = mlflow.MlflowClient(store)
    folder = Path(client.download_artifacts(run.info.run_id, "", str(made(tmp_path / "downloaded"))))
    texts = {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}
    uploaded = [Path(path).name for path in texts if "configs" in path]
    assert sorted(uploaded) == [executed.name, "shared.yaml"], "a config with a path of one machine stays here"
    for where, text in {"parameters": str(run.data.params), "tags": str(run.data.tags), **texts}.items():
        assert NAME not in text.replace(str(tmp_path), ""), where
    assert run.data.params["override.epochs"] == "3"
    assert run.data.params["override.dataset_dir"].startswith("path:")
    kept = json.loads(next(text for path, text in texts.items() if path.endswith(executed.name)))
    assert (kept["epochs"], kept["ckpt_dir"]) == (3, "$@output_dir + '/models'")
    assert kept["tracking_uri"] == "(not logged)"


def made(folder):
    folder.mkdir()
    return folder


def test_message_of_a_failure_is_kept_only_without_a_path(store, runs_of):
    where = {"tracking_uri": store, "experiment": "messages"}
    for message in ("loss is not finite", f"no images in {PATIENT}"):
        with pytest.raises(ValueError, match=message), tracked_run("train", "a_bundle", **where):
            raise ValueError(message)
    ends = [run.data.tags["clinbundles.end"] for run in runs_of("messages")]
    assert ends[0] == "ValueError: loss is not finite"
    assert ends[1].startswith("ValueError (its message names a path")


def test_equal_paths_and_equal_files_have_equal_hashes(tmp_path):
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    assert without_paths("ckpt", str(first)) == without_paths("checkpoint", str(second))
    assert without_paths("dataset_dir", "images") == without_paths("dataset_dir", f"{Path.cwd()}/images/")
    assert without_paths("dataset_dir", "images") != without_paths("dataset_dir", "pictures")


@pytest.mark.parametrize("value", [3, 0.5, True, "cosine", [160, 160], "sha256", "@seed", ""])
def test_what_is_no_path_is_logged_as_it_is(value):
    assert without_paths("setting", value) == value
    assert config_without_paths({"setting": value}) == {"setting": value}


@pytest.mark.parametrize("text", ["a: /data/x.nii", "a: '/data/x'", "a: ~/images/x", "a: C:\\Users", "- [/data/x]"])
def test_absolute_path_in_a_config_is_seen(text):
    assert holds_path(text)


@pytest.mark.parametrize("text", ["$@root + '/models/model.pt'", "a: x/y.png", "# mm / px, 1/2", "http://host/a/b"])
def test_other_slashes_are_no_absolute_path(text):
    assert not holds_path(text)
