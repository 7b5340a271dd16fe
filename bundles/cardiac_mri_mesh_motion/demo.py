"""One command that shows the bundle at work: on a simulated heart, or on the user's own examinations.

python -m cardiac_mri_mesh_motion.demo
python -m cardiac_mri_mesh_motion.demo --input FOLDER
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
from clinbundles.demonstration_exam import simulate_exam

BUNDLE_ROOT = Path(__file__).resolve().parent


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of the demonstration."""
    parser = demonstration_parser(
        BUNDLE_ROOT,
        "Follows the left ventricle of a cine examination with a mesh.",
        "mesh_motion_demo",
        "folder with your exams (DICOM or 4D NIfTI), or one of them",
        "a heart",
    )
    parser.add_argument("--refine", type=int, metavar="STEPS", help="steps of test-time refinement, if not the usual")
    parser.add_argument("--frames", type=int, default=20, help="frames of the simulated heart (default: %(default)s)")
    return parsed(parser, arguments)


def inference_command(options: argparse.Namespace, exams: Path, results: Path) -> list[str]:
    """The command that a user would type for the same run."""
    command = inference_of(BUNDLE_ROOT, exams, results, options)
    if options.refine is not None:
        command += ["--refine_steps", str(options.refine)]
    return command + tracked(BUNDLE_ROOT)


def print_comparison(results: Path, case: dict[str, Any]) -> None:
    """Compare the result of the simulated heart with the truth."""
    with (results / "results.csv").open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    print("\nAgainst the known truth of the simulated heart:")
    for name, key, unit, digits in (
        ("end-diastolic volume", "edv_ml", "mL", 0),
        ("end-systolic volume", "esv_ml", "mL", 0),
        ("ejection fraction", "ejection_fraction", "", 2),
        ("myocardial mass", "mass_g", "g", 0),
    ):
        true = case["ef" if key == "ejection_fraction" else key]
        print(f"  {name:22s} {float(row[key]):.{digits}f} {unit}  (truth {true:.{digits}f} {unit})")


def print_results(results: Path) -> None:
    """Say where the results of the first studies are."""
    studies = [record.parent for record in sorted(results.rglob("*_done.json"))]
    print(f"\nResults of {len(studies)} examination(s) in {results}")
    for study in studies[:3]:
        stem = study / study.name
        print(f"  {study.relative_to(results)}")
        print(f"    moving mesh        {study / 'mesh' / study.name}.pvd  (ParaView; the .vtp also in 3D Slicer)")
        print(f"    report             {stem}_report.json, {stem}_segments.csv, {stem}_volumes.csv")
        print(f"    figures            {stem}_contours.png and .gif, _bulls_eye.png, _volume_curve.png")
    print(f"  table of all  {results / 'results.csv'}")
    print_mlflow_command(results)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the exit code of the inference."""
    options = parse_arguments(arguments)
    return demonstrate(
        options,
        "simulated_heart",
        lambda folder: simulate_exam(folder, options.seed, frames=options.frames),
        lambda exams, results: inference_command(options, exams, results),
        print_results,
        lambda _, results, case: print_comparison(results, case),
    )


if __name__ == "__main__":
    sys.exit(main())
