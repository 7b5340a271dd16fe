"""A bundle as a host sees it: what it takes, what it gives and where its parts are, read from its metadata alone."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinbundles.dicom.dicom_description import (
    LONGEST_LABEL,
    Algorithm,
    CodedTerm,
    DicomDescription,
    Segment,
    read_dicom_description,
)

if TYPE_CHECKING:
    from clinbundles.hosts.bundle_predictor import BundlePredictor

KINDS = ("label_map", "classification", "files")
NOTICE = "Research use only: the network was trained on simulated data."
_METADATA = Path("configs", "metadata.json")
_DICOM = Path("configs", "dicom.yaml")
_STRUCTURE = CodedTerm("SCT", "123037004", "Anatomical structure")  # for labels that a bundle does not code
_ARTIFICIAL_INTELLIGENCE = CodedTerm("DCM", "123110", "Artificial Intelligence")
_NAME = re.compile(r"[A-Za-z]\w*")


class BundleError(ValueError):
    """A bundle that is not there, or that cannot be used by a host."""


class HostedBundle:
    """A bundle's folder, read-only. Nothing is loaded before it is asked for.

    Args:
        root: folder of the bundle.

    Raises:
        BundleError: the folder is no bundle; says what is missing.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).expanduser().resolve()
        if not (self.root / _METADATA).is_file():
            raise BundleError(f"{self.root} is no bundle: it has no {_METADATA.as_posix()}")
        self.name = self.root.name

    def __repr__(self) -> str:
        return f"HostedBundle({self.name!r})"

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of metadata.json."""
        path = self.root / _METADATA
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["network_data_format"]["inputs"], content["network_data_format"]["outputs"]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise BundleError(
                f"bundle {self.name}: {_METADATA.as_posix()} must be JSON with network_data_format#inputs and #outputs "
                f"({type(error).__name__}: {error})"
            ) from error
        return content

    @property
    def version(self) -> str:
        """Version of the bundle."""
        return str(self.metadata.get("version", ""))

    @property
    def title(self) -> str:
        """What the bundle is called in a list."""
        return str(self.metadata.get("name") or self.name)

    @property
    def notice(self) -> str:
        """What a user must know of every result."""
        return NOTICE

    @property
    def kind(self) -> str:
        """What the result is: "label_map", "classification" (named probabilities) or "files" (other images)."""
        result = self._result
        if result.get("type") == "probabilities":
            return "classification"
        return "label_map" if result.get("format") in ("labels", "segmentation") else "files"

    @property
    def label_names(self) -> dict[int, str]:
        """Number to name of each label (without the background of a label map) or class."""
        names = {int(number): str(name) for number, name in self._result.get("channel_def", {}).items()}
        if self.kind == "label_map":
            names = {number: name for number, name in names.items() if number and name.lower() != "background"}
        return dict(sorted(names.items()))

    @property
    def image_axes(self) -> int:
        """Number of spatial axes of the network's first input."""
        first = next(iter(self.metadata["network_data_format"]["inputs"].values()))
        return len(first["spatial_shape"])

    @property
    def inputs(self) -> list[str]:
        """Names of the network's inputs in the order of its arguments; the first is the image."""
        return list(self.metadata["network_data_format"]["inputs"])

    @property
    def takes_exam(self) -> bool:
        """Whether one study is all images of an examination (``study: exam`` of configs/dicom.yaml), not one image."""
        return self.dicom.study == "exam"

    @property
    def takes_raw_data(self) -> bool:
        """Whether it takes raw data of a scanner (``study: raw``), which hosts of images do not have."""
        return self.dicom.study == "raw"

    def refuse_raw_data(self, host: str) -> None:
        """Stop a host that has images alone before a bundle that takes raw data.

        Args:
            host: its name, and what it hands over, such as "MONAI Deploy hands over DICOM images".

        Raises:
            BundleError: the bundle takes raw data; says where it can be used.
        """
        if self.takes_raw_data:
            raise BundleError(
                f"{self.name} takes raw data of a scanner, and {host}: use its command line, python -m monai.bundle run"
            )

    @property
    def weights(self) -> Path:
        """The shipped weights."""
        return self.root / "models" / "model.pt"

    @cached_property
    def dicom(self) -> DicomDescription:
        """What configs/dicom.yaml says: rules for series, coded segments; nothing if the bundle has none."""
        path = self.root / _DICOM
        return read_dicom_description(path) if path.is_file() else DicomDescription()

    @property
    def series_rules(self) -> dict[str, str]:
        """DICOM attribute to regular expression: which series the bundle takes; empty: any."""
        return self.dicom.series

    @property
    def segments(self) -> dict[int, Segment]:
        """Every label as the bundle codes it for DICOM SEG; one without a code is a structure of its name."""
        named = {
            number: Segment(name[:LONGEST_LABEL], _STRUCTURE, _STRUCTURE) for number, name in self.label_names.items()
        }
        return dict(sorted({**named, **self.dicom.segments}.items()))

    @property
    def algorithm(self) -> Algorithm:
        """The bundle as DICOM names an algorithm."""
        if self.dicom.algorithm_name is None:
            return Algorithm(self.name[:LONGEST_LABEL], self.version, _ARTIFICIAL_INTELLIGENCE)
        return self.dicom.algorithm(self.version)

    def config(self, name: str) -> Path:
        """A config file: YAML in the source tree, JSON in a packaged bundle.

        Raises:
            BundleError: neither is there.
        """
        for ending in (".yaml", ".yml", ".json"):
            path = self.root / "configs" / f"{name}{ending}"
            if path.is_file():
                return path
        raise BundleError(f"bundle {self.name} has no configs/{name}.yaml")

    def has_config(self, name: str) -> bool:
        """Whether a config file of that name exists."""
        return any((self.root / "configs" / f"{name}{ending}").is_file() for ending in (".yaml", ".yml", ".json"))

    @property
    def training_configs(self) -> list[Path]:
        """Configs that train on pairs of image and label: train, and finetune over it where the bundle has one.

        A bundle whose train.yaml takes something else than images with labels (simulated anatomy, say) has a
        finetune.yaml.

        Raises:
            BundleError: the bundle cannot be trained.
        """
        if not self.has_config("train"):
            raise BundleError(f"bundle {self.name} cannot be trained: it has no configs/train.yaml")
        return [self.config(name) for name in ("train", "finetune") if self.has_config(name)]

    @property
    def can_train(self) -> bool:
        """Whether corrected labels of images can train it."""
        return self.kind == "label_map" and self.has_config("train")

    def predictor(
        self, device: str = "cpu", weights: str | os.PathLike[str] | None = None, **settings: Any
    ) -> BundlePredictor:
        """The command line's inference of one study in this process; see :class:`BundlePredictor`."""
        from clinbundles.hosts.bundle_predictor import BundlePredictor

        return BundlePredictor(self, device=device, weights=weights, **settings)

    @property
    def _result(self) -> Mapping[str, Any]:
        formats = self.metadata["network_data_format"]
        results = formats.get("post_processed_outputs") or {}
        outputs = formats["outputs"]
        return results.get("pred") or outputs.get("pred") or next(iter(outputs.values()))


def find_bundle(name_or_folder: str | os.PathLike[str]) -> HostedBundle:
    """A bundle by its name, if it is installed, or by its folder.

    Raises:
        BundleError: there is none; names those that there are.
    """
    text = os.fspath(name_or_folder)
    known = installed_bundles()
    if text in known:
        return HostedBundle(known[text])
    if Path(text).expanduser().is_dir():
        return HostedBundle(text)
    close = difflib.get_close_matches(Path(text).name, known, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    raise BundleError(
        f"there is no bundle {text!r}. {hint}"
        f"Give the folder of a bundle or one of: {', '.join(known) or 'none installed'}"
    )


def installed_bundles() -> dict[str, Path]:
    """Name to folder of every bundle on Python's path, sorted by name."""
    found: dict[str, Path] = {}
    for entry in sys.path:
        for file in Path(entry or ".").glob(f"*/{_METADATA.as_posix()}"):
            root = file.parent.parent
            if _NAME.fullmatch(root.name) and (root / "__init__.py").is_file():
                found.setdefault(root.name, root)
    return dict(sorted(found.items()))
