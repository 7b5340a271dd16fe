"""The list of cases of one split of a data set, complete and checked before any work starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from clinbundles.data.class_table import ClassTable
from clinbundles.data.duplicate_images import refuse_copies_across_splits
from clinbundles.data.manifest import Manifest, read_manifest
from clinbundles.data.problems import ManifestError, MissingDataError
from clinbundles.data.simulated_set import cache_folder, simulated_cases
from clinbundles.data.split_rules import assign_splits, patient_of


def datalist(
    manifest: str | os.PathLike[str] | Manifest,
    dataset_dir: str | os.PathLike[str] | None = None,
    split: str = "all",
    *,
    limit: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Cases of a split as MONAI data sets take them, with absolute paths of files that exist.

    Args:
        manifest: name of one of the project's manifests, or path of one's own.
        dataset_dir: folder that holds the files of a real set. For a simulated set the folder under which the
            set's own folder is made; by default $CLINBUNDLES_CACHE, else ~/.cache/clinbundles.
        split: one of the manifest's splits, or "all".
        limit: at most this many cases, the first ones.
        workers: processes that generate missing cases of a simulated set.
        progress: whether to show a progress bar while cases are generated.

    Returns:
        One dictionary per case: `case`, `patient`, the file keys of the manifest (str), its constants and fields.
        A simulated patient with several images gives one per image (`limit` counts patients). A table of labelled
        images gives `image`, `label` (int) and, where the table has them, `patient_id` and `split`.
        The order is the order of the manifest or the natural order of the ids; it never depends on the machine.

    Raises:
        ManifestError: the manifest or its table is wrong, or there is no such split; a patient, or copies of an image
            in a table, are in two splits.
        MissingDataError: the folder or a file is missing (the first 5 are listed), or the split is empty.
        SimulatedSetError: the simulated set on disk was made with other arguments.
    """
    description = read_manifest(manifest)
    if split != "all" and split not in description.split_names:
        names = ", ".join([*description.split_names, "all"])
        raise ManifestError(f"{description.name} has no split {split!r}; it has {names}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1 (or None for all cases)")
    if description.simulator:
        parent = Path(dataset_dir).expanduser() if dataset_dir else cache_folder()
        return simulated_cases(description, parent, split, limit=limit, workers=workers, progress=progress)
    return _cases_on_disk(description, dataset_dir, split)[:limit]


def _cases_on_disk(manifest: Manifest, dataset_dir: str | os.PathLike[str] | None, split: str) -> list[dict[str, Any]]:
    patterns = manifest.layout
    if patterns is None:
        raise ManifestError(f"{manifest.path} has no layout")
    lead = patterns.lead
    if not dataset_dir:
        raise MissingDataError(f"{manifest.name} needs dataset_dir: the folder with {lead}. {manifest.how_to_get()}")
    root = Path(dataset_dir).expanduser().resolve()
    if not root.is_dir():
        raise MissingDataError(
            f"the data folder {root} of {manifest.name} does not exist (dataset_dir). {manifest.how_to_get()}"
        )
    found = patterns.find(root)
    if not found:
        inside = ", ".join(sorted(entry.name for entry in root.iterdir())[:5]) or "nothing"
        raise MissingDataError(
            f"no file under {root} matches {lead!r}, which leads to the cases of {manifest.name}; the folder "
            f"holds {inside}. Check dataset_dir. {manifest.how_to_get()}"
        )
    table = isinstance(patterns, ClassTable)
    rule = patterns.splits(found, manifest.splits) if isinstance(patterns, ClassTable) else manifest.splits
    assigned = assign_splits(found, rule) if table or split != "all" else {}
    chosen = list(found) if split == "all" else assigned[split]
    if not chosen:
        raise MissingDataError(
            f"split {split!r} of {manifest.name} is empty: none of the {len(found)} cases under {root} belongs to it. "
            "Check the splits of the manifest; with a few patients list them explicitly"
        )
    cases, missing = [], []
    for case in chosen:
        if case not in found and len(patterns.field_names) > 1:
            missing.append(f"case {case} (no file matches {lead})")
            continue
        values = found.get(case, {patterns.field_names[0]: case})
        entry: dict[str, Any] = {**values, "case": case, "patient": patient_of(case, values), **manifest.constants}
        for key, path in patterns.paths(root, values).items():
            # by its name alone: links are the user's own arrangement, and annexed data sets consist of them
            if not Path(os.path.normpath(path)).is_relative_to(root):
                raise ManifestError(
                    f"case {case!r} of {manifest.name} leads to a file outside the data folder {root}: correct the "
                    f"splits or fields of {manifest.path.name}"
                )
            if path.is_file():
                entry[key] = str(path)
            elif key not in patterns.optional:
                missing.append(str(path.relative_to(root)))
        cases.append(entry)
    if missing:
        shown = "\n  ".join(missing[:5]) + ("\n  ..." if len(missing) > 5 else "")
        raise MissingDataError(
            f"{len(missing)} files of {manifest.name}, split {split!r}, are missing under {root}:\n  {shown}\n"
            f"Complete the folder or correct {manifest.path.name}. {manifest.how_to_get()}"
        )
    if table:
        images = {case: patterns.paths(root, values)["image"] for case, values in found.items()}
        there = {case: image for case, image in images.items() if image.is_file()}
        refuse_copies_across_splits(there, assigned, manifest.name)
    return cases
