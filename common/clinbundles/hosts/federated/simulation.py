"""A federated training on one machine: FLARE's simulator, a process per site, and what it leaves for the user."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvflare.recipe.sim_env import SimEnv

from clinbundles.data.atomic_file import atomic_path
from clinbundles.hosts.federated import client
from clinbundles.hosts.federated.federated_job import FederatedPlan, make_job
from clinbundles.hosts.federated.round_table import EVERY_SITE, round_figure, round_rows, write_rows
from clinbundles.hosts.federated.screened_aggregation import UPDATE_TABLE
from clinbundles.hosts.federated.shared_network import initial_network, save_weights

_JOB = "federated"
_POLL_S = 1.0


class SimulationError(RuntimeError):
    """FLARE ended the training; the message has its reason."""


def simulate(
    plan: FederatedPlan,
    output_dir: Path,
    print_line: Callable[[str], Any] = print,
    client_script: Path = Path(client.__file__),
) -> list[dict[str, Any]]:
    """Train, and write `models/model.pt`, `rounds.csv`, `rounds.png` and `updates.csv` into `output_dir`.

    FLARE's own files, its log above all, go to `flare/` there, the sites' to `sites/`.

    Args:
        plan: with one entry in `sites` for each site.
        output_dir: folder of the results; a `flare` folder of an earlier run in it is replaced.
        print_line: how a line is shown to the user.
        client_script: what the sites run.

    Returns:
        The rows of `rounds.csv`.

    Raises:
        SimulationError: FLARE gave up; says why and where the log is.
    """
    work = output_dir.resolve() / "flare"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    server = work / _JOB / "server" / "simulate_job"
    log = work / "log.txt"
    flare = multiprocessing.get_context("fork").Process(target=_run_flare, args=(plan, work, log, client_script))
    flare.start()
    shown: set[int] = set()
    while flare.is_alive():
        flare.join(_POLL_S)
        with contextlib.suppress(ValueError):  # a line that is being written
            _show_rounds(round_rows(server, plan.rounds), plan.key_metric, shown, print_line)
    if flare.exitcode != 0:
        raise SimulationError(f"{_reason(log)} (all of FLARE's messages: {log})")
    rows = round_rows(server, plan.rounds)
    _show_rounds(rows, plan.key_metric, shown, print_line)
    write_rows(output_dir / "rounds.csv", rows)
    with atomic_path(output_dir / "rounds.png") as draft:
        round_figure(rows, plan.key_metric).savefig(draft, format="png", dpi=120)
    shutil.copy(server / UPDATE_TABLE, output_dir / UPDATE_TABLE)
    network = initial_network(plan.bundle, plan.configs, {**plan.settings, **plan.initial})
    save_weights(server / "app_server" / "FL_global_model.pt", network, output_dir / "models" / "model.pt")
    return rows


def _run_flare(plan: FederatedPlan, work: Path, log: Path, client_script: Path) -> None:
    """Run the simulator in this process of its own, with its hundreds of lines per round in a file."""
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    with tempfile.TemporaryDirectory() as short:  # FLARE builds its commands without quotes: no blank may be in a path
        link = Path(short) / "flare"
        link.symlink_to(work, target_is_directory=True)
        job = make_job(plan, _JOB, work / "job", client_script)
        SimEnv(clients=list(plan.sites), workspace_root=str(link)).deploy(job)


def _reason(log: Path) -> str:
    """What FLARE says of the end of a run, and the error of the first site that had one."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line]
    fatal = [line for line in errors if "FATAL_SYSTEM_ERROR" in line] or errors[-1:]
    at_a_site = [before for before, line in itertools.pairwise(lines) if line.endswith("fire abort event")]
    found = [line.split(" - ")[-1] for line in (*at_a_site[:1], *fatal[:1])]
    return "; ".join(found) or "FLARE's simulator ended without a word"


def _show_rounds(rows: list[dict[str, Any]], metric: str, shown: set[int], print_line: Callable[[str], Any]) -> None:
    for row in rows:
        number = row["round"]
        if row["site"] != EVERY_SITE or number in shown or metric not in row:
            continue
        shown.add(number)
        of_round = [other for other in rows if other["round"] == number and other is not row and metric in other]
        sites = ", ".join(f"{other['site']} {other[metric]:.3f}" for other in of_round)
        print_line(f"after {number} round{'s' * (number != 1)}: {metric} {row[metric]:.3f} ({sites})")
