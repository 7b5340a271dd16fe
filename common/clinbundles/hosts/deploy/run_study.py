"""One study through the Deploy app: checks before the work, results all or none, errors as one line."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clinbundles.data.study_dataset import describe_failure, root_cause
from clinbundles.hosts.deploy.bundle_app import BundleApp
from clinbundles.hosts.deploy.command_line import QUOTING_LIBRARIES
from clinbundles.hosts.deploy.output_folder import OutputFolder
from clinbundles.hosts.hosted_bundle import BundleError, find_bundle


def run_study(
    bundle: str | os.PathLike[str],
    source: Path,
    target: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    series_uid: str | None = None,
    device: str | None = None,
    probability: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Run a bundle on the series of a folder that fits it (all that fit, for an exam), and say where the results are.

    Args:
        bundle: name of an installed bundle, or its folder.
        source: folder with DICOM files, or one file.
        target: folder of the results.
        settings: ids of the bundle's inference config to set.
        model: other weights than the bundle's.
        series_uid: the series to take where several fit.
        device: where the network runs; default CUDA if there is any, else the CPU.
        probability: whether to write the probability map.
        overwrite: whether to replace results of an earlier run.

    Returns:
        The files, relative to ``target``.

    Raises:
        BundleError: bad arguments, bundle or weights.
        SeriesError: no series that can be used.
        OSError: a file that cannot be read or written.
    """
    hosted = find_bundle(bundle)
    hosted.refuse_raw_data("MONAI Deploy hands over DICOM images")
    if probability and hosted.takes_exam:
        raise BundleError(f"bundle {hosted.name} takes an exam and writes its own files: leave out --probability")
    _check_folders(source, target)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with OutputFolder(target, overwrite) as output:
        own = {"writers": True, "output_dir": str(output.staging)} if hosted.takes_exam else {}
        predictor = hosted.predictor(device=device, weights=model, **{**dict(settings or {}), **own})
        app = BundleApp(
            predictor, source, output.staging, settings=settings, series_uid=series_uid, probability=probability
        )
        app.run()
        written = output.commit()
    shown = dict.fromkeys(file.parts[0] + ("/" if len(file.parts) > 1 else "") for file in written)
    print(f"results in {target}: {', '.join(shown)}")
    print(hosted.notice)
    return written


def _check_folders(source: Path, target: Path) -> None:
    if not source.exists():
        raise BundleError(f"the input {source} does not exist: give the folder of a study's DICOM files")
    folder = source.resolve() if source.is_dir() else source.resolve().parent
    if target.resolve().is_relative_to(folder):
        raise BundleError(
            f"the output {target} lies in the input folder: the next run would take the results for series"
        )


def reason(error: BaseException) -> str:
    """An error in one line. What a library says of a header is withheld: it may be about the patient."""
    cause = root_cause(error)
    frames = traceback.extract_tb(cause.__traceback__)
    if isinstance(cause, OSError) and cause.strerror:
        return (
            f"{cause.strerror}: {cause.filename}" if cause.filename else f"{cause.strerror}, while writing the results"
        )
    if frames and any(library in Path(frames[-1].filename).parts for library in QUOTING_LIBRARIES):
        kind = type(cause).__name__
        return f"{kind} in a DICOM header or its pixels (the message is withheld: it may be about the patient)"
    return describe_failure("", "", error).error
