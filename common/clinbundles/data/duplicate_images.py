"""Images that occur more than once in a data set, found by the content of their files.

A copy in another split makes results too good. A copy in the same split counts twice for whoever is in the image, so
that a privacy guarantee for single records is half of what it says.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from clinbundles.data.content_hash import file_hash
from clinbundles.data.problems import ManifestError

_LOG = logging.getLogger(__name__)
_Name = TypeVar("_Name", bound=Hashable)


def equal_files(files: Mapping[_Name, Path]) -> list[list[_Name]]:
    """Groups of names whose files have the same bytes, each in the order given; only such groups.

    Files of a size that no other file has are not read. The same picture in another format is not found.
    """
    sizes: dict[int, list[_Name]] = defaultdict(list)
    for name, path in files.items():
        sizes[path.stat().st_size].append(name)
    contents: dict[str, list[_Name]] = defaultdict(list)
    for names in sizes.values():
        if len(names) > 1:
            for name in names:
                contents[file_hash(files[name])].append(name)
    return [names for names in contents.values() if len(names) > 1]


def refuse_copies_across_splits(files: Mapping[str, Path], splits: Mapping[str, Iterable[str]], data_set: str) -> None:
    """Refuse a data set that has an image in two splits; copies within a split are counted in a warning.

    Args:
        files: case -> its image, which exists.
        splits: split -> its cases.
        data_set: name, for the message.

    Raises:
        ManifestError: copies across splits; the first five are listed.
    """
    split_of = {case: split for split, cases in splits.items() for case in cases if case in files}
    groups = equal_files({case: files[case] for case in split_of})
    crossing = [group for group in groups if len({split_of[case] for case in group}) > 1]
    if crossing:
        lines = [_line(group, split_of) for group in crossing]
        shown = "\n  ".join(lines[:5]) + ("\n  ..." if len(lines) > 5 else "")
        raise ManifestError(
            f"{len(crossing)} images of {data_set} are in more than one split:\n  {shown}\n"
            "Results would be too good: remove the copies, or put them into one split"
        )
    surplus = sum(len(group) - 1 for group in groups)
    if surplus:
        _LOG.warning(
            "%s has %d images that are copies of others in the same split: a privacy guarantee for single records "
            "counts each copy as another person's. Remove them, or guarantee privacy of patients",
            data_set,
            surplus,
        )


def _line(group: Sequence[str], split_of: Mapping[str, str]) -> str:
    return " = ".join(f"{case} ({split_of[case]})" for case in group)
