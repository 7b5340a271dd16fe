"""`membership`: does a trained network tell who was in its training set, beyond its guarantee?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from clinbundles.privacy.accounting.statement import STATEMENT_FILE, read_statement
from clinbundles.privacy.auditing.membership_inference import membership_report
from clinbundles.privacy.auditing.sample_losses import sample_losses
from clinbundles.privacy.commands.bundle_training import add_bundle_arguments, bundle_config, bundle_trainer, tell
from clinbundles.privacy.commands.command_result import CommandError, CommandResult

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bundle, and its trained weights."""
    add_bundle_arguments(parser)
    parser.add_argument(
        "--weights", type=Path, help="trained weights (default ckpt_dir/model.pt), privacy_statement.json beside them"
    )


def run(options: argparse.Namespace, overrides: Sequence[str]) -> CommandResult:
    """Losses of training_cases against those of validation_cases, both prepared as for validation."""
    parser = bundle_config(options, overrides)
    weights = options.weights or Path(parser.get_parsed_content("ckpt_dir")) / "model.pt"
    if not weights.is_file():
        raise CommandError(f"there are no weights {weights}: train first, or give --weights")
    beside = weights.parent / STATEMENT_FILE
    statement = read_statement(beside if beside.is_file() else options.bundle_root)
    trainer = bundle_trainer(parser)
    network = trainer.network if trainer.average is None else trainer.average.network
    network.load_state_dict(torch.load(weights, map_location=trainer.state.device, weights_only=True))
    members, others = _PreparedRecords(parser, "training_cases"), _PreparedRecords(parser, "validation_cases")
    tell(f"losses of {len(members)} training and {len(others)} validation records ...")
    report = membership_report(
        sample_losses(trainer, members),
        sample_losses(trainer, others),
        epsilon=statement.epsilon,
        delta=statement.delta,
    )
    text = (
        f"AUC                    {report.auc:.3f} ({report.auc_interval[0]:.3f} to {report.auc_interval[1]:.3f}), "
        f"allowed {report.auc_allowed:.3f}\n"
        f"hits at 1 % alarms     {report.hit_rate:.4f} ({report.hit_interval[0]:.4f} to {report.hit_interval[1]:.4f}), "
        f"allowed {report.hit_allowed:.4f}"
    )
    return CommandResult(report.verdict, report.passed, report.to_dict(), text)


class _PreparedRecords(Sequence[Any]):
    """Cases of the config under the transforms of the validation, which have no chance in them."""

    def __init__(self, parser: ConfigParser, cases: str) -> None:
        self.cases: list[Any] = parser.get_parsed_content(cases)
        self.transform = parser.get_parsed_content("validate#dataset").transform

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: Any) -> Any:
        return self.transform(self.cases[index])
