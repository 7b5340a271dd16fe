"""How often one image is among the training images: its privacy is that many times weaker."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clinbundles.data.duplicate_images import equal_files


def most_repeated(datalist: Sequence[Mapping[str, Any]], units: Sequence[Hashable], key: str = "image") -> int:
    """In how many units the most repeated image is, by the content of the files; 1 if there are no copies.

    Args:
        datalist: records with the path of their image.
        units: privacy unit of each record.
        key: entry with the path.
    """
    groups = equal_files({number: Path(record[key]) for number, record in enumerate(datalist)})
    return max((len({units[number] for number in group}) for group in groups), default=1)
