"""Patterns such as `image/{patient}_{eye}.png`, which find the files of each case under a root folder."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from pathlib import Path

from clinbundles.data.problems import ManifestError

_ORDER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class FilePatterns:
    """File patterns of one layout.

    The first entry of `files` leads: every file that matches it is a case. Its `{fields}` take one or more
    characters other than `/`, as few as possible; the other patterns are filled with the values found.

    Attributes:
        files: key of the case's dictionary -> pattern, relative to the root, with `/` between folders.
        optional: keys whose file a case may lack.
        fields: field -> regular expression that its value must match in full (default: anything).
    """

    files: dict[str, str]
    optional: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lead = next(iter(self.files))
        names = self.field_names
        if not names:
            raise ManifestError(f"layout.files.{lead}: found {self.files[lead]!r}, expected a field such as {{case}}")
        for key, pattern in self.files.items():
            if pattern.startswith("/") or ".." in pattern.split("/"):
                raise ManifestError(f"layout.files.{key}: {pattern!r} must lie under the data folder")
            unknown = [name for name in _field_names(pattern, key) if name not in names]
            if unknown:
                raise ManifestError(f"layout.files.{key}: the field {{{unknown[0]}}} does not occur in {lead!r}")
        for key in self.optional:
            if key not in self.files or key == lead:
                raise ManifestError(f"layout.optional: {key!r} is not among the files after the first: {lead!r} leads")
        for name, expression in self.fields.items():
            if name not in names:
                raise ManifestError(f"layout.fields.{name}: no pattern has this field; they have {', '.join(names)}")
            try:
                re.compile(expression)
            except re.error as problem:
                raise ManifestError(
                    f"layout.fields.{name}: {expression!r} is no regular expression: {problem}"
                ) from None

    @property
    def lead(self) -> str:
        """The pattern that finds the cases."""
        return next(iter(self.files.values()))

    @property
    def field_names(self) -> list[str]:
        """Fields of the leading pattern, in their order."""
        lead, pattern = next(iter(self.files.items()))
        return _field_names(pattern, lead)

    def find(self, root: Path) -> dict[str, dict[str, str]]:
        """Case id -> field values, for every file under `root` that the leading pattern matches, in natural order.

        The id is the value of the only field, or all values joined by `_`.
        """
        expression, seen = "", set()
        for literal, name, _, _ in string.Formatter().parse(self.lead):
            expression += re.escape(literal)
            if name in seen:
                expression += f"(?P={name})"
            elif name:
                seen.add(name)
                expression += f"(?P<{name}>{self.fields.get(name, '[^/]+?')})"
        # glob has signs of its own: brackets and stars of a folder's name stand for themselves
        literal_glob = "".join(
            re.sub(r"([\[\]*?])", r"[\1]", literal) + ("*" if name else "")
            for literal, name, _, _ in string.Formatter().parse(self.lead)
        )
        cases = {}
        for path in root.glob(literal_glob):
            match = re.fullmatch(expression, path.relative_to(root).as_posix())
            if match and path.is_file():
                cases["_".join(match.groupdict().values())] = match.groupdict()
        return {case: cases[case] for case in sorted(cases, key=_natural)}

    def paths(self, root: Path, values: dict[str, str]) -> dict[str, Path]:
        """Key -> path of each file that a case with these field values should have."""
        return {key: root / pattern.format_map(values) for key, pattern in self.files.items()}


def _field_names(pattern: str, key: str) -> list[str]:
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
    except ValueError as problem:
        raise ManifestError(f"layout.files.{key}: {pattern!r} is no pattern: {problem}") from None
    bad = [name for name in names if not name.isidentifier()]
    if bad:
        raise ManifestError(f"layout.files.{key}: the field {{{bad[0]}}} in {pattern!r} needs a name of letters")
    return list(dict.fromkeys(names))


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts case 2 before case 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in _ORDER.split(text) if part]
