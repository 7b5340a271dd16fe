"""One picture of a folder of images with what the network says of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from clinbundles.data.atomic_file import atomic_path
from clinbundles.data.study_folder import StudyFolder
from dp_equivariant_classification.images.load_image_patch import scaled_patch
from dp_equivariant_classification.images.patch_file import read_patch_file
from dp_equivariant_classification.results.class_results import CAUTION

Picture = tuple[np.ndarray, str, Mapping[str, Any]]
"""(H, W, C) in [0, 1], name, results."""


def gallery_figure(pictures: Sequence[Picture], more: int, columns: int = 6) -> Figure:
    """Images with their class and its probability below.

    Args:
        pictures: image, name and results of each.
        more: images that are not shown.
        columns: images side by side.
    """
    rows = math.ceil(len(pictures) / columns)
    figure = Figure(figsize=(1.5 * columns, 1.85 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes in (places := figure.subplots(rows, columns, squeeze=False).ravel()):
        axes.set_axis_off()
    for axes, (image, name, results) in zip(places, pictures, strict=False):
        axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"{name[-18:]}\n{results['class']}  {100 * float(results['probability']):.0f} %", fontsize=7)
    rest = f"  ({more} more in the table)" if more else ""
    figure.supxlabel(CAUTION + rest, fontsize=7, color="dimgrey")
    return figure


class Gallery:
    """At the end of a run, draw the first images of the folder into ``gallery.png``. Process 0 draws.

    Args:
        studies: the folder; its records hold the results.
        most: at most so many images; 0 draws nothing.
    """

    def __init__(self, studies: StudyFolder, most: int = 24) -> None:
        self.studies = studies
        self.most = most

    def attach(self, engine: Engine) -> None:
        """Register with the engine."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Draw what is finished."""
        if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        pictures: list[Picture] = []
        more = 0
        for case in self.studies.cases if self.most > 0 else []:
            record = self.studies.read_record(case["study"])
            if record is None:
                continue
            if len(pictures) == self.most:
                more += 1
                continue
            name = Path(case["study"]).name
            patch = scaled_patch(read_patch_file(case["image"]), name).transpose(1, 2, 0)
            pictures.append((patch, name, record["results"]))
        if pictures:
            with atomic_path(self.studies.output_dir / "gallery.png") as draft:
                gallery_figure(pictures, more).savefig(draft, dpi=120)
