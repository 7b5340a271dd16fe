"""One command that shows the bundle at work: on a simulated eye, or on the user's own images.

python -m retinal_octa_vessel_segmentation.demo
python -m retinal_octa_vessel_segmentation.demo --input FOLDER --fov-mm 6
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clinbundles.demonstration import (
    demonstrate,
    demonstration_parser,
    inference_of,
    parsed,
    print_mlflow_command,
    tracked,
)
from retinal_octa_vessel_segmentation.scanner.scanner_phantom import simulate_scanner_case

BUNDLE_ROOT = Path(__file__).resolve().parent
SEVERITY = 0.6


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of the demonstration."""
    parser = demonstration_parser(
        BUNDLE_ROOT,
        "Segments the vessels of en-face OCT angiographs with the bundle's weights and measures them.",
        "octa_demo",
        "folder with your images (PNG, BMP, TIFF, JPEG, NIfTI or DICOM en-face), or one image; folders below are "
        "searched too. A table studies.csv in it (columns file, fov_mm, eye, layer) may say more of single files",
        "a diseased eye",
    )
    parser.add_argument(
        "--fov-mm",
        type=float,
        nargs="+",
        metavar="MM",
        help="field of view of your images on the retina: '6', or height and width '3 3'; needed for files that state "
        "no pixel size",
    )
    parser.add_argument("--eye", choices=("OD", "OS"), help="right (OD) or left (OS) eye, where the files do not say")
    options = parsed(parser, arguments)
    if options.fov_mm is not None and len(options.fov_mm) > 2:
        parser.error("--fov-mm takes one number or two (height and width)")
    return options


def simulate_eye(folder: Path, seed: int) -> tuple[Path, dict[str, Any]]:
    """Simulate a diseased eye and its scan; the folder to give to inference, the image alone in it, and the case."""
    truth, images = folder / "truth", folder / "images"
    truth.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    case = simulate_scanner_case(truth, seed, severity=SEVERITY)
    (images / "simulated_eye.png").write_bytes((truth / case["image"]).read_bytes())
    with (images / "studies.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "fov_mm", "eye", "layer"])
        writer.writerow(["simulated_eye.png", " ".join(map(str, case["fov_mm"])), case["eye"], case["layer"]])
    return images, case


def inference_command(options: argparse.Namespace, images: Path, results: Path) -> list[str]:
    """The command that a user would type for the same run."""
    command = inference_of(BUNDLE_ROOT, images, results, options)
    if options.fov_mm is not None and options.input is not None:
        command += ["--fov_mm", json.dumps(options.fov_mm)]
    if options.eye is not None and options.input is not None:
        command += ["--eye", options.eye]
    return command + tracked(BUNDLE_ROOT)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice of two boolean masks; 1 where both are empty."""
    size = int(first.sum()) + int(second.sum())
    return 1.0 if size == 0 else 2.0 * int((first & second).sum()) / size


def print_comparison(folder: Path, study: Path) -> None:
    """Compare the result of the simulated eye with the truth."""
    labels = np.asarray(Image.open(folder / "truth" / "label.png"))
    vessels = np.asarray(Image.open(study / f"{study.name}_vessels.png")) > 0
    larger = np.asarray(Image.open(study / f"{study.name}_larger_vessels.png")) > 0
    faz = np.asarray(Image.open(study / f"{study.name}_faz.png")) > 0
    true_faz = np.asarray(Image.open(folder / "truth" / "faz.png")) > 0
    pixel_mm2 = (3.0 / labels.shape[0]) ** 2
    print("\nAgainst the known truth of the simulated eye:")
    print(f"  Dice of all vessels      {dice(vessels, labels > 0):.3f}")
    print(f"  Dice of larger vessels   {dice(larger, labels == 2):.3f}")
    print(f"  vessel area density      {vessels.mean():.3f}  (truth {(labels > 0).mean():.3f})")
    print(f"  FAZ area                 {faz.sum() * pixel_mm2:.3f} mm2  (truth {true_faz.sum() * pixel_mm2:.3f} mm2)")


def print_results(results: Path) -> None:
    """Say where the results of the first studies are."""
    studies = [record.parent for record in sorted(results.rglob("*_done.json"))]
    print(f"\nResults of {len(studies)} image(s) in {results}")
    for study in studies[:3]:
        stem = study / study.name
        print(f"  {study.relative_to(results)}")
        print(f"    vessel mask        {stem}_vessels.png  (larger vessels: _larger_vessels.png, FAZ: _faz.png)")
        print(f"    probability map    {stem}_probability.tiff")
        print(f"    biomarkers         {stem}_biomarkers.csv  and  .json  (with units)")
        print(f"    figure             {stem}_overlay.png")
    print(f"  table of all images  {results / 'results.csv'}")
    print_mlflow_command(results)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the exit code of the inference."""
    options = parse_arguments(arguments)
    return demonstrate(
        options,
        "simulated_eye",
        lambda folder: simulate_eye(folder, options.seed),
        lambda images, results: inference_command(options, images, results),
        print_results,
        lambda output, results, _: print_comparison(output, results / "simulated_eye"),
    )


if __name__ == "__main__":
    sys.exit(main())
