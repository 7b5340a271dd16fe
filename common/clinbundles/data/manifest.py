"""The manifest of a data set: what it is, under which terms, where its files are, how it is split."""

from __future__ import annotations

import difflib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinbundles.data.class_table import ClassTable
from clinbundles.data.file_patterns import FilePatterns
from clinbundles.data.manifest_schema import schema_problems
from clinbundles.data.problems import ManifestError
from clinbundles.data.strict_yaml import read_yaml


@dataclass(frozen=True)
class Manifest:
    """One data set, described once for all bundles; exactly one of `layout` and `simulator` is there.

    Attributes:
        name: identifier, also the name of a simulated set's folder.
        title, description, modality, licence, citation: texts for people.
        access: `url`, `registration` (bool) and optionally `steps`; empty for a simulated set.
        layout: where the files of a case are, under the user's root folder, by patterns or by a table of labelled
            images; None for a simulated set.
        constants: values that hold for every case of a layout (such as `fov_mm`).
        simulator: dotted name of the simulator and its keyword arguments; None for a real set.
        splits: as in the file (see CONTRIBUTING.md).
        content: everything that the file says, as plain data.
        path: the file.
    """

    name: str
    title: str
    description: str
    modality: str
    licence: str
    citation: str
    access: dict[str, Any]
    layout: FilePatterns | ClassTable | None
    constants: dict[str, Any]
    simulator: tuple[str, dict[str, Any]] | None
    splits: dict[str, Any]
    content: dict[str, Any]
    path: Path

    @property
    def split_names(self) -> list[str]:
        """Names of the splits, in the order of the file."""
        return split_names(self.content)

    def how_to_get(self) -> str:
        """One or more sentences: where the data are and what has to be done to get them."""
        if self.simulator:
            return f"{self.title} is simulated and is generated on first use."
        registration = "after registration" if self.access["registration"] else "without registration"
        steps = f" {self.access['steps'].strip()}" if "steps" in self.access else ""
        return f"{self.title} is available {registration} at {self.access['url']} (licence: {self.licence}).{steps}"


def split_names(content: dict[str, Any]) -> list[str]:
    """Names of the splits that a manifest's content declares, in the order of the file."""
    splits = content["splits"]
    if "simulator" in content:
        return list(splits)
    (form, rule), *_ = splits.items()
    return list(rule[{"seeded": "fractions", "by_field": "values"}[form]] if form != "explicit" else rule)


def available_manifests() -> dict[str, Path]:
    """Manifests that come with the project, by name: from the checkout, else from the installed package."""
    here = Path(__file__).resolve()
    checkout = here.parents[3] / "data_manifests"
    folder = checkout if here.parents[2].name == "common" and checkout.is_dir() else here.parent / "manifests"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_manifest(manifest: str | os.PathLike[str] | Manifest) -> Manifest:
    """Manifest by name (one of the project's) or by the path of a YAML file (one's own cohort).

    Raises:
        ManifestError: no such manifest, or a file that breaks the schema; the message lists every problem.
    """
    if isinstance(manifest, Manifest):
        return manifest
    path = _find(manifest)
    content = read_yaml(path)
    problems = schema_problems(content)
    if not problems:
        problems = _contradictions(content)
    if problems:
        raise ManifestError(
            f"{path} is not a valid manifest:\n  - " + "\n  - ".join(problems) + "\nCorrect the file and start again."
        )
    layout, simulator = content.get("layout"), content.get("simulator")
    return Manifest(
        **{key: content[key] for key in ("name", "title", "description", "modality", "licence", "citation", "splits")},
        access=content.get("access", {}),
        layout=_layout(layout) if layout else None,
        constants=layout.get("constants", {}) if layout else {},
        simulator=(simulator["_target_"], {k: v for k, v in simulator.items() if k != "_target_"})
        if simulator
        else None,
        content=content,
        path=path,
    )


def _find(manifest: str | os.PathLike[str]) -> Path:
    text = os.fspath(manifest)
    if isinstance(manifest, Path) or text.endswith((".yaml", ".yml")) or "/" in text or os.sep in text:
        path = Path(text).expanduser()
        if not path.is_file():
            raise ManifestError(f"there is no manifest file {path} (looked from {Path.cwd()})")
        return path
    known = available_manifests()
    if text not in known:
        close = difflib.get_close_matches(text, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ManifestError(
            f"there is no manifest {text!r}; {hint}known: {', '.join(known) or 'none'}. "
            "For your own data give the path of your own manifest (a .yaml file)"
        )
    return known[text]


def _layout(layout: dict[str, Any]) -> FilePatterns | ClassTable:
    if "table" in layout:
        return ClassTable(layout["table"], tuple(layout.get("classes", ())))
    return FilePatterns(layout["files"], layout.get("optional", []), layout.get("fields", {}))


def _contradictions(content: dict[str, Any]) -> list[str]:
    """What a schema cannot say."""
    splits = content["splits"]
    if "all" in split_names(content):
        return ["splits: 'all' always means every case; give that split another name"]
    if "layout" in content and "simulator" in content:
        return ["layout, simulator: both are given; expected one: the files of a real set, or a simulator"]
    if "simulator" in content:
        return _overlapping_seeds(splits)
    mixed = _mixed_layout(content["layout"])
    if mixed:
        return mixed
    try:
        patterns = _layout(content["layout"])
    except ManifestError as problem:
        return [str(problem)]
    files = {} if isinstance(patterns, ClassTable) else patterns.files
    clash = sorted({*files, *patterns.field_names, "case", "patient"} & {*content["layout"].get("constants", {})})
    problems = [
        f"layout.constants.{key}: is also a file, a field of the patterns, or a name that every case has; rename it"
        for key in clash
    ]
    if "seeded" in splits and abs(sum(splits["seeded"]["fractions"].values()) - 1) > 1e-6:
        total = sum(splits["seeded"]["fractions"].values())
        problems.append(f"splits.seeded.fractions: they sum to {total:g}, expected 1")
    if "by_field" in splits and splits["by_field"]["field"] not in patterns.field_names:
        field, known = splits["by_field"]["field"], ", ".join(patterns.field_names)
        problems.append(f"splits.by_field.field: found {field!r}, expected a field of the patterns: {known}")
    return problems


def _mixed_layout(layout: dict[str, Any]) -> list[str]:
    if ("files" in layout) == ("table" in layout):
        return ["layout: expected either files (patterns) or table (a CSV file of labelled images)"]
    wrong = ("optional", "fields") if "table" in layout else ("classes",)
    return [
        f"layout.{key}: does not go with {'table' if 'table' in layout else 'files'}" for key in wrong if key in layout
    ]


def _overlapping_seeds(splits: dict[str, Any]) -> list[str]:
    ranges = sorted((s["first_seed"], s["first_seed"] + s["cases"] - 1, name) for name, s in splits.items())
    return [
        f"splits: {first[2]} (seeds {first[0]} to {first[1]}) and {second[2]} (from {second[0]}) share cases; "
        "move a first_seed"
        for first, second in itertools.pairwise(ranges)
        if second[0] <= first[1]
    ]
