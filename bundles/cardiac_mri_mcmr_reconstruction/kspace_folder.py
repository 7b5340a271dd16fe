"""The cases of a folder of raw data: one for each slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cardiac_mri_mcmr_reconstruction.case_files import EXTENSIONS, is_kspace_of_folder
from clinbundles.data.dicom_studies import StudyFiles
from clinbundles.data.study_folder import StudyFolder
from clinbundles.kspace.cases_by_slice import cases_by_slice

CASE_KEYS = ("axes", "variable", "spacing_mm", "thickness_mm", "frame_ms", "cyclic", "noise_sd")


class KspaceFolder(StudyFolder):
    """The slices still to be reconstructed, in a fixed order; see :class:`StudyFolder`.

    A file with k-space is a case; a folder with a file called ``kspace`` is one together with its other files. A file
    with several slices gives a case for each: ``NAME_s00``, ``NAME_s01`` ... with ``slice``; only its header is read.
    ``studies.csv`` may say ``axes``, ``variable``, ``spacing_mm``, ``thickness_mm``, ``frame_ms``, ``cyclic`` and
    ``noise_sd`` of single files.

    Args:
        dataset_dir, output_dir, settings: as in :class:`StudyFolder`, its other arguments too.
    """

    def __init__(self, dataset_dir: str | Path, output_dir: str | Path, **settings: Any) -> None:
        super().__init__(dataset_dir, output_dir, extensions=EXTENSIONS, case_keys=CASE_KEYS, **settings)

    def _grouped(self, files: Sequence[Path], root: Path) -> list[StudyFiles]:
        folders = {file.parent for file in files if is_kspace_of_folder(file)} if self.dataset_dir.is_dir() else set()
        found = [StudyFiles((file,), file) for file in files if file.parent not in folders]
        for folder in folders:
            members = tuple(file for file in files if file.parent == folder)
            found.append(StudyFiles(members, folder, is_series=True))
        return sorted(found, key=lambda study: study.place)

    def _find_cases(self) -> list[dict[str, Any]]:
        return [slice_case for case in super()._find_cases() for slice_case in self._slices(case)]

    def _slices(self, case: dict[str, Any]) -> list[dict[str, Any]]:
        if not isinstance(case[self.image_key], str):  # a case folder
            return [case]
        try:
            return cases_by_slice([case], key=self.image_key)
        except Exception:  # a broken file fails when its turn comes, and stops no other
            return [case]
