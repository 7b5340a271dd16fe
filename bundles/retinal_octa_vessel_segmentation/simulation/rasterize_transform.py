"""Dictionary transforms from stored vessel graphs to exactly rasterised images and labels of random windows."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from retinal_octa_vessel_segmentation.networks import TRAINING_PIXEL_MM
from retinal_octa_vessel_segmentation.simulation.vessel_graph import VesselGraph
from retinal_octa_vessel_segmentation.simulation.vessel_rasterizer import (
    LARGER_VESSEL_RADIUS_MM,
    paint_coverage_and_width,
)


class LoadVesselGraphd(MapTransform):
    """Read the CSV vessel graphs under ``keys`` into :class:`VesselGraph` objects."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = VesselGraph.read_csv(sample[key])
        return sample


def rasterize_window(
    graph: VesselGraph,
    shape: tuple[int, int],
    centre: Sequence[float] = (0.5, 0.5),
    pixel_mm: float = TRAINING_PIXEL_MM,
    turn: np.ndarray | None = None,
    min_radius_mm: float = 0.0,
    larger_radius_mm: float = LARGER_VESSEL_RADIUS_MM,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a window of a graph without interpolation: the segments are moved, then rasterised.

    Args:
        graph: the vessels.
        shape: (H, W) of the window in pixels.
        centre: centre of the window in units of the field.
        pixel_mm: side of a pixel in mm.
        turn: (2, 2) rotation or reflection of the field around the centre; None keeps it.
        min_radius_mm: least radius of a labelled vessel ("label detail"); thinner ones stay in the image.
        larger_radius_mm: least radius of a "larger vessel".

    Returns:
        Coverage (1, H, W) in [0, 1], and label (2, H, W) of 0 and 1: any vessel, larger vessel.
    """
    turn = np.eye(2) if turn is None else turn
    scale = graph.field_mm / pixel_mm
    middle = np.asarray(shape, float) / 2
    start = (graph.start[:, :2] - centre) @ turn.T * scale + middle
    end = (graph.end[:, :2] - centre) @ turn.T * scale + middle
    radius = graph.radius * scale
    coverage, widest = paint_coverage_and_width(start, end, radius, shape)
    widest_mm = widest * pixel_mm
    label = np.stack([widest_mm > max(min_radius_mm - 1e-7, 0.0), widest_mm >= larger_radius_mm - 1e-7])
    return torch.from_numpy(coverage)[None], torch.from_numpy(label.astype(np.float32))


class RasterizeVesselsd(MapTransform):
    """Rasterise the whole field: writes ``image`` (1, H, W) and ``label`` (2, H, W); for validation.

    Args:
        keys: the key of the graph.
        image_key, label_key: where coverage and label go.
        background_key: a second graph, drawn alike and without label, if the sample has it; None draws none.
        pixel_mm: side of a pixel in mm; the image is cut to a multiple of 16 pixels.
        min_radius_mm, larger_radius_mm: see :func:`rasterize_window`.
    """

    def __init__(
        self,
        keys: KeysCollection = "graph",
        image_key: str = "image",
        label_key: str = "label",
        background_key: str | None = "background",
        pixel_mm: float = TRAINING_PIXEL_MM,
        min_radius_mm: float = 0.0,
        larger_radius_mm: float = LARGER_VESSEL_RADIUS_MM,
    ) -> None:
        super().__init__(keys)
        self.image_key, self.label_key, self.background_key = image_key, label_key, background_key
        self.pixel_mm = pixel_mm
        self.min_radius_mm, self.larger_radius_mm = min_radius_mm, larger_radius_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        graph = sample.pop(self.first_key(sample))
        side = round(graph.field_mm / self.pixel_mm) // 16 * 16
        sample[self.image_key], sample[self.label_key] = rasterize_window(
            graph,
            (side, side),
            pixel_mm=self.pixel_mm,
            min_radius_mm=self.min_radius_mm,
            larger_radius_mm=self.larger_radius_mm,
        )
        if self.background_key in sample:
            background = sample[self.background_key]
            sample[self.background_key], _ = rasterize_window(background, (side, side), pixel_mm=self.pixel_mm)
        return sample


class RandRasterizeVesselsd(RandomizableTransform, RasterizeVesselsd):
    """Rasterise a random window: random place, quarter turns, flips, a small rotation and a small zoom, all exact.

    Before drawing, vessel dropout (K24) removes every segment with probability ``dropout * u**10``, u ~ U(0, 1) per
    image, together with all it feeds, from image and label alike.

    Args:
        window: (H, W) in pixels.
        rotation_deg: greatest rotation either way (K24: 10) on top of the eight symmetries of the square.
        zoom: range of the factor on the pixel size, drawn log-uniformly.
        dropout: greatest probability of vessel dropout (K24: 0.02).
        keys, image_key, label_key, background_key, pixel_mm, min_radius_mm, larger_radius_mm: see the base class.
    """

    def __init__(
        self,
        keys: KeysCollection = "graph",
        window: Sequence[int] = (160, 160),
        rotation_deg: float = 10.0,
        zoom: Sequence[float] = (0.9, 1.1),
        dropout: float = 0.02,
        **rasterize: Any,
    ) -> None:
        RasterizeVesselsd.__init__(self, keys, **rasterize)
        RandomizableTransform.__init__(self, prob=1.0)
        self.window = (int(window[0]), int(window[1]))
        self.rotation_deg, self.zoom, self.dropout = rotation_deg, tuple(zoom), dropout

    def _draw_placement(self, field_mm: float) -> dict[str, Any]:
        angle = math.radians(self.R.uniform(-self.rotation_deg, self.rotation_deg)) + self.R.randint(4) * math.pi / 2
        flip = 1.0 if self.R.randint(2) else -1.0
        turn = np.array([[math.cos(angle), -math.sin(angle) * flip], [math.sin(angle), math.cos(angle) * flip]])
        pixel_mm = self.pixel_mm * math.exp(self.R.uniform(math.log(self.zoom[0]), math.log(self.zoom[1])))
        tilt = math.radians(self.rotation_deg)
        margin = 0.5 * max(self.window) * pixel_mm / field_mm * (math.cos(tilt) + math.sin(tilt))
        low, high = min(margin, 0.5), max(1 - margin, 0.5)
        return {"centre": self.R.uniform(low, high, 2), "turn": turn, "pixel_mm": pixel_mm}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        graph = sample.pop(self.first_key(sample))
        graph = drop_vessels(graph, self.dropout * self.R.uniform() ** 10, self.R)
        sample[self.image_key], sample[self.label_key] = rasterize_window(
            graph,
            self.window,
            **self._draw_placement(graph.field_mm),
            min_radius_mm=self.min_radius_mm,
            larger_radius_mm=self.larger_radius_mm,
        )
        if self.background_key in sample:
            background = sample[self.background_key]
            sample[self.background_key], _ = rasterize_window(
                background, self.window, **self._draw_placement(background.field_mm)
            )
        return sample


def drop_vessels(graph: VesselGraph, probability: float, random: np.random.RandomState) -> VesselGraph:
    """The graph after every segment was cut with this probability; whatever a cut segment feeds is lost too (K24)."""
    cut = random.uniform(size=len(graph)) < probability
    return graph.select(~graph.downstream_of(cut)) if cut.any() else graph
