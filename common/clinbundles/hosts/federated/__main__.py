"""Train one bundle at several sites that share weights and no images.

Simulates the sites on this machine with NVIDIA FLARE, or writes the job that hospitals submit to their FLARE server.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from clinbundles.handlers import MlflowRun, local_tracking_uri, tracked_run
from clinbundles.hosts.federated.federated_job import FederatedPlan, make_job
from clinbundles.hosts.federated.federated_plan import make_plan, read_overrides, training_config_names
from clinbundles.hosts.federated.round_table import EVERY_SITE
from clinbundles.hosts.federated.simulation import simulate
from clinbundles.hosts.hosted_bundle import HostedBundle, find_bundle

EXAMPLES = """
Two simulated sites share the bundle's simulated set; every id of the training config can be set:
  python -m clinbundles.hosts.federated retinal_octa_vessel_segmentation --rounds 5 --learning_rate 0.0005

Each site has a folder of its own (dataset_dir of the training; a manifest.yaml in it is used):
  python -m clinbundles.hosts.federated BUNDLE --site_data HOSPITAL_A HOSPITAL_B --output_dir RESULTS

For hospitals, who set CLINBUNDLES_SITE_DATA and CLINBUNDLES_SITE_OUTPUT at their FLARE clients:
  python -m clinbundles.hosts.federated BUNDLE --sites 3 --min_sites 2 --export_job JOBS
"""


def parse_arguments(words: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The command's own arguments, and the words that override config ids."""
    parser = argparse.ArgumentParser(
        prog="python -m clinbundles.hosts.federated",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("bundle", help="name of an installed bundle, or its folder")
    parser.add_argument("--sites", type=int, help="number of sites (default: 2, or one per folder of --site_data)")
    parser.add_argument("--rounds", type=int, default=3, help="times that the shared model goes out (default: 3)")
    parser.add_argument("--local_epochs", type=int, default=2, help="epochs of each site in a round (default: 2)")
    parser.add_argument("--site_data", nargs="+", default=[], metavar="FOLDER", help="one folder of cases per site")
    parser.add_argument("--config", nargs="+", default=[], help="configs of the training instead of the bundle's usual")
    parser.add_argument("--output_dir", type=Path, default=None, help="default: output/BUNDLE/federated")
    parser.add_argument(
        "--min_sites",
        type=int,
        help="sites that must deliver in each round (default: all; one that fails ends the run)",
    )
    parser.add_argument(
        "--wait",
        type=int,
        default=600,
        metavar="S",
        help="seconds to wait for the others after min_sites (default: 600)",
    )
    parser.add_argument(
        "--round_limit", type=int, default=0, metavar="S", help="longest round in seconds (default: none)"
    )
    parser.add_argument(
        "--largest_update",
        type=float,
        default=5.0,
        metavar="TIMES",
        help="an update larger than so many times the round's median, not finite, or against all others is left out "
        "(default: 5; 0: average whatever is sent)",
    )
    parser.add_argument("--export_job", type=Path, metavar="FOLDER", help="write the FLARE job there and run nothing")
    parser.add_argument("--tracking", choices=["mlflow"], help="record the training as one MLflow run")
    parser.add_argument("--tracking_uri", help="MLflow server or store (default: mlruns.db in output_dir)")
    parser.add_argument("--experiment_name", help="MLflow experiment (default: name of the bundle)")
    return parser.parse_known_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 1 after an error that is the user's to mend."""
    options, rest = parse_arguments(words)
    try:
        run(options, rest)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace, words: Sequence[str]) -> None:
    """Simulate, or write the job."""
    bundle = find_bundle(options.bundle)
    configs = training_config_names(bundle, options.config, own_cases=bool(options.site_data or options.export_job))
    output_dir = options.output_dir or Path("output") / bundle.name / "federated"
    plan = make_plan(
        bundle,
        configs,
        read_overrides(bundle, configs, words),
        rounds=options.rounds,
        local_epochs=options.local_epochs,
        sites=options.sites or len(options.site_data) or 2,
        min_sites=options.min_sites,
        output_dir=None if options.export_job else output_dir,
        site_data=options.site_data,
        wait_s=options.wait,
        round_limit_s=options.round_limit,
        largest_update=options.largest_update,
    )
    if options.export_job:
        print(f"job written: {export_job(plan, bundle, options.export_job)}")
        return
    print(f"{bundle.name}: {len(plan.sites)} sites, {plan.rounds} rounds of {plan.local_epochs} epochs; starting FLARE")
    with contextlib.ExitStack() as stack:
        record = stack.enter_context(tracking(options, plan, bundle, output_dir)) if options.tracking else None
        rows = simulate(plan, output_dir)
        if record is not None:
            log_rows(record, rows)
            for name in ("rounds.csv", "updates.csv", "rounds.png", "models/model.pt"):
                record.log_file(output_dir / name)
    print(f"shared model: {output_dir / 'models' / 'model.pt'}")
    print(f"metrics by round and site: {output_dir / 'rounds.csv'}; updates of the sites: {output_dir / 'updates.csv'}")
    print(bundle.notice)


def export_job(plan: FederatedPlan, bundle: HostedBundle, folder: Path) -> Path:
    """Write the FLARE job of a plan into a folder; returns the job's own folder."""
    name = f"{bundle.name}_federated"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as draft:
        make_job(plan, name, Path(draft)).export_job(str(folder))
    return folder / name


def tracking(
    options: argparse.Namespace, plan: FederatedPlan, bundle: HostedBundle, output_dir: Path
) -> AbstractContextManager[MlflowRun]:
    """One MLflow run for the whole training, by the coordinator; the sites track nothing."""
    numbers = {"sites": len(plan.sites), "rounds": plan.rounds, "local_epochs": plan.local_epochs}
    limits = {"min_sites": plan.min_sites, "largest_update": plan.largest_update, "configs": " + ".join(plan.configs)}
    output_dir.mkdir(parents=True, exist_ok=True)
    return tracked_run(
        "train",
        bundle.name,
        tracking_uri=options.tracking_uri or local_tracking_uri(str(output_dir)),
        experiment=options.experiment_name or bundle.name,
        version=bundle.version,
        parameters={**numbers, **limits, "settings": dict(plan.settings)},
        tags={"clinbundles.federated": "simulation"},
    )


def log_rows(record: MlflowRun, rows: Sequence[dict[str, Any]]) -> None:
    """Metrics of the shared model: the mean under its own name, a site's as `site-1.dice`; steps are rounds."""
    for row in rows:
        prefix = "" if row["site"] == EVERY_SITE else f"{row['site']}."
        metrics = {f"{prefix}{name}": value for name, value in row.items() if name not in ("round", "site")}
        record.log_metrics(metrics, step=row["round"])


if __name__ == "__main__":
    sys.exit(main())
