"""What the app wrote, brought into patient coordinates or taken out of its report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from make_dicom import RAS_TO_LPS


def voxels_of(points_ras: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Voxel indices of points in mm; each must lie on a voxel's centre."""
    voxels = np.c_[points_ras, np.ones(len(points_ras))] @ np.linalg.inv(affine).T
    indices = np.round(voxels[:, :3]).astype(int)
    assert np.abs(voxels[:, :3] - indices).max(initial=0) < 1e-3, "the results lie between the voxels of the input"
    return indices


def onto(array: np.ndarray, affine: np.ndarray, shape: Sequence[int], target: np.ndarray) -> np.ndarray:
    """A volume on the grid of another, voxel centre for voxel centre."""
    indices = np.stack(np.meshgrid(*map(np.arange, array.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    points = np.c_[indices, np.ones(len(indices))] @ affine.T
    there = voxels_of(points[:, :3], target)
    placed = np.full(shape, np.nan)
    placed[tuple(there.T)] = array.ravel()
    assert not np.isnan(placed).any(), "a voxel of the input has no result"
    return placed


def segmentation_on(path: Path, shape: Sequence[int], affine: np.ndarray) -> np.ndarray:
    """A DICOM segmentation as a label map on a grid in RAS mm, by the positions that it states itself."""
    segmentation = pydicom.dcmread(path)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    labels = np.zeros(shape, dtype=np.uint8)
    for frame, group in frames_of(segmentation):
        rows, columns = np.nonzero(frame)
        lps = plane_affine(shared, group)
        points = np.c_[columns, rows, np.zeros(len(rows)), np.ones(len(rows))] @ (RAS_TO_LPS @ lps).T
        indices = voxels_of(points[:, :3], affine)
        labels[tuple(indices.T)] = segment_of(segmentation, group)
    return labels


def picture_labels(path: Path) -> np.ndarray:
    """A DICOM segmentation of one picture as a label map (H, W)."""
    segmentation = pydicom.dcmread(path)
    labels = np.zeros((segmentation.Rows, segmentation.Columns), dtype=np.uint8)
    for frame, group in frames_of(segmentation):
        labels[frame > 0] = segment_of(segmentation, group)
    return labels


def frames_of(segmentation: Any) -> Iterator[tuple[np.ndarray, Any]]:
    """Each frame (rows, columns) with its functional groups."""
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    yield from zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True)


def segment_of(segmentation: Any, group: Any) -> int:
    """Which segment a frame shows: stated for each frame, or for all."""
    holder = group if "SegmentIdentificationSequence" in group else segmentation.SharedFunctionalGroupsSequence[0]
    return int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def plane_affine(shared: Any, group: Any) -> np.ndarray:
    """4x4 (column, row, 0) -> LPS mm of one frame."""
    orientation = np.asarray(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    spacing = np.asarray(shared.PixelMeasuresSequence[0].PixelSpacing, dtype=float)
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * spacing[1]
    affine[:3, 1] = orientation[3:] * spacing[0]
    affine[:3, 2] = np.cross(orientation[:3], orientation[3:])
    affine[:3, 3] = np.asarray(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
    return affine


def read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values and affine."""
    image = nibabel.load(path)
    return np.asarray(image.dataobj), image.affine


def reported(path: Path) -> dict[tuple[str, str], tuple[float, str]]:
    """The numbers of a structured report: (region, name) -> (value, unit)."""
    found = {}
    for container in pydicom.dcmread(path).ContentSequence:
        if container.get("ConceptNameCodeSequence") and container.ConceptNameCodeSequence[0].CodeValue == "126010":
            for group in container.ContentSequence:
                region = group.ContentSequence[0].TextValue
                for item in group.ContentSequence:
                    if item.ValueType == "NUM":
                        measured = item.MeasuredValueSequence[0]
                        unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
                        name = item.ConceptNameCodeSequence[0].CodeMeaning
                        found[region, name] = (float(measured.NumericValue), unit)
    return found
