"""One command that shows the bundle at work: on a simulated heart, or on the user's own exams.

python -m cardiac_mri_multiview_motion.demo
python -m cardiac_mri_multiview_motion.demo --input FOLDER
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from clinbundles.demonstration import demonstrate, demonstration_parser, inference_of, parsed
from clinbundles.demonstration_exam import simulate_exam
from clinbundles.motion.displacement_field import DisplacementField
from clinbundles.motion.motion_errors import end_point_errors
from clinbundles.motion.motion_truth import read_motion_truth

BUNDLE_ROOT = Path(__file__).resolve().parent


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of the demonstration."""
    parser = demonstration_parser(
        BUNDLE_ROOT,
        "Tracks the heart in cine exams with the bundle's weights and measures volumes and strain.",
        "multiview_motion_demo",
        "folder with one exam or with a folder for each: DICOM series, or 4D NIfTI files under any name",
        "a heart",
    )
    return parsed(parser, arguments)


def simulate(folder: Path, seed: int) -> tuple[Path, dict[str, Any]]:
    """Simulate one exam; the folder to give to inference, which holds the images alone, and what is known of it."""
    exams, case = simulate_exam(folder, seed, frames=16, slice_spacing_mm=10.0, shift_mm=1.0)
    print(f"  true ejection fraction {100 * case['ef']:.0f} %, end-diastolic volume {case['edv_ml']:.0f} mL")
    return exams, case


def print_comparison(output: Path, results: Path) -> None:
    """Compare the written field of the simulated heart with its exact motion."""
    study = next(path.parent for path in sorted(results.rglob("*_displacement.nii.gz")))
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
    return demonstrate(
        options,
        "simulated_heart",
        lambda folder: simulate(folder, options.seed),
        lambda exams, results: inference_of(BUNDLE_ROOT, exams, results, options),
        print_results,
        lambda output, results, _: print_comparison(output, results),
    )


if __name__ == "__main__":
    sys.exit(main())
