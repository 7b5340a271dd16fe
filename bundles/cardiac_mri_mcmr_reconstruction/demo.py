"""One command that shows the bundle at work: on a simulated slice, or on the user's own k-space.

python -m cardiac_mri_mcmr_reconstruction.demo
python -m cardiac_mri_mcmr_reconstruction.demo --input FOLDER
"""

from __future__ import annotations

import argparse
import csv
import shutil
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

BUNDLE_ROOT = Path(__file__).resolve().parent
ACCELERATION = 12.0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of the demonstration."""
    parser = demonstration_parser(
        BUNDLE_ROOT,
        "Reconstructs a cine from a small part of its k-space lines.",
        "mcmr_reconstruction_demo",
        "folder with your k-space (ISMRMRD, CMRxRecon MAT, BART, NumPy), or one file",
        "a slice of a heart",
    )
    parser.add_argument(
        "--acceleration",
        type=float,
        help="of fully sampled k-space, only this share of lines is used (default: 12 for the simulated slice; with "
        "--input all lines that are there)",
    )
    parser.add_argument(
        "--motion",
        choices=("network", "instance"),
        default="network",
        help="where fitting the motion to the cine begins; instance: at rest, needs no weights (default: %(default)s)",
    )
    parser.add_argument("--frames", type=int, default=25, help="frames of the simulated cine (default: %(default)s)")
    parser.add_argument("--matrix", type=int, default=128, help="its pixels on each side (default: %(default)s)")
    return parsed(parser, arguments)


def simulate_slice(folder: Path, seed: int, **settings: Any) -> tuple[Path, dict[str, Any]]:
    """Simulate k-space below ``folder``: the case into ``kspace/simulated_slice``, without the coils' true maps.

    Args:
        folder: of the demonstration.
        seed: of the heart.
        settings: of ``simulate_cine_kspace``.

    Returns:
        ``kspace``, the folder to give to inference, and the simulator's case.
    """
    from clinbundles.phantoms.cine_kspace import simulate_cine_kspace  # its import compiles for seconds

    truth, case_folder = folder / "truth", folder / "kspace" / "simulated_slice"
    for part in (truth, case_folder):
        part.mkdir(parents=True, exist_ok=True)
    size = settings["matrix"]
    case = simulate_cine_kspace(truth, seed, spacing_mm=2.25 * 128 / size, long_axis_share=0.0, **settings)
    for key in ("kspace", "reference", "truth"):
        shutil.copy(truth / case[key], case_folder)
    return case_folder.parent, case


def inference_command(options: argparse.Namespace, cases: Path, results: Path) -> list[str]:
    """The command that a user would type for the same run."""
    command = inference_of(BUNDLE_ROOT, cases, results, options)
    acceleration = options.acceleration or (ACCELERATION if options.input is None else None)
    if acceleration is not None:
        command += ["--acceleration", str(acceleration)]
    if options.motion != "network":
        command += ["--motion", options.motion]
    return command + tracked(BUNDLE_ROOT)


def print_comparison(results: Path) -> None:
    """Compare the reconstruction of the simulated slice with its reference."""
    with (results / "results.csv").open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    print(f"\nAgainst the noise-free reference, region of the heart, R = {float(row['acceleration']):.1f}:")
    print(f"  {'':22s} {'PSNR (dB)':>10s} {'SSIM':>7s} {'HFEN':>7s}")
    for name, start in (("this method", ""), ("view sharing", "view_sharing_")):
        psnr, ssim, hfen = (float(row[f"{start}roi_{score}"]) for score in ("psnr", "ssim", "hfen"))
        print(f"  {name:22s} {psnr:10.2f} {ssim:7.3f} {hfen:7.3f}")
    if row.get("epe"):
        error, still = float(row["epe"]), float(row["epe_static"])
        print(f"  error of the motion in the wall: {error:.2f} pixels (no motion: {still:.2f})")
    if row["method"] == "view sharing":
        print(f"  The motion was found implausible ({row['reasons']}): view sharing was kept.")


def print_results(results: Path) -> None:
    """Say where the results of the first cases are."""
    cases = [record.parent for record in sorted(results.rglob("*_done.json"))]
    print(f"\nResults of {len(cases)} slice(s) in {results}")
    for case in cases[:3]:
        stem = case / case.name
        print(f"  {case.relative_to(results)}")
        print(f"    cine       {stem}_magnitude.nii.gz, _phase.nii.gz")
        print(f"    figure     {stem}_reconstruction.png, film {case.name}_cine.gif")
        print(f"    report     {stem}_report.json; motion in {case.name}_template_flow.nii.gz")
    print(f"  table of all  {results / 'results.csv'}")
    print_mlflow_command(results)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the exit code of the inference."""
    options = parse_arguments(arguments)
    return demonstrate(
        options,
        "simulated_slice",
        lambda folder: simulate_slice(folder, options.seed, frames=options.frames, matrix=options.matrix),
        lambda cases, results: inference_command(options, cases, results),
        print_results,
        lambda _, results, case: print_comparison(results),
    )


if __name__ == "__main__":
    sys.exit(main())
