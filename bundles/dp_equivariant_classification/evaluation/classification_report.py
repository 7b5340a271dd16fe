"""What an evaluation leaves: scores beside the privacy they were bought with, tables and figures."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from clinbundles.data.atomic_file import atomic_path, write_json
from clinbundles.privacy.steerable.equivariance_error import equivariance_errors
from dp_equivariant_classification.evaluation.calibration import reliability_bins
from dp_equivariant_classification.evaluation.classification_scores import (
    classification_scores,
    confusion_matrix,
    per_class_rows,
)
from dp_equivariant_classification.evaluation.privacy_utility import SCORES_FILE
from dp_equivariant_classification.evaluation.score_figures import (
    confusion_figure,
    equivariance_figure,
    reliability_figure,
)
from dp_equivariant_classification.results.class_results import names_of
from dp_equivariant_classification.results.stated_privacy import in_words

ANGLES = tuple(range(0, 360, 15))
_logger = logging.getLogger("clinbundles")


class ClassificationReport:
    """At the end of an evaluation, write and print its scores, each with epsilon and delta of the weights.

    ``scores.json``, ``per_class.csv``, ``confusion_matrix.png``, ``reliability.png``, ``equivariance.csv`` and
    ``equivariance.png`` (largest change of a logit when images are turned and mirrored) in ``output_dir``.

    Args:
        output_dir: folder for the files.
        classes: names of the classes.
        network: the network, for the equivariance error.
        privacy: statement of the weights as a mapping, or None.
        output_transform: takes the engine's output, gives probabilities and labels of a batch.
        turned_images: at most so many images are turned; 0: none, no figure. Images that are not square are not.
    """

    def __init__(
        self,
        output_dir: str | Path,
        classes: Mapping[str, str] | Sequence[str],
        network: torch.nn.Module,
        privacy: Mapping[str, Any] | None,
        output_transform: Callable[[Any], tuple[Sequence[Any], Sequence[Any]]],
        turned_images: int = 64,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.names = names_of(classes)
        self.network = network
        self.privacy = privacy
        self.output_transform = output_transform
        self.turned_images = turned_images
        self._probabilities: list[NDArray] = []
        self._labels: list[int] = []
        self._images: list[torch.Tensor] = []

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self)

    def _clear(self, engine: Engine) -> None:
        self._probabilities, self._labels, self._images = [], [], []

    def _collect(self, engine: Engine) -> None:
        predictions, labels = self.output_transform(engine.state.output)
        self._probabilities += [
            np.asarray(torch.as_tensor(one).detach().cpu(), float).reshape(-1) for one in predictions
        ]
        self._labels += [int(label) for label in labels]
        missing = self.turned_images - sum(len(images) for images in self._images)
        if missing > 0:
            images = [torch.as_tensor(sample["image"]) for sample in engine.state.batch[:missing]]
            self._images.append(torch.stack(images).as_subclass(torch.Tensor))

    def __call__(self, engine: Engine) -> None:
        """Write and print."""
        probabilities, labels = np.stack(self._probabilities), np.asarray(self._labels)
        scores = classification_scores(probabilities, labels)
        privacy = self.privacy
        promise = in_words(privacy)
        title = f"{type(self.network).__name__}, {len(labels)} images\n{promise}"
        rows = per_class_rows(probabilities, labels, self.names)
        _write_table(self.output_dir / "per_class.csv", rows)
        self._save("reliability.png", reliability_figure(reliability_bins(probabilities, labels), scores["ece"], title))
        self._save("confusion_matrix.png", confusion_figure(confusion_matrix(probabilities, labels), self.names, title))
        equivariance = self._equivariance(title)
        write_json(
            self.output_dir / SCORES_FILE,
            {
                "network": network_name(self.network),
                "parameters": sum(p.numel() for p in self.network.parameters()),
                "images": len(labels),
                "scores": {name: _plain(value) for name, value in scores.items()},
                "largest_logit_change_under_quarter_turns": equivariance,
                "privacy": None if privacy is None else dict(privacy),
                "classes": rows,
            },
        )
        for name, value in scores.items():
            _logger.info("%s %.4f  (%s)", name.replace("_", " "), value, promise)
        for row in rows:
            _logger.info("  %s", "  ".join(f"{key} {value}" for key, value in row.items()))
        if equivariance is not None:
            _logger.info("largest change of a logit under quarter turns and mirroring: %.2g", equivariance)

    @torch.no_grad()
    def _equivariance(self, title: str) -> float | None:
        if not self._images:
            return None
        images = torch.cat(self._images)
        if images.shape[-1] != images.shape[-2]:
            return None
        plain = equivariance_errors(self.network, images, ANGLES)
        mirrored = equivariance_errors(self.network, images, ANGLES, mirrored=True)
        rows = [{"angle_degrees": angle, "turned": plain[angle], "mirrored": mirrored[angle]} for angle in plain]
        _write_table(self.output_dir / "equivariance.csv", rows)
        scale = float(self.network(images).std(dim=0).mean()) if len(images) > 1 else float("nan")
        figure = equivariance_figure(list(plain), list(plain.values()), list(mirrored.values()), scale, title)
        self._save("equivariance.png", figure)
        return max(max(plain[angle], mirrored[angle]) for angle in plain if angle % 90 == 0)

    def _save(self, name: str, figure: Any) -> None:
        with atomic_path(self.output_dir / name) as draft:
            figure.savefig(draft, dpi=130)


def network_name(network: torch.nn.Module) -> str:
    """Class of a network and its number of parameters."""
    return f"{type(network).__name__} ({sum(p.numel() for p in network.parameters()):,} parameters)"


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with atomic_path(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
