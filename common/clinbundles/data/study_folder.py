"""The studies of a folder: which files there are, what is known of each, and which are finished already."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clinbundles.data.atomic_file import write_json
from clinbundles.data.content_hash import file_hash
from clinbundles.data.dicom_studies import DICOM_ENDINGS, StudyFiles, files_digest, studies_of
from clinbundles.data.exam_studies import exams_of
from clinbundles.dicom.series_listing import is_dicom

STUDY_TABLE = "studies.csv"
RECORD_NAME = "done.json"

logger = logging.getLogger(__name__)


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content (hexadecimal), or ``"missing"`` where there is no such file."""
    try:
        return file_hash(path)
    except FileNotFoundError:
        return "missing"


def study_digest(image: str | os.PathLike[str] | Sequence[str]) -> str:
    """As :func:`file_digest`; of several files (a DICOM series) one for all, whatever their order and names."""
    if isinstance(image, str | os.PathLike):
        return file_digest(image)
    return files_digest(file_digest(file) for file in image)


def _numbers(text: str, where: str) -> list[float]:
    try:
        values = [float(part) for part in re.split(r"[\s,;x×]+", text.strip()) if part]
    except ValueError:
        raise ValueError(f"{where}: expected a number or numbers such as '6' or '3 3', found {text!r}") from None
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{where}: expected finite numbers, found {text!r}")
    return values


