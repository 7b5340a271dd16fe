"""`plan`: what a privacy budget costs, before any data are touched."""

from __future__ import annotations

import argparse

from clinbundles.privacy.accounting.plan import UNITS, plan_budget
from clinbundles.privacy.commands.command_result import CommandResult

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The numbers of `plan_budget`."""
    parser.add_argument("--units", type=int, required=True, help="records or patients in the training set")
    parser.add_argument("--unit", choices=UNITS, default="record", help="what is protected (default record)")
    parser.add_argument("--epsilon", type=float, required=True, help="budget; 1 to 8 are usual")
    parser.add_argument("--delta", type=float, help="probability that the bound fails (default 1/(10 units))")
    parser.add_argument("--expected_batch", type=float, required=True, help="mean number of units in a batch")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="logical steps of the training")
    length.add_argument("--epochs", type=float, help="how often each unit is drawn on average")
    parser.add_argument("--max_grad_norm", type=float, default=1.0, help="clipping norm (default 1)")
    parser.add_argument("--views", type=int, default=1, help="augmented views of each record (default 1)")
    parser.add_argument("--parameters", type=int, help="trainable parameters, for the signal-to-noise ratio")


def run(options: argparse.Namespace) -> CommandResult:
    """Solve for the noise and describe the training."""
    plan = plan_budget(
        options.units,
        options.unit,
        epsilon=options.epsilon,
        delta=options.delta,
        expected_batch=options.expected_batch,
        steps=options.steps,
        epochs=options.epochs,
        max_grad_norm=options.max_grad_norm,
        views=options.views,
    )
    spent, half = plan.epsilon_after(plan.steps), plan.epsilon_after(plan.steps // 2)
    rows = {
        "units": f"{plan.units} ({plan.unit}s)",
        "budget": f"epsilon {plan.epsilon:g} at delta {plan.delta:.3g}",
        "sample rate": f"{plan.sample_rate:.6g} ({plan.expected_batch:.6g} units expected in a batch)",
        "steps": f"{plan.steps} ({plan.epochs:.4g} epochs)",
        "noise multiplier": f"{plan.noise_multiplier:.4f} (times the clipping norm of {plan.max_grad_norm:g})",
        "epsilon spent": f"{spent:.4f} (PRV), {half:.4f} half-way",
    }
    report = {**plan.to_dict(), "spent": spent, "expected_batch": plan.expected_batch}
    if options.parameters is not None:
        ratio = plan.signal_to_noise(options.parameters)
        rows["signal to noise"] = (
            f"{ratio:.3f} at most, for {options.parameters} parameters (below 0.1 little is learnt)"
        )
        report["signal_to_noise"] = ratio
    text = "\n".join(f"{name:17} {value}" for name, value in rows.items())
    verdict = (
        f"a noise multiplier of {plan.noise_multiplier:.4f} keeps {plan.steps} steps within epsilon {plan.epsilon:g}"
    )
    return CommandResult(verdict, True, report, text)
