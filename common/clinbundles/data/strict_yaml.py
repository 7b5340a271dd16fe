"""YAML read without its two silent traps: a key given twice, and `1e-3` taken for a text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from clinbundles.data.problems import ManifestError


class _StrictLoader(yaml.SafeLoader):
    pass


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":  # what `<<` brings may be overridden
            continue
        key = loader.construct_object(key_node)
        if key in keys:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", key_node.start_mark)
        keys.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
# YAML 1.1, which PyYAML reads, wants a dot in a number with an exponent; YAML 1.2 and people do not.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> Any:
    """Content of a YAML file.

    Raises:
        ManifestError: not YAML, or a key is given twice; with file, line and column.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown line"
        raise ManifestError(f"{path} is not readable as YAML: {problem.problem} ({where}): correct that line") from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise ManifestError(f"{path} is not readable as YAML: {problem}") from None
