"""Prints the table of bundles and hosts that the last test sessions left, and writes it as Markdown beside them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("CLINBUNDLES_CONFORMITY", Path(__file__).resolve().parents[2] / ".nox" / "conformity"))
SIGNS = {"passed": "yes", "skipped": "not run", "failed": "FAILED"}
ORDER = ("passed", "skipped", "failed")


def table(folder: Path) -> str:
    """Markdown table: a row for each host and what it does, a column for each bundle; empty: does not apply."""
    ends: dict[tuple[str, str], dict[str, str]] = {}
    for file in sorted(folder.glob("*.json")):
        for name, what, end in json.loads(file.read_text(encoding="utf-8")):
            row = ends.setdefault((file.stem.replace("_", " "), what), {})
            row[name] = max(row.get(name, "passed"), end, key=ORDER.index)
    names = sorted({name for row in ends.values() for name in row}, key=lambda name: (name.startswith("toy_"), name))
    lines = ["| Host | What | " + " | ".join(names) + " |", "|" + "---|" * (2 + len(names))]
    for (host, what), row in ends.items():
        cells = [SIGNS[row[name]] if name in row else "" for name in names]
        lines.append(f"| {host} | {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    if not any(FOLDER.glob("*.json")):
        sys.exit(f"no results in {FOLDER.name}: run nox -s tests label_tests deploy_tests first")
    text = table(FOLDER)
    print(text)
    (FOLDER / "table.md").write_text(text + "\n", encoding="utf-8")
