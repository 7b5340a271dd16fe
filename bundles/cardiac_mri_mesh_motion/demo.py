"""One command that shows the bundle at work: on a simulated heart, or on the user's own examinations.

python -m cardiac_mri_mesh_motion.demo
python -m cardiac_mri_mesh_motion.demo --input FOLDER
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clinbundles.demonstration import FAILED_STUDIES, inference_of, print_mlflow_command, run_shown
from clinbundles.phantoms.heart.simulated_exam import simulate_heart_exam

BUNDLE_ROOT = Path(__file__).resolve().parent
UNSEEN_SEED = 900001  # no data set uses seeds as high as this
EXPERIMENT = "cardiac_mri_mesh_motion_demo"
VIEWS = ("sax", "lax_2ch", "lax_3ch", "lax_4ch")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of the demonstration."""
    parser = argparse.ArgumentParser(
        prog="python -m cardiac_mri_mesh_motion.demo",
        description="Follows the left ventricle of a cine examination with a mesh. Without --input a heart is "
        "simulated that the network has never seen, and the result is compared with the truth.",
        epilog="Research use only: the network was trained on simulated data.",
    )
    parser.add_argument(
        "--input", type=Path, metavar="FOLDER", help="folder with your exams (DICOM or 4D NIfTI), or one of them"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("mesh_motion_demo"),
        metavar="FOLDER",
        help="results go here (default: %(default)s)",
    )
    parser.add_argument("--refine", type=int, default=0, metavar="STEPS", help="steps of test-time refinement")
    parser.add_argument("--frames", type=int, default=20, help="frames of the simulated heart (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=UNSEEN_SEED, help="seed of the simulated heart (default: %(default)s)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace earlier results that came from other settings"
    )
    options = parser.parse_args(arguments)
    if options.input is not None and not options.input.exists():
        parser.error(f"--input: there is no '{options.input}'")
    return options


def simulate_exam(folder: Path, seed: int, frames: int) -> tuple[Path, dict[str, Any]]:
    """Simulate one examination; the folder to give to inference, which holds the images alone, and the truth."""
    truth, exam = folder / "truth", folder / "exams" / "simulated_heart"
    truth.mkdir(parents=True, exist_ok=True)
    exam.mkdir(parents=True, exist_ok=True)
    case = simulate_heart_exam(truth, seed, frames=frames)
    for view in VIEWS:
        shutil.copy(truth / case[view], exam)
    return exam.parent, case


def inference_command(options: argparse.Namespace, exams: Path, results: Path) -> list[str]:
    """The command that a user would type for the same run."""
    command = inference_of(BUNDLE_ROOT, exams, results)
    if options.refine:
        command += ["--refine_steps", str(options.refine)]
    if options.overwrite or options.input is None:
        command += ["--overwrite", "True"]
    return [*command, "--tracking", "mlflow", "--experiment_name", EXPERIMENT]


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
    started = time.monotonic()
    output = options.output.expanduser().resolve()
    case: dict[str, Any] = {}
    if options.input is None:
        output = output / "simulated_heart"
        print(f"Simulating a heart (seed {options.seed}) that the network has never seen ...", flush=True)
        exams, case = simulate_exam(output, options.seed, options.frames)
    else:
        exams = options.input.expanduser().resolve()
    results = output / "results"
    command = inference_command(options, exams, results)
    code = run_shown(command)
    if code not in (0, FAILED_STUDIES):
        return code
    print_results(results)
    if case and code == 0:
        print_comparison(results, case)
    print(
        f"\nDone in {time.monotonic() - started:.0f} s. Research use only: the network was trained on simulated data."
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
