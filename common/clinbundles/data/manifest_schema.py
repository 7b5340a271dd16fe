"""Check of a manifest against its JSON schema, with messages for the person who wrote the manifest."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, ValidationError

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
_KINDS = {"object": "a mapping", "array": "a list", "string": "a text", "integer": "a whole number"}
_LIMITS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}


def schema_problems(content: Any) -> list[str]:
    """One line for each place where a manifest breaks the schema, in the order of the keys; [] if it is valid."""
    errors = sorted(Draft7Validator(SCHEMA).iter_errors(content), key=lambda error: [str(p) for p in error.path])
    lines: list[str] = []
    for error in errors:
        lines += [line for line in _lines(error) if line not in lines]
    return lines


def _lines(error: ValidationError) -> list[str]:
    where = ".".join(str(part) for part in error.absolute_path)
    prefix, found, rule = (where + ".") if where else "", error.instance, error.validator_value
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        return [f"{prefix}{key}: unknown key; {_suggestion(key, known)}" for key in found if key not in known]
    if error.validator == "required":
        return [f"{prefix}{key}: missing; expected {_expected(error, key)}" for key in rule if key not in found]
    where = where or "the file"
    if error.validator == "type":
        kinds = [rule] if isinstance(rule, str) else rule
        expected = " or ".join(_KINDS.get(kind, f"a {kind}") for kind in kinds)
        return [f"{where}: found {found!r}, expected {expected}"]
    if error.validator == "pattern":
        return [f"{where}: found {found!r}, expected a text that matches {rule}"]
    if error.validator in ("minLength", "minProperties", "minItems"):
        return [f"{where}: found nothing, expected at least {rule} entry"]
    if error.validator == "maxProperties":
        return [f"{where}: found {', '.join(found)} together, expected one of them"]
    if error.validator in _LIMITS:
        return [f"{where}: found {found!r}, expected {_LIMITS[error.validator]} {rule}"]
    return [f"{where}: {error.message}"]


def _suggestion(key: Any, known: list[str]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known keys here: {', '.join(known)}"


def _expected(error: ValidationError, key: str) -> str:
    entry = error.schema.get("properties", {}).get(key, {})
    if key == "layout":
        return "a layout (files of a real data set) or a simulator"
    if key == "access":
        return "where the data come from (url, registration)"
    if key == "_target_":
        return "the dotted name of the simulator's function"
    if "$ref" in entry:
        entry = SCHEMA["definitions"][entry["$ref"].rsplit("/", 1)[1]]
    kind = entry.get("type", "a value")
    return _KINDS.get(kind, f"a {kind}") if isinstance(kind, str) else "a value"
