"""The real bundles with their settings for tests, and small simulated images for each."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clinbundles.data import datalist

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(file.parent.parent.name for file in (ROOT / "bundles").glob("*/configs/metadata.json"))


def bundle_settings(name: str) -> dict[str, Any]:
    """The settings of tests/bundles/NAME/conformity.yaml, manifests with their folder."""
    folder = ROOT / "tests" / "bundles" / name
    settings = yaml.safe_load((folder / "conformity.yaml").read_text(encoding="utf-8"))
    for part in ("train", "inference_input"):
        for key, value in settings[part].items():
            if value in settings["manifests"]:
                settings[part][key] = str(folder / value)
    return settings


def bundle_images(name: str, folder: Path, simulated: Path) -> list[Path]:
    """Small simulated images for inference with a real bundle, copied into ``folder``: a file or a folder each."""
    chosen = bundle_settings(name)["inference_input"]
    folder.mkdir(parents=True, exist_ok=True)
    return [
        copy_input(case, chosen["key"], folder / f"case_{case['case']}")
        for case in datalist(chosen["manifest"], simulated, chosen["split"], progress=False)
    ]


def copy_input(case: Mapping[str, Any], key: str | Sequence[str], target: Path) -> Path:
    """Copy what one study of inference is: the file of a key, or for several keys a folder with all of their files."""
    if isinstance(key, str):
        source = Path(case[key])
        return Path(shutil.copy(source, target.with_name(target.name + "".join(source.suffixes))))
    target.mkdir(parents=True)
    for name in key:
        if name in case:
            shutil.copy(case[name], target)
    return target
