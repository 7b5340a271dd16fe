"""What the demonstrations of all bundles do alike: their options, the user's own command, where to see the run."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

UNSEEN_SEED = 900001  # no data set uses seeds as high as this
FAILED_STUDIES = (
    3  # as clinbundles.engines.study_evaluator, whose import costs seconds: some studies failed, others not
)


def demonstration_parser(
    bundle_root: Path, description: str, output: str, input_help: str, simulated: str
) -> argparse.ArgumentParser:
    """The options of every demonstration: --input, --output, --seed and --overwrite.

    Args:
        bundle_root: folder of the bundle.
        description: what the bundle does.
        output: default folder of the results.
        input_help: what --input takes.
        simulated: what is simulated without --input, such as "a heart".
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {bundle_root.name}.demo",
        description=f"{description} Without --input {simulated} is simulated that the network has never seen, and the "
        "result is compared with the truth.",
        epilog="Research use only: the network was trained on simulated data.",
    )
    parser.add_argument("--input", type=Path, metavar="FOLDER", help=input_help)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(output),
        metavar="FOLDER",
        help="results go here (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=UNSEEN_SEED,
        help="seed of the simulation (default: %(default)s); no effect with --input",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace earlier results that came from other settings"
    )
    parser.set_defaults(simulated=simulated)
    return parser


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the process where --input does not exist."""
    options = parser.parse_args(arguments)
    if options.input is not None and not options.input.exists():
        parser.error(f"--input: there is no '{options.input}'")
    return options


def inference_of(bundle_root: Path, dataset_dir: Path, results: Path, options: argparse.Namespace) -> list[str]:
    """The command that a user would type for inference over a folder; a simulated patient replaces the one before."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(bundle_root)]
    command += ["--config_file", str(bundle_root / "configs" / "inference.yaml")]
    command += ["--dataset_dir", str(dataset_dir), "--output_dir", str(results)]
    return [*command, "--overwrite", "True"] if options.overwrite or options.input is None else command


def tracked(bundle_root: Path) -> list[str]:
    """Overrides that record the demonstration in MLflow."""
    return ["--tracking", "mlflow", "--experiment_name", f"{bundle_root.name}_demo"]


def demonstrate(
    options: argparse.Namespace,
    name: str,
    simulate: Callable[[Path], tuple[Path, dict[str, Any]]],
    command: Callable[[Path, Path], list[str]],
    show: Callable[[Path], None],
    compare: Callable[[Path, Path, dict[str, Any]], None],
) -> int:
    """Simulate a patient unless the user gives some, run the inference and show what came out; returns its exit code.

    Args:
        options: of :func:`parsed`.
        name: of the folder of the simulated patient.
        simulate: makes it in that folder; returns the folder to give to inference, and what is known of it.
        command: of input and results.
        show: says what lies where in the results.
        compare: prints results against truth; of the simulated patient's folder, the results, and what is known.
    """
    started = time.monotonic()
    output = options.output.expanduser().resolve()
    case: dict[str, Any] = {}
    if options.input is None:
        output = output / name
        print(f"Simulating {options.simulated} (seed {options.seed}) that the network has never seen ...", flush=True)
        images, case = simulate(output)
    else:
        images = options.input.expanduser().resolve()
    results = output / "results"
    code = run_shown(command(images, results))
    if code not in (0, FAILED_STUDIES):
        return code
    show(results)
    if options.input is None and code == 0:
        compare(output, results, case)
    print(
        f"\nDone in {time.monotonic() - started:.0f} s. Research use only: the network was trained on simulated data."
    )
    return code


def run_shown(command: list[str]) -> int:
    """Print a command and run it; returns its exit code. Says so if it is neither 0 nor that of failed studies."""
    print(f"\nRunning:\n  {shlex.join(command)}\n", flush=True)
    code = subprocess.run(command, check=False).returncode
    if code not in (0, FAILED_STUDIES):
        print(f"\nThe inference ended with exit code {code}: the last lines above say why.", file=sys.stderr)
    return code


def print_mlflow_command(results: Path) -> None:
    """Say how to look at the run in MLflow."""
    store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{results / 'mlruns.db'}"
    show = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store]
    print("\nTo see the run in MLflow, start this and open http://127.0.0.1:5000 :")
    print(f"  {shlex.join(show)}")
