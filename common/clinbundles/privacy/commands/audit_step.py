"""`audit-step`: the white-box audit of a bundle's own training step."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from clinbundles.privacy.auditing.step_audit import audit_step
from clinbundles.privacy.auditing.trainer_step import TrainerStep
from clinbundles.privacy.commands.bundle_training import add_bundle_arguments, bundle_config, bundle_trainer, tell
from clinbundles.privacy.commands.command_result import CommandResult

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bundle, and how thorough the audit is."""
    add_bundle_arguments(parser)
    parser.add_argument("--audit_steps", type=int, default=600, help="steps of each kind (default 600)")
    parser.add_argument("--audit_others", type=int, default=8, help="units beside the audited one (default 8)")
    parser.add_argument(
        "--audit_noise", type=float, default=0.25, help="noise multiplier of the audited steps (default 0.25)"
    )


def run(options: argparse.Namespace, overrides: Sequence[str]) -> CommandResult:
    """Audit the trainer's own iteration."""
    trainer = bundle_trainer(bundle_config(options, overrides))
    tell(f"{2 * options.audit_steps} steps from the same weights ...")
    with TrainerStep(trainer, noise_multiplier=options.audit_noise, others=options.audit_others) as step:
        audit = audit_step(step, step.direction, **step.promise, steps=options.audit_steps)
    text = (
        f"effect of one unit  {audit.shift:.3f} clipping norms (promised 1)\n"
        f"noise               {audit.noise:.4f} clipping norms (promised {audit.noise_multiplier:g})\n"
        f"distance mu         {audit.mu:.3f}, at least {audit.mu_lower:.3f} (promised {1 / audit.noise_multiplier:g})\n"
        f"epsilon of a step   at least {audit.epsilon_lower:.3f} (promised {audit.epsilon_claimed:.3f})"
    )
    return CommandResult(audit.verdict, audit.passed, audit.to_dict(), text)