class StudyFolder(Sequence[dict[str, Any]]):
    """The studies still to be done, as a list of cases ``{"image": path, "study": name, ...}`` in a fixed order.

    ``dataset_dir`` is a folder or a single file. Files are found by extension, sorted by name. A table ``studies.csv``
    in the folder may say more of single files: a column ``file`` (path below the folder) and any of ``case_keys``;
    a key that ends in ``_mm`` holds numbers, any other holds text.

    A study is finished when ``OUTPUT_DIR/STUDY/STUDY_done.json`` exists; it is written last, in one step, and carries
    the SHA-256 of the input file and all settings. Finished studies are left out, so an interrupted run goes on where
    it stopped. A finished result that came from other settings or another input is never mixed with new ones: it is an
    error unless ``overwrite``. Nothing is read before the first use of the list.

    Args:
        dataset_dir: folder with one file per study (folders below are searched too), or one file.
        output_dir: folder that takes a folder per study.
        extensions: endings of the files to take, with dot, in lower case; "" stands for DICOM files without one.
        settings: whatever changes a result (JSON values): two runs with different settings must not share a folder.
        settings_files: files whose content changes a result, above all the weights; name -> path.
        case_keys: the columns that ``studies.csv`` may have besides ``file``.
        image_key: key of the input path in each case.
        recursive: whether folders below ``dataset_dir`` are searched.
        dicom_series: whether the files of a DICOM series are one study, whatever their names; its image is then the
            sorted list of its files. A series is named after the folder that holds it alone, else after its first
            file; ``studies.csv`` may name that folder or any of its files. Links out of the folder are left out.
        exams: whether all images of an examination are one study: the DICOM files of one Study Instance UID, whatever
            series and folders they lie in, and the other files of one folder. Its image is the sorted list of all its
            files; it is named as a series is, and ``studies.csv`` may name it so.
        overwrite: redo studies that were finished with other settings instead of refusing.
        share: number of this process, from 0, and number of processes that divide the folder among themselves. A
            study belongs to one process whatever is finished, so none is done twice; after an interruption the number
            of processes may be another one.

    Raises:
        FileNotFoundError: ``dataset_dir`` does not exist or holds no study.
        ValueError: a table that cannot be understood; results of other settings in ``output_dir``; a wrong ``share``.
    """

    def __init__(
        self,
        dataset_dir: str | os.PathLike[str],
        output_dir: str | os.PathLike[str],
        *,
        extensions: Iterable[str],
        settings: Mapping[str, Any] | None = None,
        settings_files: Mapping[str, str | os.PathLike[str]] | None = None,
        case_keys: Iterable[str] = (),
        image_key: str = "image",
        recursive: bool = True,
        dicom_series: bool = False,
        exams: bool = False,
        overwrite: bool = False,
        share: Sequence[int] = (0, 1),
    ) -> None:
        process, processes = share
        if not 0 <= process < processes:
            raise ValueError(f"share is [{process}, {processes}]: expected a process from 0 to {processes - 1}")
        self.dataset_dir = Path(dataset_dir).expanduser()
        self.output_dir = Path(output_dir).expanduser()
        self.extensions = tuple(extension.lower() for extension in extensions)
        self.case_keys = tuple(case_keys)
        self.image_key = image_key
        self.recursive = recursive
        self.dicom_series = dicom_series or exams
        self.exams = exams
        self.overwrite = overwrite
        self.share = (process, processes)
        self._settings = dict(settings or {})
        self._settings_files = dict(settings_files or {})
        self._all_settings: dict[str, Any] | None = None
        self._cases: list[dict[str, Any]] | None = None
        self._pending: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.pending)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.pending[index]

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of this run; the weights and other files stand in it by their SHA-256."""
        if self._all_settings is None:
            files = {name: file_digest(path) for name, path in self._settings_files.items()}
            # a round through JSON makes tuples and lists equal, as they will be when read back from a record
            self._all_settings = json.loads(json.dumps({**self._settings, **files}))
        return self._all_settings

    @property
    def cases(self) -> list[dict[str, Any]]:
        """Every study of the folder, finished or not."""
        if self._cases is None:
            self._cases = self._find_cases()
        return self._cases

    @property
    def pending(self) -> list[dict[str, Any]]:
        """The studies of this process that have no finished result yet."""
        if self._pending is None:
            process, processes = self.share
            mine = self.cases[process::processes]
            self._pending = [case for case in mine if not self._is_finished(case)]
            finished = len(mine) - len(self._pending)
            if finished:
                logger.info("%d of %d studies are finished already in %s", finished, len(mine), self.output_dir)
        return self._pending

    def study_dir(self, study: str) -> Path:
        """Folder that takes the results of one study."""
        return self.output_dir / study

    def record_path(self, study: str) -> Path:
        """File whose existence says that the study is finished."""
        return self.study_dir(study) / f"{Path(study).name}_{RECORD_NAME}"

    def forget(self, study: str) -> None:
        """Remove the record of a study that is about to be redone: half-new results must not count as finished."""
        self.record_path(study).unlink(missing_ok=True)

    def finish(self, case: Mapping[str, Any], results: Mapping[str, Any]) -> Path:
        """Write the record that makes a study finished; ``results`` is one flat row for the table of the folder."""
        path = self.record_path(case["study"])
        record = {
            "study": case["study"],
            "input": study_digest(case[self.image_key]),
            "case": {key: case[key] for key in self.case_keys if key in case},
            "settings": self.settings,
            "results": dict(results),
        }
        write_json(path, record)
        return path

    def read_record(self, study: str) -> dict[str, Any] | None:
        """The record of a finished study, or None; a record that cannot be read counts as none."""
        try:
            return json.loads(self.record_path(study).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def _find_cases(self) -> list[dict[str, Any]]:
        if not self.dataset_dir.exists():
            raise FileNotFoundError(f"dataset_dir '{self.dataset_dir}' does not exist: give the folder of the images")
        if self.dataset_dir.is_file():
            root, files = self.dataset_dir.parent, [self.dataset_dir]
        else:
            root = self.dataset_dir
            if self.output_dir.resolve() == root.resolve():
                raise ValueError(
                    f"output_dir and dataset_dir are both '{root}': results beside the inputs would be taken for "
                    "studies by the next run; choose another output_dir"
                )
            files = self._find_files(root)
        studies = self._grouped(files, root)
        if not studies:
            raise FileNotFoundError(
                f"dataset_dir '{self.dataset_dir}' holds no study: no file ends in "
                f"{', '.join(extension or 'nothing (DICOM)' for extension in self.extensions)}"
            )
        table = self._read_table(root)
        names = self._study_names(root, studies)
        cases = []
        for study, name in zip(studies, names, strict=True):
            listed = [path.relative_to(root).as_posix() for path in dict.fromkeys((study.place, *study.files))]
            row = next((table.pop(path) for path in listed if path in table), {})
            image = [str(file) for file in study.files] if study.is_series else str(study.place)
            cases.append({self.image_key: image, "study": name, **row})
        if table and self.dataset_dir.is_dir():
            raise ValueError(f"{root / STUDY_TABLE} names files that are not there: {', '.join(sorted(table)[:5])}")
        return cases

    def _find_files(self, root: Path) -> list[Path]:
        found = []
        output = self.output_dir.resolve()
        for folder, folders, names in os.walk(root):
            here = Path(folder)
            folders[:] = sorted(f for f in folders if not f.startswith(".") and (here / f).resolve() != output)
            found += [here / name for name in names if not name.startswith(".") and self._is_study(here / name)]
            if not self.recursive:
                break
        return sorted(found)

    def _grouped(self, files: Sequence[Path], root: Path) -> list[StudyFiles]:
        if self.exams:
            return exams_of(files, root)
        return studies_of(files, root) if self.dicom_series else [StudyFiles((file,), file) for file in files]

    def _is_study(self, file: Path) -> bool:
        name = file.name.lower()
        if any(extension and name.endswith(extension) for extension in self.extensions):
            return True
        # DICOM names are often IM0001 or 1.2.840.1
        may_be_dicom = self.dicom_series or ("" in self.extensions and not file.suffix.strip(".0123456789"))
        return may_be_dicom and file.is_file() and is_dicom(file)

    def _without_extension(self, name: str) -> str:
        known = (*self.extensions, *(DICOM_ENDINGS if self.dicom_series else ()))
        endings = [extension for extension in known if extension and name.lower().endswith(extension)]
        return name[: -len(max(endings, key=len))] if endings else name

    def _study_names(self, root: Path, studies: Sequence[StudyFiles]) -> list[str]:
        # a series that fills the whole data folder is called as that folder
        relative = [
            Path(root.resolve().name) if study.place == root else study.place.relative_to(root) for study in studies
        ]
        names = [(path.parent / (self._without_extension(path.name) or path.name)).as_posix() for path in relative]
        twins = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
        # a.png beside a.tif: keep the ending in the name, so that no result overwrites another
        return [
            path.as_posix().replace(".", "_") if name in twins else name
            for path, name in zip(relative, names, strict=True)
        ]

    def _read_table(self, root: Path) -> dict[str, dict[str, Any]]:
        path = root / STUDY_TABLE
        if not path.is_file():
            return {}
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [column.strip() for column in reader.fieldnames or []]
            unknown = [column for column in columns if column not in ("file", *self.case_keys)]
            if "file" not in columns or unknown:
                raise ValueError(
                    f"{path}: the first line must name the column 'file' and may name {', '.join(self.case_keys)}; "
                    f"found {', '.join(columns) or 'nothing'}"
                )
            reader.fieldnames = columns
            table: dict[str, dict[str, Any]] = {}
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                name = (row.pop("file") or "").strip()
                if not name or None in row:
                    raise ValueError(f"{where}: expected the {len(columns)} values {', '.join(columns)}")
                if name in table:
                    raise ValueError(f"{where}: '{name}' stands in the table twice")
                values = {key: value.strip() for key, value in row.items() if value and value.strip()}
                table[Path(name).as_posix()] = {
                    key: _numbers(value, f"{where}, column {key}") if key.endswith("_mm") else value
                    for key, value in values.items()
                }
        return table

    def _is_finished(self, case: dict[str, Any]) -> bool:
        record = self.read_record(case["study"])
        if record is None:
            return False
        # the table's values belong to the settings: another field of view is another result
        now = {**self.settings, **{key: case[key] for key in self.case_keys if key in case}}
        before = {**record.get("settings", {}), **record.get("case", {})}
        changed = sorted(key for key in now.keys() | before.keys() if now.get(key) != before.get(key))
        if not changed and record.get("input") != study_digest(case[self.image_key]):
            changed = ["the input file"]
        if changed and not self.overwrite:
            what = changed[0]
            values = f" ({before.get(what)!r} then, {now.get(what)!r} now)" if what in now or what in before else ""
            raise ValueError(
                f"{self.record_path(case['study'])} is a finished result of another run: {', '.join(changed)} differs"
                f"{values}. Choose another output_dir, or set overwrite to True to replace it"
            )
        return not changed
