"""MLflow's model registry: weights of a bundle get a version, a signature and an alias, and come back by the alias.

    python -m clinbundles.hosts.model_registry register BUNDLE --weights MODEL.pt --tracking-uri URI --alias champion
    python -m clinbundles.hosts.model_registry fetch BUNDLE --alias champion --tracking-uri URI --output MODEL.pt

What is registered can be read without running code of whoever wrote it: the network as an exported program (MLflow's
`pt2` format, for `mlflow.pytorch.load_model`), and beside it the state dict itself, which the bundle's configs take
(`--ckpt_path`, `--ckpt`) and which is read with `weights_only=True`. Nothing is pickled.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.entities import LoggedModel, LoggedModelOutput, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.types import Schema, TensorSpec

from clinbundles.data.atomic_file import atomic_path
from clinbundles.data.content_hash import file_hash
from clinbundles.handlers.mlflow_run import TAG_BUNDLE, TAG_VERSION, experiment_number
from clinbundles.handlers.run_recorder import TAG_WEIGHTS
from clinbundles.hosts.hosted_bundle import BundleError, HostedBundle, find_bundle
from clinbundles.packaging.declared_tensors import (
    DeclaredTensor,
    declared_inputs,
    declared_outputs,
    example_inputs,
)
from clinbundles.packaging.torch_archive import remove_source_paths

WEIGHTS = "extra_files/model.pt"  # in the registered model; MLflow names the folder


class RegistryError(ValueError):
    """A model that cannot be registered, or is not there."""


@dataclass(frozen=True)
class RegisteredWeights:
    """A version in the registry: its model's name, its number, the training run it is linked to (None: not known)."""

    name: str
    version: str
    run_id: str | None
    is_new: bool


def register(
    bundle: HostedBundle,
    weights: str | os.PathLike[str],
    tracking_uri: str,
    alias: str | None = None,
    run_id: str | None = None,
) -> RegisteredWeights:
    """Register weights as a new version of the model that bears the bundle's name; the same weights only once.

    The version is linked to the training run that wrote these weights, which is found by their SHA-256, and gets its
    hashes of the data as tags.

    Args:
        bundle: the bundle whose network the weights fit.
        weights: state dict as training writes it.
        tracking_uri: `sqlite:////absolute/mlruns.db` or `http://host:port`.
        alias: name that points to this version from now on, such as "champion".
        run_id: the training run, where it cannot be found (weights that were changed after the training).

    Raises:
        BundleError: the weights cannot be read or do not fit.
        RegistryError: no such run, one of another bundle, a network that cannot be exported.
    """
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    network = bundle.predictor(weights=weights).network
    digest = file_hash(weights)
    run = _run_of(client, bundle, digest, run_id)
    version = _version_of(client, bundle.name, digest)
    is_new = version is None
    if version is None:
        tags = {TAG_BUNDLE: bundle.name, TAG_VERSION: bundle.version, TAG_WEIGHTS: digest, **_data_hashes(run)}
        logged = _log_model(client, bundle, network, Path(weights), run, tags)
        _make_registered_model(client, bundle)
        with _global_store(tracking_uri):
            created = client.create_model_version(
                bundle.name,
                source=f"models:/{logged.model_id}",
                run_id=run.info.run_id if run else None,
                tags=tags,
                description=bundle.notice,
                model_id=logged.model_id,
            )
        version = str(created.version)
    if alias:
        client.set_registered_model_alias(bundle.name, alias, version)
    found = client.get_model_version(bundle.name, version)
    return RegisteredWeights(bundle.name, version, found.run_id or None, is_new)


