"""A table of labelled images: one line per image, with its class and, where known, its patient and its split."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from clinbundles.data.problems import ManifestError

COLUMNS = {
    "image": "path below the folder of the table",
    "label": "class: its number from 0, or its name among the manifest's layout.classes",
    "patient_id": "whose image it is",
    "split": "part of the data set that it belongs to",
}
_NEEDED = ("image", "label")


@dataclass(frozen=True)
class ClassTable:
    """Layout of a data set whose images and classes stand in a CSV file.

    It serves as a :class:`clinbundles.data.file_patterns.FilePatterns` does: it finds the cases and names their files.

    Attributes:
        table: path of the CSV file below the root. Its first line names `image` and `label`, and may name `patient_id`
            and `split`, see :data:`COLUMNS`.
        classes: names of the classes in the order of their numbers; without them labels are numbers from 0.
    """

    table: str
    classes: tuple[str, ...] = ()
    optional: ClassVar[tuple[str, ...]] = ()  # every line has its image

    def __post_init__(self) -> None:
        if self.table.startswith("/") or ".." in self.table.split("/"):
            raise ManifestError(f"layout.table: {self.table!r} must lie under the data folder")
        if len(set(self.classes)) < len(self.classes):
            raise ManifestError(f"layout.classes: a name stands there twice in {', '.join(self.classes)}")

    @property
    def lead(self) -> str:
        """The file that leads to the cases."""
        return self.table

    @property
    def field_names(self) -> list[str]:
        """What a line of the table may say."""
        return list(COLUMNS)

    def find(self, root: Path) -> dict[str, dict[str, Any]]:
        """Case id -> values of its line, in the order of the table; no cases where there is no table.

        The id is the image's path. `label` is a whole number; `patient` is the patient where the table knows one.

        Raises:
            ManifestError: a line that cannot be understood, or an image that stands in the table twice.
        """
        path = root / self.table
        if not path.is_file():
            return {}
        try:
            return self._read(path)
        except (UnicodeDecodeError, csv.Error) as problem:
            raise ManifestError(f"{path} is not readable as CSV in UTF-8 ({problem}): save it again so") from None

    def paths(self, root: Path, values: Mapping[str, Any]) -> dict[str, Path]:
        """Path of the image of a line."""
        return {"image": root / values["image"]}

    def splits(self, cases: Mapping[str, Mapping[str, Any]], splits: Mapping[str, Any]) -> Mapping[str, Any]:
        """The manifest's rule; where that is chance and the table has a column `split`, the table decides.

        Raises:
            ManifestError: the table names a split that the manifest does not have.
        """
        if "seeded" not in splits or not any("split" in values for values in cases.values()):
            return splits
        names = list(splits["seeded"]["fractions"])
        for case, values in cases.items():
            if values["split"] not in names:
                raise ManifestError(
                    f"{self.table}: the split of {case!r} is {values['split']!r}, expected one of {', '.join(names)}"
                )
        return {"by_field": {"field": "split", "values": {name: [name] for name in names}}}

    def _read(self, path: Path) -> dict[str, dict[str, Any]]:
        cases: dict[str, dict[str, Any]] = {}
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            reader.fieldnames = columns = [column.strip() for column in reader.fieldnames or []]
            _check_columns(columns, path)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                values = {key: (value or "").strip() for key, value in row.items() if key is not None}
                if None in row or not all(values.values()):
                    raise ManifestError(f"{where}: expected a value in each of the columns {', '.join(columns)}")
                image = PurePosixPath(values["image"].replace("\\", "/")).as_posix()
                if image.startswith("/") or ".." in image.split("/"):
                    raise ManifestError(f"{where}: the image {image!r} must lie under the folder of the table")
                if image in cases:
                    raise ManifestError(f"{where}: the image {image!r} stands in the table twice; keep one line of it")
                cases[image] = {**values, "image": image, "label": self._label(values["label"], where)}
                if "patient_id" in values:
                    cases[image]["patient"] = values["patient_id"]
        return cases

    def _label(self, text: str, where: str) -> int:
        if text in self.classes:
            return self.classes.index(text)
        if text.isascii() and text.isdigit() and (not self.classes or int(text) < len(self.classes)):
            return int(text)
        if self.classes:
            expected = f"one of {', '.join(self.classes)}, or a number from 0 to {len(self.classes) - 1}"
        else:
            expected = "a whole number from 0; for names, list them as layout.classes of the manifest"
        raise ManifestError(f"{where}: the label is {text!r}, expected {expected}")


def _check_columns(columns: list[str], path: Path) -> None:
    unknown = [column for column in columns if column not in COLUMNS]
    missing = [column for column in _NEEDED if column not in columns]
    twice = len(set(columns)) < len(columns)
    if unknown or missing or twice:
        raise ManifestError(
            f"{path}: found the columns {', '.join(columns) or 'none'}; expected {' and '.join(_NEEDED)}, and perhaps "
            "patient_id and split, each once, separated by commas. Correct the first line"
        )
