"""Probabilities of the classes as a row of a table and as a report."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Activationsd, Compose, MapTransform, SaveImaged

from clinbundles.data.atomic_file import write_json
from clinbundles.data.study_dataset import study_name

CAUTION = "Research use only: the network was trained on simulated data."


def names_of(classes: Mapping[str, str] | Sequence[str]) -> list[str]:
    """Names of the classes by number; metadata have them as a mapping from "0", "1", ..."""
    if isinstance(classes, Mapping):
        return [str(classes[str(number)]) for number in range(len(classes))]
    return [str(name) for name in classes]


def column(name: str) -> str:
    """Column of a class in the table."""
    return "p_" + name.replace(" ", "_").replace("-", "_")


class ClassResultsd(MapTransform):
    """Add ``results``: the most probable class, its probability, and the probability of each class.

    Args:
        keys: probabilities (C,).
        classes: names of the classes.

    Raises:
        ValueError: another number of probabilities than of names.
    """

    def __init__(self, keys: str, classes: Mapping[str, str] | Sequence[str]) -> None:
        super().__init__(keys)
        self.names = names_of(classes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the row."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            values = torch.as_tensor(sample[key]).detach().cpu().reshape(-1).tolist()
            if len(values) != len(self.names):
                raise ValueError(
                    f"the network gives {len(values)} probabilities but class_names has {len(self.names)} "
                    f"({', '.join(self.names)}): name every class"
                )
            best = max(range(len(values)), key=values.__getitem__)
            sample["results"] = {
                "class": self.names[best],
                "probability": round(values[best], 6),
                **{column(name): round(value, 6) for name, value in zip(self.names, values, strict=True)},
            }
        return sample


class SaveImageClassReportd(SaveImaged):
    """Write ``OUTPUT_DIR/STUDY/STUDY_report.json``: class, probabilities, and the privacy of the training.

    Hosts that write results themselves leave this step out by its name and class.

    Args:
        output_dir: folder of the results.
        privacy: statement of the weights as a mapping; None where they have none.
        version: of the bundle.
    """

    def __init__(self, output_dir: str | Path, privacy: Mapping[str, Any] | None = None, version: str = "") -> None:
        super().__init__(keys="pred", output_dir=output_dir, print_log=False)
        self.output_dir = Path(output_dir).expanduser()
        self.privacy = privacy
        self.version = version

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write one study."""
        sample = dict(data)
        study = study_name({str(key): value for key, value in sample.items()})
        stem = Path(study).name
        path = self.output_dir / study / f"{stem}_report.json"
        write_json(
            path,
            {
                "study": stem,
                "caution": CAUTION,
                "bundle": f"dp_equivariant_classification {self.version}".strip(),
                "results": sample["results"],
                "privacy_of_training_data": None if self.privacy is None else dict(self.privacy),
            },
        )
        sample["files"] = {"report": str(path)}
        return sample


def postprocessing(
    classes: Mapping[str, str] | Sequence[str],
    output_dir: str | Path | None = None,
    privacy: Mapping[str, Any] | None = None,
    version: str = "",
) -> Compose:
    """Postprocessing of logits ``pred`` (C,): probabilities, the row of the table, the report.

    Args:
        classes: names of the classes.
        output_dir: folder of the results; None writes none.
        privacy, version: see :class:`SaveImageClassReportd`.
    """
    steps: list[Any] = [Activationsd(keys="pred", softmax=True, dim=0), ClassResultsd("pred", classes)]
    if output_dir is not None:
        steps.append(SaveImageClassReportd(output_dir, privacy, version))
    return Compose(steps)
