"""Weights in MLflow's registry: signature, alias, link to the training run, and back again unchanged."""

from __future__ import annotations

import subprocess

import mlflow
import pytest
import torch
from mlflow.models import get_model_info
from python_fork_server import SERVER
from toy_bundles import make_toy_bundle
from toy_bundles import weights as toy_weights

from clinbundles.data.content_hash import file_hash
from clinbundles.hosts.hosted_bundle import BundleError, HostedBundle
from clinbundles.hosts.model_registry import RegistryError, fetch, load, register
from clinbundles.packaging.declared_tensors import example_inputs

TOY = "toy_classification"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return HostedBundle(make_toy_bundle(TOY, tmp_path_factory.mktemp("toys")))


def other_weights(change):
    return {name: value + change for name, value in toy_weights(TOY).items()}


@pytest.mark.host("MLflow", "registry")
def test_registered_network_computes_what_the_bundle_does(hosted, store, monkeypatch):
    done = register(hosted, hosted.weights, store, alias="shipped")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(store)
    try:
        program = mlflow.pytorch.load_model(f"models:/{hosted.name}@shipped")
        signature = get_model_info(f"models:/{hosted.name}@shipped").signature
    finally:
        mlflow.set_tracking_uri(None)
    network = hosted.predictor().network
    for batch, n in ((1, 1), (3, 3)):
        inputs = example_inputs(hosted.metadata, batch, n)
        with torch.no_grad():
            torch.testing.assert_close(program(*inputs), network(*inputs), rtol=1e-4, atol=1e-4)
    for spec, entry in zip(
        signature.inputs.inputs, hosted.metadata["network_data_format"]["inputs"].values(), strict=True
    ):
        sizes = [size if isinstance(size, int) else -1 for size in entry["spatial_shape"]]
        assert spec.shape == (-1, entry["num_channels"], *sizes)
    state = load(hosted.name, "shipped", store)
    shipped = torch.load(hosted.weights, weights_only=True)
    assert state.keys() == shipped.keys()
    assert all(torch.equal(state[name], shipped[name]) for name in shipped)
    assert done.run_id is None, "no run of this store has written the shipped weights"


def test_training_is_linked_to_the_version_and_its_data_are_named(toy, store, runs_of, train, tmp_path):
    train(tmp_path, "registry", bundle=TOY, weights=other_weights(0.5), manifests=["rossa"])
    (run,) = runs_of("registry")
    weights = tmp_path / "models" / "model.pt"
    assert run.data.tags["clinbundles.weights_sha256"] == file_hash(weights)
    done = register(toy, weights, store, alias="champion")
    assert done.run_id == run.info.run_id
    client = mlflow.MlflowClient(store)
    version = client.get_model_version_by_alias(TOY, "champion")
    assert version.tags["clinbundles.bundle_version"] == toy.version
    assert version.tags["clinbundles.manifest.rossa.sha256"] == run.data.params["manifest.rossa.sha256"]
    assert "Research use only" in version.description
    outputs = client.get_run(run.info.run_id).outputs.model_outputs
    assert [f"models:/{output.model_id}" for output in outputs] == [version.source], "the run's page shows the model"

    again = register(toy, weights, store, alias="champion")
    assert (again.version, again.is_new) == (done.version, False)


def test_alias_moves_and_the_file_comes_back_byte_for_byte(toy, store, tmp_path):
    for change in (1.0, 2.0):
        path = tmp_path / f"{change}.pt"
        torch.save(other_weights(change), path)
        register(toy, path, store, alias="moving")
        assert file_hash(fetch(TOY, "moving", store, tmp_path / "back.pt")) == file_hash(path)


def test_a_changed_file_is_not_handed_out(toy, store, tmp_path):
    weights = tmp_path / "model.pt"
    torch.save(other_weights(3.0), weights)
    done = register(toy, weights, store, alias="changed")
    place = mlflow.MlflowClient(store).get_model_version_download_uri(TOY, done.version)
    torch.save(other_weights(4.0), f"{place.removeprefix('file://').replace('%20', ' ')}/extra_files/model.pt")
    target = tmp_path / "back.pt"
    with pytest.raises(RegistryError, match="not those that were registered"):
        fetch(TOY, "changed", store, target)
    assert not target.exists()


def test_mistakes_are_told(toy, store, tmp_path):
    with pytest.raises(RegistryError, match=r"no toy_classification@chmpion; aliases of .*: "):
        fetch(TOY, "chmpion", store, tmp_path / "back.pt")
    with pytest.raises(RegistryError, match="there is no run 0000"):
        register(toy, toy.weights, store, run_id="0000")
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(BundleError, match=r"other\.pt cannot be used"):
        register(toy, tmp_path / "other.pt", store)


def test_a_file_that_would_run_code_is_refused(toy, store, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"weight": Harmful()}, tmp_path / "harmful.pt")
    with pytest.raises(BundleError, match=r"harmful\.pt cannot be used"):
        register(toy, tmp_path / "harmful.pt", store)
    assert not (tmp_path / "ran").exists()


def test_command_works_on_a_real_server_after_a_training_there(toy, server, train, tmp_path):
    uri = server()
    train(tmp_path, "at the server", bundle=TOY, weights=other_weights(5.0), uri=uri)
    weights = tmp_path / "models" / "model.pt"
    command = [SERVER.python(), "-m", "clinbundles.hosts.model_registry"]
    end = ["--tracking-uri", uri, "--alias", "champion"]
    done = run([*command, "register", str(toy.root), "--weights", str(weights), *end], tmp_path)
    assert "registered: toy_classification version 1, from run " in done.stdout
    run([*command, "fetch", TOY, *end, "--output", "back.pt"], tmp_path)
    assert file_hash(tmp_path / "back.pt") == file_hash(weights)
    assert not (tmp_path / "mlflow.db").exists(), "MLflow's default store was used"


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done
