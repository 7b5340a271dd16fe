"""One command that shows the bundle at work: on a simulated heart, or on the user's own exams.

python -m cardiac_mri_multiview_motion.demo
python -m cardiac_mri_multiview_motion.demo --input FOLDER
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch

from clinbundles.demonstration import FAILED_STUDIES, inference_of, run_shown
from clinbundles.motion.displacement_field import DisplacementField
from clinbundles.motion.motion_errors import end_point_errors
from clinbundles.motion.motion_truth import read_motion_truth
from clinbundles.phantoms.heart.simulated_exam import simulate_heart_exam

BUNDLE_ROOT = Path(__file__).resolve().parent
UNSEEN_SEED = 900001  # no data set uses seeds as high as this
VIEWS = ("sax", "lax_2ch", "lax_3ch", "lax_4ch")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of the demonstration."""
    parser = argparse.ArgumentParser(
        prog="python -m cardiac_mri_multiview_motion.demo",
        description="Tracks the heart in cine exams with the bundle's weights and measures volumes and strain. Without "
        "--input a heart is simulated that the network has never seen, and the result is compared with the truth.",
        epilog="Research use only: the network was trained on simulated data.",
    )
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FOLDER",
        help="folder with one exam or with a folder for each: DICOM series, or 4D NIfTI files under any name",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("multiview_motion_demo"), metavar="FOLDER", help="default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=UNSEEN_SEED, help="of the simulated heart (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace results that came from other settings")
    options = parser.parse_args(arguments)
    if options.input is not None and not options.input.exists():
        parser.error(f"--input: there is no '{options.input}'")
    return options


def simulate_exam(folder: Path, seed: int) -> Path:
    """Simulate one exam; returns the folder to give to inference, which holds the images alone."""
    truth, exam = folder / "truth", folder / "exams" / "simulated_heart"
    truth.mkdir(parents=True, exist_ok=True)
    exam.mkdir(parents=True, exist_ok=True)
    case = simulate_heart_exam(truth, seed, frames=16, slice_spacing_mm=10.0, shift_mm=1.0)
    for view in VIEWS:
        shutil.copy(truth / case[view], exam / case[view])
    print(f"  true ejection fraction {100 * case['ef']:.0f} %, end-diastolic volume {case['edv_ml']:.0f} mL")
    return exam.parent


def inference_command(options: argparse.Namespace, exams: Path, results: Path) -> list[str]:
    """The command that a user would type for the same run."""
    command = inference_of(BUNDLE_ROOT, exams, results)
    return [*command, "--overwrite", "True"] if options.overwrite or options.input is None else command


def print_comparison(output: Path, study: Path) -> None:
    """Compare the written field of the simulated heart with its exact motion."""
    image = nibabel.load(study / f"{study.name}_displacement.nii.gz")
    # the grid's axes are those of the exam frame, its middle is the frame's origin
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    frame_to_world = np.eye(4)
    frame_to_world[:3, :3] = image.affine[:3, :3] / spacing
    middle = (np.asarray(image.shape[:3]) - 1) / 2
    frame_to_world[:3, 3] = image.affine[:3, :3] @ middle + image.affine[:3, 3]
    truth = read_motion_truth(output / "truth" / "truth.npz", frame_to_world)
    world = np.asarray(image.dataobj, dtype=np.float32)
    exam = np.einsum("ijktw,wc->tcijk", world, frame_to_world[:3, :3].astype(np.float32))
    field = DisplacementField(torch.from_numpy(np.ascontiguousarray(exam)), "t", tuple(spacing.tolist()))
    points = truth.points[None].expand(len(exam), -1, -1)
    errors = end_point_errors((field.from_ed(points) - points)[1:], truth.displacements[1:], truth.axes)
    still = end_point_errors(0 * truth.displacements[1:], truth.displacements[1:], truth.axes)
    print(f"\nMean error of the motion of {points.shape[1]} points of the wall, {len(exam) - 1} frames (no motion):")
    for name, error in errors.items():
        print(f"  {name:16s} {error:5.2f} mm   ({still[name]:.2f} mm)")


def print_results(results: Path) -> None:
    """Say where what is."""
    with (results / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    print(f"\nResults of {len(rows)} exam(s) in {results}")
    for row in rows[:3]:
        print(f"  {row['study']}: EDV {row['edv_ml']} mL, ESV {row['esv_ml']} mL, EF {row['ejection_fraction']}")
    print("  of each exam: _displacement.nii.gz (field), _sax_labels.nii.gz, _strain.csv, _volumes.csv, _report.json,")
    print("  _contours.png, _bulls_eye.png, _volume_curve.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the exit code of the inference."""
    options = parse_arguments(arguments)
    started = time.monotonic()
    output = options.output.expanduser().resolve()
    if options.input is None:
        output = output / "simulated_heart"
        print(f"Simulating a heart (seed {options.seed}) that the network has never seen ...", flush=True)
        exams = simulate_exam(output, options.seed)
    else:
        exams = options.input.expanduser().resolve()
    results = output / "results"
    command = inference_command(options, exams, results)
    code = run_shown(command)
    if code not in (0, FAILED_STUDIES):
        return code
    print_results(results)
    if options.input is None and code == 0:
        print_comparison(output, next(path.parent for path in sorted(results.rglob("*_displacement.nii.gz"))))
    print(
        f"\nDone in {time.monotonic() - started:.0f} s. Research use only: the network was trained on simulated data."
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
