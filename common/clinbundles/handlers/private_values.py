"""What MLflow must not be told: names of folders and files, which may be names of patients or of users.

A path in a parameter or in an uploaded config is replaced by a hash. Equal hashes are equal paths (or files of equal
content), so that runs can still be compared; a name cannot be read from it, though who knows a name can verify it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinbundles.data.content_hash import file_hash

_PATH_IDS = re.compile(r"(^|[.#_])(dir|path|file|root|ckpt|checkpoint|uri|folder)$")
_ABSOLUTE = re.compile(r"^(/|~\w*[\\/]|\\\\|[A-Za-z]:[\\/]|file:/)")
_ABSOLUTE_INSIDE = re.compile(  # '/models/model.pt' after a + is the end of a path that starts with a reference
    r"""((^|[\s=(\[,])|(?<!\+)(?<!\+\s)['"])(~?/[^\s/'"]+/[^\s'"]|[A-Za-z]:[\\/]\w|\\\\\w|file:/)""", re.MULTILINE
)
_HASH_CHARACTERS = 12
_MOST_ENTRIES = 20  # a longer list is a list of cases


def without_paths(name: str, value: Any) -> Any:
    """A parameter's value as it may be logged.

    Args:
        name: of the parameter: one that ends in dir, path, file, root, ckpt, uri or folder is taken for a path whatever
            its value is.
        value: text, number, list or path.

    Returns:
        The value; `sha256:...` of the content for a file, `path:...` for any other path; the number of entries for
        lists that hold cases.
    """
    if isinstance(value, os.PathLike):
        return _hash(os.fspath(value))
    if isinstance(value, str):
        is_path = _PATH_IDS.search(name) or "/" in value or "\\" in value
        return _hash(value) if is_path and value else value
    if isinstance(value, Sequence):
        if len(value) > _MOST_ENTRIES or any(isinstance(entry, (Mapping, Sequence)) for entry in _not_text(value)):
            return f"{len(value)} entries, {_hash_of_text(repr(value))}"
        return [without_paths(name, entry) for entry in value]
    return value


def config_without_paths(content: Any, leave_out: Sequence[str] = (), name: str = "") -> Any:
    """An executed config as it may be uploaded: absolute paths replaced by hashes, expressions and ids as they are.

    Args:
        content: of the config.
        leave_out: ids at the top whose values are not kept at all.
        name: id of `content`.
    """
    if isinstance(content, Mapping):
        return {
            key: "(not logged)" if key in leave_out and not name else config_without_paths(value, (), f"{name}#{key}")
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [config_without_paths(value, (), name) for value in content]
    if not isinstance(content, str):
        return content
    if content.startswith(("$", "@", "%")):
        return f"path:{_hash_of_text(content)}" if holds_path(content) else content
    relative_folder = _PATH_IDS.search(name) and ("/" in content or "\\" in content)
    return _hash(content) if _ABSOLUTE.match(content) or relative_folder else content


def holds_path(text: str) -> bool:
    """Whether a text, such as the source of a config, holds an absolute path."""
    return _ABSOLUTE_INSIDE.search(text) is not None


def without_private_message(reason: str) -> str:
    """The reason of a failure: the kind of the error, and its message unless that holds a path."""
    kind, _, message = reason.partition(": ")
    if "/" in message or "\\" in message:
        return f"{kind} (its message names a path: see the output of the run)"
    return reason


def _hash(path: str) -> str:
    place = Path(path).expanduser()
    try:
        if place.is_file():
            return f"sha256:{file_hash(place)[:_HASH_CHARACTERS]}"
    except OSError:  # no such place, or none that may be read
        pass
    return f"path:{_hash_of_text(os.path.abspath(place))}"


def _hash_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]


def _not_text(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if not isinstance(value, str)]
