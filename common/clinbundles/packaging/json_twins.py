"""A JSON file beside each YAML config, with the same content: `monai.bundle.load` and others look for JSON alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from clinbundles.packaging.packaging_error import PackagingError

NOT_FOR_MONAI = ("dicom",)  # files of our own hosts, which read YAML alone and number segments with integers


def yaml_configs(configs: Path) -> list[Path]:
    """The YAML files of a folder `configs` that MONAI reads."""
    found = sorted(path for path in configs.iterdir() if path.suffix in (".yaml", ".yml"))
    return [path for path in found if path.stem not in NOT_FOR_MONAI]


def write_json_twins(configs: Path) -> list[Path]:
    """Write `NAME.json` beside each `NAME.yaml`. Expressions, references and macros are text and stay what they are.

    Args:
        configs: the folder `configs` of a bundle.

    Raises:
        PackagingError: something that JSON cannot say, such as a number as a key or a date.
    """
    twins = []
    for source in yaml_configs(configs):
        twin = source.with_suffix(".json")
        try:
            content = ConfigParser.load_config_file(str(source))
            ConfigParser.export_config_file(content, str(twin), fmt="json", indent=4, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PackagingError(f"configs/{source.name} cannot be said in JSON: {error}") from error
        difference = next(differences(content, ConfigParser.load_config_file(str(twin))), None)
        if difference is not None:
            raise PackagingError(f"configs/{source.name} is not the same in JSON: {difference}")
        twins.append(twin)
    return twins


def differences(first: Any, second: Any, where: str = "") -> Iterator[str]:
    """Where two contents differ, as ids of the config. The order of keys counts: MONAI runs lists of dictionaries."""
    here = where or "the file"
    if isinstance(first, dict) and isinstance(second, dict):
        if list(first) != list(second):
            yield f"{here} has the keys {list(first)} and {list(second)}"
            return
        for key in first:
            yield from differences(first[key], second[key], f"{where}#{key}" if where else str(key))
    elif isinstance(first, list) and isinstance(second, list):
        if len(first) != len(second):
            yield f"{here} has {len(first)} and {len(second)} entries"
            return
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from differences(one, other, f"{where}#{index}")
    elif type(first) is not type(second) or first != second:
        yield f"{here} is {first!r} and {second!r}"
