"""Displacement fields as NIfTI vector images in scanner space."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import torch

from clinbundles.data.atomic_file import atomic_path
from clinbundles.motion.displacement_field import DisplacementField
from clinbundles.motion.motion_grid import grid_affine

NIFTI_INTENT_VECTOR = 1007


def displacement_image(
    field: DisplacementField, frame_to_world: np.ndarray, frame_time_s: float = 0.0
) -> nibabel.Nifti1Image:
    """A field as NIfTI: (I, J, K, T, 3) float32, mm along the axes of scanner space (RAS), intent code 1007 (vector).

    Args:
        field: of T frames, in the exam frame.
        frame_to_world: (4, 4) rigid, exam frame -> scanner mm (RAS); it turns the vectors too.
        frame_time_s: seconds between frames; 0 if not known.
    """
    frame_to_world = np.asarray(frame_to_world, dtype=np.float64)
    vectors = np.asarray(torch.as_tensor(field.vectors).detach().cpu(), dtype=np.float64)
    # t frame, c component of the exam frame, w component of scanner space
    world = np.einsum("wc,tcijk->ijktw", frame_to_world[:3, :3], vectors).astype(np.float32)
    affine = frame_to_world @ grid_affine(vectors.shape[2:], field.spacing_mm).numpy()
    image = nibabel.Nifti1Image(world, affine)
    image.header.set_intent(NIFTI_INTENT_VECTOR, name=f"mm RAS on {field.domain}")
    image.header.set_xyzt_units("mm", "sec")
    zooms = list(image.header.get_zooms())
    zooms[3] = float(frame_time_s)
    image.header.set_zooms(zooms)
    image.header["descrip"] = f"displacement in mm, RAS, domain {field.domain}".encode()
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    return image


def write_displacement(
    path: Path, field: DisplacementField, frame_to_world: np.ndarray, frame_time_s: float = 0.0
) -> None:
    """Write a field with :func:`displacement_image`."""
    with atomic_path(path) as temporary:
        nibabel.save(displacement_image(field, frame_to_world, frame_time_s), temporary)
