"""The training that a bundle's config describes, as audits need it: built, but without handlers, and not run."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from clinbundles.command_line_overrides import refuse_wrong_overrides
from clinbundles.privacy.commands.command_result import CommandError

__all__ = ["add_bundle_arguments", "bundle_config", "bundle_trainer", "tell"]


def add_bundle_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `bundle_config`."""
    parser.add_argument("--bundle_root", type=Path, required=True, help="folder of the bundle")
    parser.add_argument(
        "--config_file",
        default="train.yaml",
        help="config of the training: a path or a name in configs/ (train.yaml); several: \"['a.yaml','b.yaml']\"",
    )
    parser.epilog = "Any id of the config can be set as in a training: --epsilon 1 --manifest my_images"


def bundle_config(options: argparse.Namespace, overrides: Sequence[str]) -> ConfigParser:
    """The parsed config of a training, with the ids that the command line sets.

    Args:
        options: with `bundle_root` and `config_file`.
        overrides: words such as ``--epsilon 1``.

    Raises:
        CommandError: no such bundle or file, or an id that no config has.
    """
    root: Path = options.bundle_root
    metadata = root / "configs" / "metadata.json"
    if not metadata.is_file():
        raise CommandError(f"{root} is no bundle: it has no configs/metadata.json. Give its folder as --bundle_root")
    files = [str(_config_path(root, name)) for name in _names(options.config_file)]
    words = ["monai/bundle/__main__.py", "run", "--config_file", repr(files), *overrides]
    try:
        refuse_wrong_overrides(words)
    except ValueError as error:
        raise CommandError(str(error)) from error
    parser = ConfigParser()
    parser.read_meta(str(metadata))
    parser.read_config(files)
    parser.update({"bundle_root": str(root), **_values(overrides)})
    return parser


def bundle_trainer(parser: ConfigParser) -> Any:
    """The `PrivateTrainer` of a config, after its `initialize`, without its handlers: nothing is written or tracked.

    Raises:
        CommandError: the config trains otherwise.
    """
    for name in ("train#trainer", "train#handlers"):
        if parser.get(name) is None:
            raise CommandError(f"the config has no {name}: give the config of a private training as --config_file")
    parser["train#handlers"] = []
    if parser.get("initialize") is not None:
        parser.get_parsed_content("initialize")
    trainer = parser.get_parsed_content("train#trainer")
    if not getattr(trainer, "keeps_loss_private", False):
        raise CommandError(
            f"train#trainer is a {type(trainer).__name__}, expected a PrivateTrainer: this config does not train with "
            "differential privacy. Give another --config_file"
        )
    return trainer


def _names(config_file: str) -> list[str]:
    if not config_file.lstrip().startswith("["):
        return [config_file]
    try:
        return [str(name) for name in ast.literal_eval(config_file)]
    except (SyntaxError, ValueError) as error:
        raise CommandError(
            f"--config_file is {config_file}, expected a name or \"['train.yaml','dp.yaml']\""
        ) from error


def _config_path(root: Path, name: str) -> Path:
    for path in (Path(name), root / "configs" / name):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.name for path in (root / "configs").glob("*.yaml")))
    raise CommandError(f"there is no config {name}, neither here nor among {known} of {root}")


def _values(overrides: Sequence[str]) -> Mapping[str, Any]:
    """Values of ``--name value`` and ``--name=value``, as the bundle command reads them."""
    values: dict[str, Any] = {}
    words = list(overrides)
    while words:
        name, equals, value = words.pop(0).partition("=")
        if not name.startswith("--"):
            raise CommandError(f"unexpected word {name!r}: ids of the config are set by --name value")
        if not equals:
            if not words:
                raise CommandError(f"{name} has no value: ids of the config are set by --name value")
            value = words.pop(0)
        values[name[2:].replace("::", "#")] = DefaultParseValue(value)
    return values


def tell(message: str) -> None:
    """What a command is about to do, on standard error."""
    print(message, file=sys.stderr, flush=True)
