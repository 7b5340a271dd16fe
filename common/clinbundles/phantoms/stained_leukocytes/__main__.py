"""Command line: a sheet of simulated leukocytes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from clinbundles.phantoms.stained_leukocytes.contact_sheet import draw_contact_sheet


def main(arguments: list[str] | None = None) -> int:
    """Write the sheet; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m clinbundles.phantoms.stained_leukocytes",
        description="Write a PNG of simulated stained leukocytes, a row for each class.",
    )
    parser.add_argument("output", type=Path, metavar="OUTPUT.png", help="file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the first patient (default 0)")
    parser.add_argument("--columns", type=int, default=12, help="cells of each class (default 12)")
    parser.add_argument("--aligned", action="store_true", help="orientation and mirroring fixed")
    chosen = parser.parse_args(arguments)
    if chosen.output.suffix.lower() != ".png":
        parser.error(f"{chosen.output} does not end in .png, the only format written")
    if chosen.columns < 2:
        parser.error(f"--columns is {chosen.columns}, expected at least 2")
    if not chosen.output.parent.is_dir():
        parser.error(f"the folder {chosen.output.parent} does not exist")
    draw_contact_sheet(chosen.output, seed=chosen.seed, columns=chosen.columns, aligned=chosen.aligned)
    print(chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
