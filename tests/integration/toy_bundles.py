"""Toy bundles for the tests of the hosts: one of each kind of result, of MONAI's own parts, with known weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch
from make_dicom import OBLIQUE
from monai.networks.nets.attentionunet import AttentionBlock

FOLDER = Path(__file__).with_name("toy_bundles")
KINDS = {
    "toy_volume_labels": "label_map",
    "toy_slice_labels": "label_map",
    "toy_detection_labels": "label_map",  # hosts have taken "detection" in a name for object detection
    "toy_cine_labels": "label_map",
    "toy_classification": "classification",
    "toy_enhancement": "files",
    "toy_exam": "files",  # of two images a study, for a network of two inputs
}
EXAM = {"long_axis": (16, 16, 1), "short_axis": (16, 16, 4)}
"""Images of an exam that toy_exam takes: name and shape."""


def weights(name: str) -> dict[str, torch.Tensor]:
    """State dict that makes a toy do what its config says."""
    if name == "toy_classification":  # by mean brightness: below 0.33, between, above 0.67
        return {"2.weight": torch.tensor([[0.0], [30.0], [60.0]]), "2.bias": torch.tensor([0.0, -10.0, -30.0])}
    if name == "toy_exam":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return AttentionBlock(spatial_dims=3, f_int=2, f_g=1, f_l=1).state_dict()
    if name in ("toy_cine_labels", "toy_enhancement"):
        return {"weight": torch.ones(1), "bias": torch.zeros(1)}
    ones = [1] * (2 if name == "toy_slice_labels" else 3)
    return {"weight": torch.tensor([-10.0, 10.0]).reshape(2, 1, *ones), "bias": torch.tensor([5.0, -5.0])}


def make_toy_bundle(name: str, folder: Path) -> Path:
    """Copy a toy bundle with its weights into ``folder``; returns its root."""
    source = "toy_volume_labels" if name == "toy_detection_labels" else name
    root = folder / name
    shutil.copytree(FOLDER / source, root)
    (root / "models").mkdir()
    torch.save(weights(name), root / "models" / "model.pt")
    return root


def blob(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """An image of 0 to 100 with a bright ellipsoid off the centre and noise, unlike its own mirror images; float32."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    centre = rng.uniform(-0.35, 0.35, len(shape)) + 0.1
    radius = rng.uniform(0.4, 0.6, len(shape))
    inside = sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radius, strict=True)) < 1
    return np.clip(np.where(inside, 75.0, 25.0) + rng.normal(0, 12, shape), 0, 100).astype(np.float32)


def write_volume(path: Path, shape: Sequence[int] = (24, 20, 8), seed: int = 0, affine: np.ndarray = OBLIQUE) -> Path:
    """Write such an image of whole numbers as NIfTI; oblique unless told otherwise."""
    image = nibabel.Nifti1Image(np.round(blob(shape, seed)).astype(np.int16), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def write_exam(folder: Path, seed: int = 0) -> Path:
    """Write the images of an exam for toy_exam into a folder; returns it."""
    for number, (name, shape) in enumerate(EXAM.items()):
        write_volume(folder / f"{name}.nii.gz", shape, 10 * seed + number)
    return folder


def bright_labels(array: np.ndarray) -> np.ndarray:
    """What toy_volume_labels and toy_slice_labels must find, by the definition in their configs."""
    return (array > 50).astype(np.uint8)


def write_pairs(folder: Path, cases: int, shape: Sequence[int] = (16, 16, 4), first_seed: int = 0) -> Path:
    """A folder of volumes with labels for the training of toy_volume_labels."""
    for seed in range(first_seed, first_seed + cases):
        path = write_volume(folder / "image" / f"P{seed:03d}.nii.gz", shape, seed)
        image = nibabel.load(path)
        label = nibabel.Nifti1Image(bright_labels(np.asarray(image.dataobj)), image.affine)
        (folder / "label").mkdir(exist_ok=True)
        nibabel.save(label, folder / "label" / path.name)
    return folder


def rename(root: Path, **metadata: object) -> None:
    """Change entries of a toy's metadata."""
    path = root / "configs" / "metadata.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content.update(metadata)
    path.write_text(json.dumps(content), encoding="utf-8")
