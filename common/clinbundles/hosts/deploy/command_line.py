"""The command line of the Deploy app: one study in, its results out, one clear line when it cannot be done."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue

# What the SDK's packager sets in a container; the command line overrides it.
INPUT_VARIABLE, OUTPUT_VARIABLE, MODEL_VARIABLE = "HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH", "HOLOSCAN_MODEL_PATH"
QUOTING_LIBRARIES = ("pydicom", "highdicom")  # what they say of a header quotes its values, the patient's name too
_GPU_DECODER = "monai.data.nvimgcodec_pydicom_plugin"  # warns at every start without a GPU
_STACK = 32 << 20  # bytes; with less the SDK warns at every start
_DESCRIPTION = """
Apply a bundle to the DICOM series of a folder that fits it, and write DICOM results: label maps as DICOM SEG, images as
a derived series and NIfTI, measurements and class probabilities as DICOM SR; and a record, results.json. A bundle for
exams takes all series of a study that fit, and writes the files that its own command line writes. Any id of the
bundle's inference config can be set, such as --fov_mm 6. Research use only.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 1 not done (the reason stands on the error output)."""
    options, settings = parse(list(sys.argv[1:] if arguments is None else arguments))
    quieten()
    # importing MONAI imports the SDK, which takes seconds and prints: not before the arguments are known to be good
    from clinbundles.hosts.deploy.run_study import reason, root_cause, run_study

    try:
        run_study(
            options.bundle,
            options.input,
            options.output,
            settings,
            model=options.model,
            series_uid=options.series,
            device=options.device,
            probability=options.probability,
            overwrite=options.overwrite,
        )
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 1
    except Exception as error:  # whatever stops a study comes out as one line without values of a header
        if options.traceback:
            traceback.print_tb(root_cause(error).__traceback__)  # where, without what a message may say of the patient
        print(f"error: {reason(error)}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: list[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Options of the app, and settings of the bundle (everything else of the form --name value)."""
    parser = argparse.ArgumentParser("python -m clinbundles.hosts.deploy", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "bundle",
        nargs="?",
        metavar="BUNDLE",
        default=bundle_of_container(os.environ.get(MODEL_VARIABLE)),
        help="name of an installed bundle, or its folder",
    )
    for name, variable, text in (
        ("--input", INPUT_VARIABLE, "folder with the DICOM files of a study, folders below included; or one file"),
        ("--output", OUTPUT_VARIABLE, "folder for the results; it gets all of them or none"),
    ):
        folder = os.environ.get(variable)
        default = None if folder is None else Path(folder)
        parser.add_argument(name, type=Path, metavar="FOLDER", required=default is None, default=default, help=text)
    parser.add_argument("--model", help="other weights: model.pt (state dict) or model.ts (TorchScript of ckpt_export)")
    parser.add_argument("--series", metavar="UID", help="Series Instance UID to take where several series fit")
    parser.add_argument("--probability", action="store_true", help="also write the probability map (4 bytes a voxel)")
    parser.add_argument("--overwrite", action="store_true", help="replace results of an earlier run")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: cuda if there is one")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    options, rest = parser.parse_known_args(arguments)
    if options.bundle is None:
        parser.error("say which bundle: its name or folder")
    return options, _settings(parser, rest)


def _settings(parser: argparse.ArgumentParser, words: list[str]) -> dict[str, Any]:
    """`--name value` or `--name=value`, values read as `python -m monai.bundle run` reads them."""
    settings: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            parser.error(f"did not expect {word!r}; settings look like --name value")
        if not equals:
            value = next(rest, "")
        if not value:
            parser.error(f"the setting {name} has no value")
        settings[name[2:]] = DefaultParseValue(value)
    return settings


def bundle_of_container(folder: str | None) -> str | None:
    """The only bundle in the model folder of a packaged app; None if there is no such folder or not one bundle."""
    if folder is None:
        return None
    found = [path.parent.parent for path in Path(folder).glob("**/configs/metadata.json")]
    return str(found[0]) if len(found) == 1 else None


def quieten() -> None:
    """Keep values of headers and the SDK's noise out of what is printed.

    The SDK's own log quotes every error in full, so it must be asked for by the variable HOLOSCAN_LOG_LEVEL.
    """
    warnings.filterwarnings("ignore")
    for library in QUOTING_LIBRARIES:
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    logging.getLogger(_GPU_DECODER).setLevel(logging.ERROR)
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft != resource.RLIM_INFINITY and soft < _STACK and (hard == resource.RLIM_INFINITY or hard >= _STACK):
        resource.setrlimit(resource.RLIMIT_STACK, (_STACK, hard))
