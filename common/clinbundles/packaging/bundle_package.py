"""From a bundle's folder to `NAME_vVERSION.zip`: copy, JSON twins, exports, checksums, verification, then the file."""

from __future__ import annotations

import filecmp
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from clinbundles.data.atomic_file import atomic_path
from clinbundles.data.content_hash import file_hash
from clinbundles.hosts.hosted_bundle import HostedBundle
from clinbundles.packaging.checksums import write_checksums
from clinbundles.packaging.declared_tensors import DeclaredTensor, declared_inputs, example_inputs, tensors_of
from clinbundles.packaging.json_twins import write_json_twins
from clinbundles.packaging.large_files import LARGEST_FILE, separate_large_files, too_large
from clinbundles.packaging.model_zoo_rules import broken_rules, broken_rules_of_sources
from clinbundles.packaging.onnx_export import NoOnnxError, export_onnx, need_onnx_packages, run_onnx
from clinbundles.packaging.packaging_error import PackagingError
from clinbundles.packaging.torchscript_export import export_torchscript
from clinbundles.packaging.zip_archive import write_zip

# Greatest difference of an export's outputs, relative to the largest value: float32 sums in another order, through
# forty layers and their normalisations, differ by 1e-4.
TOLERANCE = 1e-3
_NOT_PACKED = ("__pycache__", "*.pyc", ".*")


@dataclass(frozen=True)
class Package:
    """What was written.

    Attributes:
        path: the zip.
        sha256: of the zip.
        is_new: False if the same file was there already.
        differences: export ("TorchScript", "ONNX") to the greatest relative difference from the PyTorch network.
        without_onnx: why there is no ONNX file; None if there is one.
        large_files: folder of the files to upload; None if there are none.
    """

    path: Path
    sha256: str
    is_new: bool
    differences: dict[str, float]
    without_onnx: str | None
    large_files: Path | None


def package_bundle(
    bundle: HostedBundle,
    output: Path,
    *,
    large_files_url: str | None = None,
    overwrite: bool = False,
    onnx: bool = True,
    largest_file: int = LARGEST_FILE,
) -> Package:
    """Write a bundle's zip into a folder. Nothing is written before all rules of the Model Zoo hold.

    Args:
        bundle: the bundle; its folder is only read.
        output: folder for `NAME_vVERSION.zip`.
        large_files_url: where files above the limit will be found.
        overwrite: replace another zip of the same version.
        onnx: also write models/model.onnx, where the network has that form.
        largest_file: limit in bytes; the Model Zoo's own unless a test sets another.

    Raises:
        PackagingError: the bundle breaks rules (all are listed), cannot be exported, an export computes something else
            than the network, or another zip of this version is there.
    """
    if onnx:
        need_onnx_packages()
    title = f"{bundle.name}_v{bundle.version}"
    with tempfile.TemporaryDirectory(prefix="package_") as folder:
        root = Path(folder, "staged", bundle.name)
        copy_bundle(bundle.root, root)
        write_json_twins(root / "configs")
        _refuse(root.name, broken_rules_of_sources(root))
        differences, without_onnx = _export(root, "left out as asked" if not onnx else None)
        write_checksums(root)
        large = Path(folder, "large")
        separate_large_files(root, large, too_large(root, largest_file), large_files_url)
        if large.is_dir():  # large_files.yml is new
            _add_checksum_of_list(root, large)
        staged = write_zip(root, Path(folder, f"{title}.zip"))
        _verify(staged, large, Path(folder, "unpacked"))
        is_new = _place(staged, output / staged.name, overwrite)
        beside = _place_large_files(large, output / f"{title}_large_files")
    path = output / f"{title}.zip"
    return Package(path, file_hash(path), is_new, differences, without_onnx, beside)


def copy_bundle(source: Path, target: Path) -> None:
    """Copy a bundle's folder without caches and hidden files.

    Raises:
        PackagingError: a link leads out of the folder, or the weights are missing.
    """
    for path in source.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(source.resolve()):
            raise PackagingError(
                f"{path.relative_to(source)} is a link out of the bundle's folder: copy the file there"
            )
    if not (source / "models" / "model.pt").is_file():
        raise PackagingError(f"{source.name} has no weights, models/model.pt: train it and copy model.pt there")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_NOT_PACKED))


def _export(root: Path, without_onnx: str | None) -> tuple[dict[str, float], str | None]:
    bundle = HostedBundle(root)
    network = bundle.predictor().network  # says clearly if the weights do not fit
    script = torch.jit.load(str(export_torchscript(root)))
    differences = {"TorchScript": _greatest_difference(network, script, bundle.metadata)}
    target = root / "models" / "model.onnx"
    if without_onnx is None:
        try:
            export_onnx(network, bundle.metadata, target)
        except NoOnnxError as error:
            without_onnx = str(error)
    if without_onnx is None:
        names = [entry.name for entry in declared_inputs(bundle.metadata) if isinstance(entry, DeclaredTensor)]

        def by_onnx(*inputs: Any) -> list[torch.Tensor]:
            return run_onnx(target, names, [value for value in inputs if isinstance(value, torch.Tensor)])

        differences["ONNX"] = _greatest_difference(network, by_onnx, bundle.metadata)
    for form, difference in differences.items():
        if not difference <= TOLERANCE:
            raise PackagingError(f"{form} of {root.name} differs from the network by {difference:.1e} of its output")
    return differences, without_onnx


@torch.no_grad()
def _greatest_difference(network: torch.nn.Module, export: Callable[..., Any], metadata: Mapping[str, Any]) -> float:
    """Over batches and sizes that the export was not made with."""
    greatest = 0.0
    for batch, n in ((1, 1), (3, 3)):
        inputs = example_inputs(metadata, batch, n)
        expected, found = tensors_of(network(*inputs)), tensors_of(export(*inputs))
        for one, other in zip(expected, found, strict=True):
            if one.shape != other.shape:
                return float("inf")
            scale = max(float(one.abs().max()), 1e-6)
            greatest = max(greatest, float((one - other).abs().max()) / scale)
    return greatest


def _add_checksum_of_list(root: Path, large: Path) -> None:
    """Sums of all files, those to be downloaded included."""
    with tempfile.TemporaryDirectory(prefix="package_") as folder:
        whole = Path(folder, root.name)
        shutil.copytree(root, whole)
        shutil.copytree(large, whole, dirs_exist_ok=True)
        shutil.copy(write_checksums(whole), root)


def _verify(archive: Path, large: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    root = next(folder.iterdir())
    if large.is_dir():
        shutil.copytree(large, root, dirs_exist_ok=True)
    _refuse(root.name, broken_rules(root))


def _refuse(name: str, problems: list[str]) -> None:
    if problems:
        raise PackagingError(f"{name} cannot be packaged:\n" + "\n".join(f"- {problem}" for problem in problems))


def _place(staged: Path, target: Path, overwrite: bool) -> bool:
    if target.is_file():
        if filecmp.cmp(staged, target, shallow=False):
            return False
        if not overwrite:
            raise PackagingError(
                f"{target} is there already with another content: raise the version in configs/metadata.json, "
                "or replace the file with --overwrite"
            )
    with atomic_path(target) as temporary:
        shutil.copyfile(staged, temporary)
    return True


def _place_large_files(large: Path, target: Path) -> Path | None:
    if not large.is_dir():
        return None
    for path in large.rglob("*"):
        if path.is_file():
            with atomic_path(target / path.relative_to(large)) as temporary:
                shutil.copyfile(path, temporary)
    return target