def fetch(name: str, alias: str, tracking_uri: str, target: str | os.PathLike[str]) -> Path:
    """Write the weights that an alias points to into a file, exactly as they were registered.

    Args:
        name: of the bundle.
        alias: such as "champion".
        tracking_uri: of the store or server.
        target: file to write.

    Raises:
        RegistryError: no such model or alias; a file that is not the registered one any more.
    """
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    try:
        version = client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        known = ", ".join(f"{one} (version {number})" for one, number in _aliases(client, name).items())
        raise RegistryError(
            f"the registry has no {name}@{alias}; aliases of {name}: {known or 'none, register weights first'}"
        ) from error
    with tempfile.TemporaryDirectory(prefix="registered_") as folder:
        path = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{client.get_model_version_download_uri(name, version.version)}/{WEIGHTS}",
            dst_path=folder,
            tracking_uri=tracking_uri,
        )
        if file_hash(path) != version.tags.get(TAG_WEIGHTS):
            raise RegistryError(
                f"weights of {name} version {version.version} are not those that were registered: their SHA-256 is "
                f"{file_hash(path)}, the tag says {version.tags.get(TAG_WEIGHTS)}"
            )
        with atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)
    return Path(target)


def load(name: str, alias: str, tracking_uri: str) -> dict[str, torch.Tensor]:
    """The state dict that an alias points to, on the CPU; tensors alone are read."""
    with tempfile.TemporaryDirectory(prefix="registered_") as folder:
        path = fetch(name, alias, tracking_uri, Path(folder, "model.pt"))
        return torch.load(path, map_location="cpu", weights_only=True)


def signature(metadata: Mapping[str, Any]) -> ModelSignature:
    """Inputs and outputs of the network as metadata declare them; -1 for the batch and for axes of free size."""
    return ModelSignature(_schema(declared_inputs(metadata)), _schema(declared_outputs(metadata)))


def _schema(entries: Iterable[Any]) -> Schema:
    tensors = [entry for entry in entries if isinstance(entry, DeclaredTensor)]
    specs = []
    for entry in tensors:
        free = entry.free_axes()
        shape = tuple(-1 if axis in free else size for axis, size in enumerate(entry.shape(1, 1)))
        dtype = np.dtype(str(entry.dtype).removeprefix("torch."))
        specs.append(TensorSpec(dtype, shape, name=entry.name if len(tensors) > 1 else None))
    return Schema(specs)


def _log_model(
    client: mlflow.MlflowClient,
    bundle: HostedBundle,
    network: torch.nn.Module,
    weights: Path,
    run: Run | None,
    tags: Mapping[str, str],
) -> LoggedModel:
    """Upload the exported program with the state dict and metadata beside it, as a model of the training run."""
    experiment_id = run.info.experiment_id if run else experiment_number(client, bundle.name)
    run_id = run.info.run_id if run else None
    with tempfile.TemporaryDirectory(prefix="registered_") as folder:
        state, saved = Path(folder, "model.pt"), Path(folder, "model")
        shutil.copyfile(weights, state)
        logged = client.create_logged_model(experiment_id, name=bundle.name, source_run_id=run_id, tags=dict(tags))
        try:
            mlflow.pytorch.save_model(
                network,
                str(saved),
                mlflow_model=Model(
                    artifact_path=logged.artifact_location,
                    model_uuid=logged.model_id,
                    run_id=run_id,
                    model_id=logged.model_id,
                ),
                signature=signature(bundle.metadata),
                input_example=tuple(example_inputs(bundle.metadata, batch=2, n=2)),
                extra_files=[str(state), str(bundle.root / "configs" / "metadata.json")],
                pip_requirements=[f"torch=={torch.__version__.split('+')[0]}"],
                serialization_format="pt2",
            )
            for program in saved.rglob("*.pt2"):
                remove_source_paths(program)
            client.log_model_artifacts(logged.model_id, str(saved))
        except Exception as error:
            client.finalize_logged_model(logged.model_id, "FAILED")
            if isinstance(error, (MlflowException, OSError)):
                raise
            reason = str(error).strip().splitlines()
            raise RegistryError(
                f"the network of {bundle.name} cannot be exported, which a registered model needs "
                f"({type(error).__name__}: {reason[0] if reason else 'no message'})"
            ) from error
        assert (saved / MLMODEL_FILE_NAME).is_file()
    client.finalize_logged_model(logged.model_id, "READY")
    if run_id:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged


