"""Series in all the forms in which scanners write them, made from arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from make_dicom import RAS_TO_LPS, SECRETS, header, save, set_pixels
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage

from clinbundles.dicom import SeriesError


def decimal(value: float) -> str:
    return f"{value:.12f}"[:16]


def write_enhanced(
    path: Path, volume: np.ndarray, affine: np.ndarray, order: Sequence[int], slopes: Sequence[float] | None = None
) -> Path:
    """One enhanced multi-frame file of (I, J, K) integers; frame n holds slice order[n], whose values it scales."""
    lps = RAS_TO_LPS @ affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    directions = lps[:3, :3] / lengths
    image = header(EnhancedMRImageStorage)
    image.FrameOfReferenceUID = "1.2.3.4.99"
    set_pixels(image, volume[:, :, 0].T)
    image.NumberOfFrames = len(order)
    image.PixelData = np.ascontiguousarray(volume[:, :, list(order)].transpose(2, 1, 0)).tobytes()
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [decimal(lengths[1]), decimal(lengths[0])], decimal(lengths[2])
    orientation.ImageOrientationPatient = [decimal(value) for value in directions[:, :2].T.ravel()]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = []
    for k in order:
        group, position, transformation = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [decimal(value) for value in lps[:3, 3] + k * lps[:3, 2]]
        group.PlanePositionSequence = [position]
        if slopes is not None:
            transformation.RescaleSlope, transformation.RescaleIntercept = slopes[k], -3.0 * k
            group.PixelValueTransformationSequence = [transformation]
        image.PerFrameFunctionalGroupsSequence.append(group)
    return save(image, path)


def change(path: Path, edit: Callable[[Any], object]) -> Path:
    """Change the header of a file."""
    image = pydicom.dcmread(path)
    edit(image)
    image.save_as(path)
    return path


def in_patient_coordinates(
    image: np.ndarray, affine: np.ndarray, onto: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """The values of ``image`` at the voxels of another grid; every one must fall on a voxel."""
    voxels = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    points = np.c_[voxels, np.ones(len(voxels))] @ (np.linalg.inv(affine) @ onto).T
    nearest = np.round(points[:, :3]).astype(int)
    assert np.abs(points[:, :3] - nearest).max() < 2e-3
    assert (nearest.min(axis=0) == 0).all()
    assert (nearest.max(axis=0) == np.asarray(image.shape) - 1).all()
    return image[tuple(nearest.T)].reshape(shape)


def refused(action: Callable[[], object], message: str, folder: Path | None = None) -> None:
    """The action raises a SeriesError with this message, which tells nothing of the patient."""
    with pytest.raises(SeriesError, match=message) as error:
        action()
    assert not [secret for secret in SECRETS if secret in str(error.value)]
    assert folder is None or str(folder) not in str(error.value)
