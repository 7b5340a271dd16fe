"""`statement`: read the privacy statement of a network and compute it anew."""

from __future__ import annotations

import argparse
from pathlib import Path

from clinbundles.privacy.accounting.statement import PrivacyStatementError, read_statement
from clinbundles.privacy.commands.command_result import CommandError, CommandResult

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the statement is."""
    parser.add_argument(
        "place", type=Path, metavar="BUNDLE_OR_FILE", help="a bundle's folder, a folder or a .json file"
    )


def run(options: argparse.Namespace) -> CommandResult:
    """Print the statement; a statement that does not hold fails."""
    if not options.place.exists():
        raise CommandError(f"there is no {options.place}: give a bundle's folder or a privacy_statement.json")
    try:
        statement = read_statement(options.place)
    except PrivacyStatementError as error:
        return CommandResult(f"FAILED: {error}", False, {"passed": False, "reason": str(error)})
    holds = f"epsilon = {statement.epsilon:.3f} at delta = {statement.delta:.3g} follows from its numbers"
    verdict = f"passed: {holds}" if statement.is_private else "passed: it says truly that there is no guarantee"
    return CommandResult(verdict, True, {"passed": True, **statement.to_dict()}, statement.text())
