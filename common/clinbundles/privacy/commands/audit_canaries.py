"""`audit-canaries`: train as the bundle's config says, with canaries, and bound epsilon from below."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from clinbundles.privacy.auditing.gradient_canaries import GradientCanaries
from clinbundles.privacy.auditing.one_run_audit import audit_scores
from clinbundles.privacy.auditing.record_canaries import RecordCanaries
from clinbundles.privacy.commands.bundle_training import add_bundle_arguments, bundle_config, bundle_trainer, tell
from clinbundles.privacy.commands.command_result import CommandResult

__all__ = ["add_arguments", "run"]

HELP = "one training with canaries: how large is epsilon at least? Best with --epsilon 1"
ATTACKS = ("white-box", "black-box")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bundle, and the attack."""
    add_bundle_arguments(parser)
    parser.add_argument(
        "--attack",
        choices=ATTACKS,
        default=ATTACKS[0],
        help="white-box (default): the attacker sees every update, canaries are gradients; black-box: the attacker has "
        "the final network, canaries are records with wrong labels",
    )
    parser.add_argument("--canaries", type=int, default=1000, help="number of canaries (default 1000)")
    parser.add_argument("--audit_seed", type=int, default=0, help="of canaries and coins (default 0)")


def run(options: argparse.Namespace, overrides: Sequence[str]) -> CommandResult:
    """Train once, throw the network away, and give the bound."""
    trainer = bundle_trainer(bundle_config(options, overrides))
    plan = trainer.plan
    tell(f"one training of {plan.steps} steps with {options.canaries} canaries; its network is thrown away ...")
    if options.attack == "white-box":
        with GradientCanaries(trainer.optimizer, options.canaries, options.audit_seed) as canaries:
            trainer.run()
        scores, included = canaries.scores, canaries.included
    else:
        records = RecordCanaries(trainer, options.canaries, options.audit_seed)
        trainer.run()
        scores, included = records.scores(), records.included
    claimed = trainer.ledger.epsilon(plan.delta) if plan.is_private else math.inf
    audit = audit_scores(scores, included, epsilon=claimed, delta=plan.delta)
    text = (
        f"canaries       {audit.canaries}, of which {audit.included} were trained on ({options.attack})\n"
        f"epsilon        at least {audit.epsilon_lower:.3f} ({audit.confidence:.0%} confidence), claimed {claimed:.3f}"
    )
    return CommandResult(audit.verdict, audit.passed, {**audit.to_dict(), "attack": options.attack}, text)
