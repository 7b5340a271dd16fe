"""`python -m clinbundles.privacy`: plan a private training, audit it, and read its statement."""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMMANDS = {
    "plan": "what noise a privacy budget needs, before any data are touched",
    "statement": "read a network's privacy statement and check that it follows from its numbers",
    "audit-step": "repeat the training step with and without one unit: are clipping and noise as planned?",
    "audit-canaries": "one training with canaries: how large is epsilon at least? Best with --epsilon 1",
    "membership": "compare a trained network's losses on training and validation cases with what its epsilon allows",
    "couplings": "find the layer, if any, through which one sample of a batch changes another",
}
OF_BUNDLES = ("audit-step", "audit-canaries", "membership", "couplings")
DESCRIPTION = """\
Differential privacy of a bundle's training. Exit code 0: passed; 1: an audit or a statement failed; 2: wrong input."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code: 0 passed, 1 failed, 2 wrong input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m clinbundles.privacy", description=DESCRIPTION, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if words[:1] == [name]:  # the libraries take seconds to load: only those of the command that is asked for
            module = importlib.import_module(f"clinbundles.privacy.commands.{name.replace('-', '_')}")
            module.add_arguments(command)
            command.add_argument(
                "--output", type=Path, help="write the result as JSON, to a file that is not there yet"
            )
    options, overrides = parser.parse_known_args(words)
    if overrides and options.command not in OF_BUNDLES:
        parser.error(f"unknown arguments: {' '.join(overrides)}")
    from clinbundles.data.atomic_file import write_json

    try:
        if options.output is not None and options.output.exists():
            raise FileExistsError(f"{options.output} is there already: name another file as --output")
        result = module.run(options, overrides) if options.command in OF_BUNDLES else module.run(options)
        if options.output is not None:
            write_json(options.output, _plain(result.report))
    except (ValueError, TypeError, RuntimeError, OSError, KeyError, ImportError) as error:
        print(f"error: {_reason(error)}", file=sys.stderr)
        return 2
    if result.text:
        print(result.text)
    print(result.verdict)
    return 0 if result.passed else 1


def _plain(value: Any) -> Any:
    """JSON content: infinite numbers are null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reason(error: BaseException) -> str:
    """What a component of the config said, where MONAI has wrapped it."""
    while error.__cause__ is not None and str(error).startswith("Failed to"):
        error = error.__cause__
    return str(error)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    sys.exit(main())
