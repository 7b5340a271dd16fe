"""One command that shows the bundle at work: on simulated blood cells, or on the user's own images.

python -m dp_equivariant_classification.demo
python -m dp_equivariant_classification.demo --input FOLDER
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clinbundles.demonstration import (
    demonstrate,
    demonstration_parser,
    inference_of,
    parsed,
    print_mlflow_command,
    tracked,
)
from clinbundles.phantoms.stained_leukocytes import CLASSES, simulate_leukocytes

BUNDLE_ROOT = Path(__file__).resolve().parent
CELLS = 24


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of the demonstration."""
    parser = demonstration_parser(
        BUNDLE_ROOT,
        "Tells the shape of the nucleus of stained white blood cells, with weights from private training.",
        "leukocyte_demo",
        "folder with your images (28 x 28 pixels, RGB; PNG, BMP, TIFF, JPEG, NIfTI or DICOM), or one image; folders "
        "below are searched too",
        f"a smear of {CELLS} cells",
    )
    parser.add_argument("--resize", action="store_true", help="resample your images of another size to 28 x 28 pixels")
    return parsed(parser, arguments)


def simulate_cells(folder: Path, seed: int) -> tuple[Path, dict[str, Any]]:
    """Simulate cells; the folder to give to inference, and the true class of each study."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    truth = {}
    for number in range(CELLS):
        (record,) = simulate_leukocytes(images, seed + number)["records"]
        truth[Path(record["image"]).stem] = CLASSES[record["label"]]
    return images, truth


def inference_command(options: argparse.Namespace, images: Path, results: Path) -> list[str]:
    """The command that a user would type for the same run."""
    command = inference_of(BUNDLE_ROOT, images, results, options)
    return [*command, *(["--resize", "True"] if options.resize else []), *tracked(BUNDLE_ROOT)]


def print_comparison(results: Path, truth: dict[str, Any]) -> None:
    """Compare the classes of the simulated cells with the truth."""
    with (results / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["study"]: row for row in csv.DictReader(file)}
    right = sum(rows[study]["class"] == name for study, name in truth.items() if study in rows)
    print(
        f"\nAgainst the known truth: {right} of {len(truth)} cells are in the right class (chance: {len(truth) / 4:g})."
    )


def print_results(results: Path) -> None:
    """Say where the results are."""
    print(f"\nResults in {results}")
    print(f"  table of class probabilities  {results / 'results.csv'}")
    print(f"  picture of the first images   {results / 'gallery.png'}")
    print("  a report of each image        STUDY/STUDY_report.json, with the privacy statement of the weights")
    print_mlflow_command(results)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the exit code of the inference."""
    options = parse_arguments(arguments)
    return demonstrate(
        options,
        "simulated_cells",
        lambda folder: simulate_cells(folder, options.seed),
        lambda images, results: inference_command(options, images, results),
        print_results,
        lambda _, results, truth: print_comparison(results, truth),
    )


if __name__ == "__main__":
    sys.exit(main())
