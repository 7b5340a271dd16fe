"""Overrides on the command line of `python -m monai.bundle run`: which were given, and the refusal of wrong ones.

MONAI adds an id that no config file knows without a word: `--epoch 3`, meant for `epochs`, trains the default number.
It also takes `--resume false` for the text "false", which counts as true. A bundle's config refuses both with one line,
first in `initialize`:

    initialize:
      - _target_: clinbundles.command_line_overrides.refuse_wrong_overrides
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from monai.bundle import run as bundle_run
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS, EXPR_KEY, ID_REF_KEY

__all__ = ["command_line_arguments", "command_line_overrides", "refuse_wrong_overrides"]

# The named arguments of `monai.bundle run` itself; all others are overrides of config ids.
_RUN_ARGUMENTS = frozenset(
    name
    for name, parameter in inspect.signature(bundle_run).parameters.items()
    if parameter.kind is not inspect.Parameter.VAR_KEYWORD
)
_FLAG = re.compile(r"^(--|-[A-Za-z])")


def command_line_arguments(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """All named arguments of a `python -m monai.bundle run` command, those of its `args_file` included.

    Args:
        argv: the command's words, the program first; default `sys.argv`.

    Returns:
        Name to value, as Python Fire reads them; empty when the process was not started by that command (a notebook,
        MONAI Label, a federated client).
    """
    words = list(sys.argv if argv is None else argv)
    program = os.path.normpath(words[0]).split(os.sep) if words else []
    if program[-3:] != ["monai", "bundle", "__main__.py"] or words[1:2] != ["run"]:
        return {}
    given: dict[str, Any] = {}
    position = 2
    while position < len(words) and words[position] != "--":
        word = words[position]
        position += 1
        if not _FLAG.match(word):
            continue  # the positional run_id
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            has_value = position < len(words) and not _FLAG.match(words[position]) and words[position] != "--"
            value = words[position] if has_value else "True"
            position += has_value
        given[name.replace("-", "_")] = DefaultParseValue(value)
    args_file = given.get("args_file")
    if args_file:
        given = {**ConfigParser.load_config_file(str(args_file)), **given}
    return given


def command_line_overrides(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The config ids that the command line sets, with their values: what differs from the recipe in the files."""
    return {name: value for name, value in command_line_arguments(argv).items() if name not in _RUN_ARGUMENTS}


def refuse_wrong_overrides(argv: Sequence[str] | None = None) -> None:
    """Stop the run when the command line sets an id that its config files do not have, or a switch to no truth value.

    Ids are checked level by level down to the first component (`_target_`): a component refuses wrong arguments itself.
    The ids of `--tracking` (`experiment_name`, `run_name`, ...) are known only when tracking is on. Where the config
    files say true or false, the override must be True or False, or a reference or expression of the config (`@`, `$`).

    Args:
        argv: the command's words; default `sys.argv`. Does nothing when that is not a `monai.bundle run` command.

    Raises:
        ValueError: an id is unknown; the message names it and the most similar ones. A switch is set to something else
            than True or False; the message says what to write.
    """
    given = command_line_arguments(argv)
    if not given.get("config_file"):
        return
    config = dict(ConfigParser.load_config_files(given["config_file"]))
    tracking_ids = _tracking_ids(given.get("tracking"))
    for name, value in command_line_overrides(argv).items():
        if name.startswith("_meta_") or name in tracking_ids:
            continue
        keys = re.split(r"#|::", name)
        unknown = _first_unknown(config, keys)
        if unknown is None:
            if isinstance(_value_in(config, keys), bool) and not _is_switch(value):
                raise ValueError(
                    f"override --{name} is {value!r}, expected True or False: with a capital letter, since any other "
                    "word is taken for text, and text counts as true"
                )
            continue
        level, key, known = unknown
        close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
        hint = f"Did you mean {' or '.join(f'--{level}{match}' for match in close)}?" if close else ""
        if not hint and name in _tracking_ids("mlflow"):
            hint = "It belongs to experiment tracking: add --tracking mlflow."
        where = f"below '{level[:-1]}' " if level else ""
        listing = "" if hint else f"Known ids {where}are: {', '.join(sorted(known))}."
        raise ValueError(
            f"unknown override --{name}: there is no id '{key}' {where}in {_file_names(given['config_file'])}. "
            f"{hint}{listing}"
        )


def _tracking_ids(tracking: Any) -> set[str]:
    if not tracking:
        return set()
    known = DEFAULT_EXP_MGMT_SETTINGS.get(tracking) if isinstance(tracking, str) else None
    settings: Mapping[str, Any] = known or ConfigParser.load_config_files(tracking)
    return {*settings.get("configs", {}), "save_execute_config"}


def _first_unknown(config: Any, keys: Sequence[str]) -> tuple[str, str, list[str]] | None:
    """The first key on the path that does not exist: the level above it, the key, the keys that do exist there."""
    level = ""
    for key in keys:
        if not isinstance(config, Mapping) or "_target_" in config:
            return None
        if key not in config:
            return level, key, [str(name) for name in config if not str(name).startswith("_")]
        config = config[key]
        level += f"{key}#"
    return None


def _value_in(config: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """The value of an id in the config files, None if they do not set it."""
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.startswith((ID_REF_KEY, EXPR_KEY)))


def _file_names(config_file: Any) -> str:
    files = config_file if isinstance(config_file, (list, tuple)) else [config_file]
    return " + ".join(os.path.basename(str(file)) for file in files)
