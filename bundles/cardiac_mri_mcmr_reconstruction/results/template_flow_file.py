"""The motion of a cine as a NIfTI vector image, and back into pixels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from clinbundles.data.atomic_file import atomic_path
from clinbundles.motion.displacement_file import NIFTI_INTENT_VECTOR

CONVENTION = "frame_t(p + v_t(p)) ~ template(p); the template lies amid all frames: the mean of v over t is about zero"
_COMMENT = 6  # NIfTI's code of an extension that holds text


def write_template_flow(
    path: str | Path,
    template_flow: NDArray[np.floating],
    affine: NDArray[np.floating],
    frame_ms: float = math.nan,
    spacing_known: bool = True,
) -> None:
    """Write flows as (X, Y, 1, T, 3) float32: displacements in mm along the axes of scanner space (RAS), intent vector.

    Units, convention and frame time also stand in the header's extension, as JSON text.

    Args:
        path: of the file (.nii, .nii.gz); complete or not there.
        template_flow: (T, 2, X, Y) pixels, component 0 along X, 1 along Y, template -> frame.
        affine: (4, 4), pixel (x, y, 0) -> RAS mm.
        frame_ms: time between frames, NaN where unknown.
        spacing_known: False: the affine's mm are pixels.
    """
    flow, matrix = np.asarray(template_flow, np.float64), np.asarray(affine, np.float64).reshape(4, 4)
    # w axis of scanner space, c component of the flow
    world = np.einsum("wc,tcxy->xytw", matrix[:3, :2], flow).astype(np.float32)[:, :, None]
    image = nibabel.Nifti1Image(world, matrix)
    timed = math.isfinite(frame_ms) and frame_ms > 0
    unit = "mm" if spacing_known else "pixel"
    image.header.set_intent(NIFTI_INTENT_VECTOR, name=f"{unit} RAS template"[:15])
    image.header["pixdim"][4] = frame_ms if timed else 0
    image.header.set_xyzt_units("mm" if spacing_known else "unknown", "msec" if timed else "unknown")
    image.header["descrip"] = f"displacement template to frame, {unit}, RAS".encode()
    about: dict[str, Any] = {
        "what": "displacements from the template to every frame",
        "convention": CONVENTION,
        "units": unit,
        "axes": "X, Y, 1, T, component (R, A, S)",
        "frame_ms": frame_ms if timed else None,
    }
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(_COMMENT, json.dumps(about).encode()))
    image.set_qform(matrix, code=1)
    image.set_sform(matrix, code=1)
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


def read_template_flow(path: str | Path) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Flows (T, 2, X, Y) in pixels, and what the file says of itself.

    Raises:
        ValueError: a file of another kind.
    """
    image = nibabel.load(path)
    texts = [extension.get_content() for extension in image.header.extensions if extension.get_code() == _COMMENT]
    if len(image.shape) != 5 or image.shape[2] != 1 or image.shape[4] != 3 or not texts:
        raise ValueError(
            f"{Path(path).name} has the shape {image.shape} and {len(texts)} comments: expected the displacements "
            "(X, Y, 1, T, 3) that write_template_flow writes"
        )
    world = np.asarray(image.dataobj, dtype=np.float64)[:, :, 0]
    to_pixels = np.linalg.pinv(image.affine[:3, :2])
    text = texts[0].decode() if isinstance(texts[0], bytes) else str(texts[0])
    return np.einsum("cw,xytw->tcxy", to_pixels, world).astype(np.float32), json.loads(text.rstrip("\0 "))
