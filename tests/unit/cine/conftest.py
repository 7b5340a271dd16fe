"""A small simulated exam that tests copy and damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from clinbundles.cine import LAX_VIEWS
from clinbundles.phantoms.heart.simulated_exam import simulate_heart_exam

Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="session")
def exam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case of 4 frames as the simulator writes it."""
    folder = tmp_path_factory.mktemp("exam")
    simulate_heart_exam(folder, 2000, frames=4, shift_mm=2.0)
    return folder


class Exam:
    """A copy of the case whose files can be changed one by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def images(self) -> list[str]:
        """The images that are there, in any order."""
        return [str(file) for file in sorted(self.folder.glob("*.nii.gz")) if "label" not in file.name]

    @property
    def case(self) -> dict[str, Any]:
        """As a manifest's case."""
        return {file.name.removesuffix(".nii.gz"): str(file) for file in sorted(self.folder.glob("*.nii.gz"))}

    def change(self, name: str, change: Change, frame_s: float | None = 0.1) -> None:
        """Rewrite a file with other values (I, J, K, T) and another affine; no frame time with None."""
        path = self.folder / f"{name}.nii.gz"
        image: Any = nibabel.load(path)
        values, affine = change(np.asarray(image.dataobj), image.affine.copy())
        changed = nibabel.Nifti1Image(values, affine)
        changed.header.set_xyzt_units("mm", "sec")
        if values.ndim == 4:
            changed.header["pixdim"][4] = frame_s or 0.0
        path.unlink()
        nibabel.save(changed, path)


@pytest.fixture
def exam(exam_folder: Path, tmp_path: Path) -> Exam:
    """A copy to be damaged."""
    for file in exam_folder.glob("*.nii.gz"):
        shutil.copy(file, tmp_path)
    return Exam(tmp_path)


@pytest.fixture(scope="session")
def all_views() -> tuple[str, ...]:
    """Names of the files of a case."""
    return ("sax", *LAX_VIEWS)