@contextmanager
def _global_store(tracking_uri: str) -> Iterator[None]:
    """A database store looks for logged models in MLflow's global store, whatever store the client is of."""
    before = os.environ.get("MLFLOW_TRACKING_URI")  # MLflow keeps the global store there, too
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _run_of(client: mlflow.MlflowClient, bundle: HostedBundle, digest: str, run_id: str | None) -> Run | None:
    if run_id is None:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        query = f"tags.`{TAG_WEIGHTS}` = '{digest}'"
        runs = client.search_runs(experiments, query, order_by=["attributes.start_time DESC"], max_results=1)
        return runs[0] if runs else None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise RegistryError(f"there is no run {run_id} in this store") from error
    other = run.data.tags.get(TAG_BUNDLE)
    if other != bundle.name:
        raise RegistryError(f"run {run_id} is of bundle {other}, not of {bundle.name}")
    return run


def _version_of(client: mlflow.MlflowClient, name: str, digest: str) -> str | None:
    versions = client.search_model_versions(f"name = '{name}'")
    return next((str(version.version) for version in versions if version.tags.get(TAG_WEIGHTS) == digest), None)


def _data_hashes(run: Run | None) -> dict[str, str]:
    parameters = run.data.params if run else {}
    return {f"clinbundles.{key}": value for key, value in parameters.items() if key.startswith("manifest.")}


def _make_registered_model(client: mlflow.MlflowClient, bundle: HostedBundle) -> None:
    if not client.search_registered_models(f"name = '{bundle.name}'"):
        description = f"{bundle.title}. {bundle.notice}"
        client.create_registered_model(bundle.name, tags={TAG_BUNDLE: bundle.name}, description=description)


def _aliases(client: mlflow.MlflowClient, name: str) -> dict[str, str]:
    found = client.search_registered_models(f"name = '{name}'")
    return dict(found[0].aliases) if found else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code: 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m clinbundles.hosts.model_registry", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    registering = commands.add_parser("register", help="weights become a version of the bundle's model")
    registering.add_argument("bundle", help="name of an installed bundle, or a bundle's folder")
    registering.add_argument("--weights", type=Path, help="default: the weights that the bundle ships")
    registering.add_argument("--alias", help="name that points to the version from now on, such as champion")
    registering.add_argument("--run", help="id of the training run; default: the run that wrote these weights")
    fetching = commands.add_parser("fetch", help="write the weights that an alias points to into a file")
    fetching.add_argument("bundle", help="name of the bundle")
    fetching.add_argument("--alias", required=True)
    fetching.add_argument("--output", type=Path, required=True, help="file to write")
    for command in (registering, fetching):
        command.add_argument(
            "--tracking-uri",
            default=os.environ.get("MLFLOW_TRACKING_URI"),
            help="sqlite:////absolute/mlruns.db or http://host:port (default: $MLFLOW_TRACKING_URI)",
        )
    options = parser.parse_args(arguments)
    if not options.tracking_uri:
        parser.error("say where: --tracking-uri sqlite:////absolute/mlruns.db or http://host:port")
    try:
        if options.command == "register":
            bundle = find_bundle(options.bundle)
            weights = options.weights or bundle.weights
            done = register(bundle, weights, options.tracking_uri, options.alias, options.run)
            state = "registered" if done.is_new else "registered before"
            origin = f"from run {done.run_id}" if done.run_id else "no run of this store has written these weights"
            print(f"{state}: {done.name} version {done.version}, {origin}")
        else:
            print(f"written: {fetch(options.bundle, options.alias, options.tracking_uri, options.output)}")
    except (BundleError, RegistryError, MlflowException, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
