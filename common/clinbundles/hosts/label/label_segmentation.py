"""A DICOM SEG read back as a label map on the grid of its series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from pydicom import Dataset, dcmread

from clinbundles.dicom import read_series


def labels_of_segmentation(segmentation: Dataset, files: Sequence[Path], names: Mapping[int, str]) -> np.ndarray:
    """The label map (I, J, K) of a DICOM SEG on the grid of the series with these files.

    A segment is the label that has its name, else the label that has its number.

    Raises:
        ValueError: a segment that is neither, segments that overlap, or a segmentation of other images.
    """
    found = highdicom.seg.Segmentation.from_dataset(segmentation)
    by_name = {name.lower(): number for number, name in names.items()}
    label_of: dict[int, int] = {}
    for segment in found.SegmentSequence:
        number, label = int(segment.SegmentNumber), str(segment.SegmentLabel)
        known = by_name.get(label.lower(), number if number in names else None)
        if known is None:
            raise ValueError(f"its segment '{label}' is none of the labels {', '.join(names.values())}")
        label_of[number] = known
    source = read_series(files)
    instances = _instances(source)
    planes = found.get_pixels_by_source_instance(
        instances, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    numbers = np.zeros(max(label_of) + 1, dtype=np.uint8)
    numbers[list(label_of)] = list(label_of.values())
    labels: np.ndarray = numbers[planes].transpose(2, 1, 0)  # (K, J, I) -> (I, J, K)
    if labels.shape != tuple(source.shape[1:]):
        raise ValueError(f"it has {labels.shape} voxels, its series {tuple(source.shape[1:])}")
    return np.ascontiguousarray(labels)


def _instances(source: Any) -> list[str]:
    """UIDs of the instances of a series in the order of its slices."""
    in_order = str(source.meta["dicom_files"]).splitlines()
    if len(in_order) < source.shape[3]:
        raise ValueError("its series is one file of several frames: only series of one file per slice are read back")
    return [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in in_order]
