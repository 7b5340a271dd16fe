"""What the demonstrations of all bundles do alike: run the user's own command, say how to see it in MLflow."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

FAILED_STUDIES = (
    3  # as clinbundles.engines.study_evaluator, whose import costs seconds: some studies failed, others not
)


def inference_of(bundle_root: Path, dataset_dir: Path, results: Path) -> list[str]:
    """The command that a user would type for inference over a folder, without further settings."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(bundle_root)]
    command += ["--config_file", str(bundle_root / "configs" / "inference.yaml")]
    return [*command, "--dataset_dir", str(dataset_dir), "--output_dir", str(results)]


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
