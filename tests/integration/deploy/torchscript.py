"""The TorchScript file of a bundle, made as users make it."""

from __future__ import annotations

from pathlib import Path

from monai.bundle import ckpt_export


def export(bundle: Path, path: Path) -> Path:
    """`python -m monai.bundle ckpt_export` of a bundle's shipped weights."""
    configs = bundle / "configs"
    ckpt_export(
        bundle_root=str(bundle),
        config_file=str(configs / "inference.yaml"),
        meta_file=str(configs / "metadata.json"),
        ckpt_file=str(bundle / "models" / "model.pt"),
        net_id="network_def",
        filepath=str(path),
    )
    return path
